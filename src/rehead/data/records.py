"""From lines to rows: delimited fields, quoted or not, a text a line, or a JSON object a line.

A row that is broken is set aside, and reading goes on with the line behind its first.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from rehead.data.cells import as_text
from rehead.data.lines import MAX_FIELD_CHARACTERS, SURROGATE, UNDECODED, Line
from rehead.runtime.errors import first_line

QUOTED, PLAIN, LINES, JSON = "quoted", "plain", "lines", "json"
# A line of JSON may hold several fields, and spell a character in twelve of its own.
LONGEST_JSON = 16 * MAX_FIELD_CHARACTERS
# A row may hold several long fields, too.
_LONGEST_RECORD, _MOST_LINES = 4 * MAX_FIELD_CHARACTERS, 100_000


def _finite(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else str(number)


_CONSTANTS = {"NaN": None, "Infinity": "inf", "-Infinity": "-inf"}
# Made once: json.loads would make one for each line.
_DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.get, parse_float=_finite)
# How JSON spells half a character; two of them in a row may well spell a whole one.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


# So much of a row that cannot be read is kept.
_SHOWN = 2000


class BadRow(NamedTuple):
    """A row that cannot be read, and why.

    Attributes:
        source: the file that it stands in.
        number: the line at which it begins, or which row it is; from 1.
        content: what stands there, or the beginning of it.
    """

    source: str
    number: int
    reason: str
    content: str

    def to_json(self) -> str:
        content = SURROGATE.sub(_as_byte, self.content[:_SHOWN])
        row = {"source": self.source, "row": self.number, "reason": self.reason, "content": content}
        return json.dumps(row, ensure_ascii=False) + "\n"


def _as_byte(undecoded: re.Match[str]) -> str:
    number = ord(undecoded[0]) - UNDECODED
    return f"\\x{number:02x}" if 0 <= number < 256 else "\ufffd"


@dataclass(frozen=True)
class Form:
    """How the lines of a file are to be read.

    Attributes:
        how: QUOTED or PLAIN for delimited fields; LINES for a text a line, JSON for an object a line.
        delimiter: between fields.
        spaced: whether spaces between a delimiter and a field are no part of the field.
        skipped: lines before the first row.
    """

    encoding: str
    how: str
    delimiter: str = ""
    spaced: bool = False
    skipped: int = 0

    @property
    def longest_line(self) -> int:
        """Return how many characters a line may have."""
        return LONGEST_JSON if self.how == JSON else MAX_FIELD_CHARACTERS


# The line at which a row begins, and its cells.
Cells = tuple[int, list[str]]


def rows(lines: Iterator[Line], form: Form, source: str) -> Iterator[Cells | BadRow]:
    """Yield the rows of a delimited file, its header among them, however many cells they have."""
    lines = islice(lines, form.skipped, None)
    if form.how == QUOTED:
        return _quoted(lines, form, source)
    return _plain(lines, None if form.how == LINES else form.delimiter, source)


def objects(lines: Iterator[Line], source: str) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """Yield the objects of JSON Lines. Numbers that JSON does not have are None or text, as in a table of cells."""
    for number, text, problem, _ in lines:
        if not text.strip():
            continue
        record: Any = None
        if problem is None:
            try:
                record = _DECODER.decode(text)
            except (ValueError, RecursionError) as error:
                problem = f"not JSON ({first_line(error)})"
            else:
                problem = _problem_of_object(record, text)
        yield BadRow(source, number, problem, text.removesuffix("\n")) if problem else (number, record)


def _problem_of_object(record: Any, text: str) -> str | None:
    if not isinstance(record, dict):
        return "not a JSON object"
    # What a line holds has hardly more characters than the line.
    if len(text) > MAX_FIELD_CHARACTERS:
        for name, value in record.items():
            if problem := problem_of_length(name, len(as_text(value) or "")):
                return problem
    if _HALF.search(text) and SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        return "half a surrogate pair"
    return None


def problem_of_length(name: str, length: int) -> str | None:
    """Return what is wrong with a cell of that many characters."""
    if length <= MAX_FIELD_CHARACTERS:
        return None
    return f"column {name!r} holds {length:,} characters, the limit is {MAX_FIELD_CHARACTERS:,}"


def _plain(lines: Iterator[Line], delimiter: str | None, source: str) -> Iterator[Cells | BadRow]:
    """Yield rows that are lines; where there is no delimiter, an empty line is a text, too."""
    for number, text, problem, _ in lines:
        content = text.removesuffix("\n")
        if problem is not None:
            yield BadRow(source, number, problem, content)
        elif delimiter is None:
            yield number, [content]
        elif delimiter in content:
            yield number, content.split(delimiter)
        elif content.strip():
            yield number, [content]


class _BrokenError(Exception):
    """A record that does not end as it should."""


def _quoted(lines: Iterator[Line], form: Form, source: str) -> Iterator[Cells | BadRow]:
    """Yield rows whose fields may be enclosed in quotation marks, and then hold line ends.

    A mark that is never closed would swallow what follows. So only the first line of a broken row is set aside, and the
    lines behind it are read again; of these, one with a mark inside a field that is not enclosed may be the rest of the
    broken row and is set aside, too, until a row is found that is whole.
    """
    delimiter, spaced = form.delimiter, form.spaced
    again: deque[Line] = deque()
    after_broken = False
    while line := again.popleft() if again else next(lines, None):
        if '"' not in line.text and line.problem is None:
            content = line.text.removesuffix("\n")
            if delimiter in content or content.strip():
                cells = content.split(delimiter)
                yield line.number, [cell.lstrip(" ") for cell in cells] if spaced else cells
                after_broken = False
            continue
        read = [line]
        try:
            cells = _record(read, again, lines, form)
            if after_broken and _has_bare_mark(read, delimiter):
                raise _BrokenError("what may be the rest of a row with a quotation mark too many")
        except (csv.Error, _BrokenError) as error:
            again.extendleft(reversed(read[1:]))
            yield BadRow(source, line.number, str(error), line.text.removesuffix("\n"))
            after_broken = True
            continue
        lengths = (problem_of_length(f"column {i + 1}", len(cell)) for i, cell in enumerate(cells))
        if problem := next(filter(None, (*(each.problem for each in read), *lengths)), None):
            content = "".join(each.text for each in read).removesuffix("\n")
            yield BadRow(source, line.number, problem, content)
        elif len(cells) > 1 or any(cell.strip() for cell in cells):
            yield line.number, cells
        after_broken = False


def _record(read: list[Line], again: deque[Line], lines: Iterator[Line], form: Form) -> list[str]:
    """Return the fields of the record that begins with the line in `read`; the others that it takes are added to it."""

    def coming() -> Iterator[str]:
        characters = 0
        yield _whole(read[0])
        while line := again.popleft() if again else next(lines, None):
            read.append(line)
            characters += len(line.text)
            if characters > _LONGEST_RECORD or len(read) > _MOST_LINES:
                raise _BrokenError("a quotation mark that is never closed, or fields that are too long")
            yield _whole(line)

    reader = csv.reader(coming(), delimiter=form.delimiter, skipinitialspace=form.spaced, strict=True)
    return next(reader)


def _whole(line: Line) -> str:
    if line.too_long:
        raise _BrokenError(str(line.problem))
    return line.text


def _has_bare_mark(read: list[Line], delimiter: str) -> bool:
    """Return whether a field that is not enclosed holds a quotation mark."""
    text = "".join(line.text for line in read).removesuffix("\n")
    end = re.escape(delimiter)
    return re.fullmatch(rf'(?:("(?:[^"]|"")*"|[^"{end}\n]*)(?:{end}|\Z))+', text) is None
