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
from typing import Any

from rehead.batch.lines import Line
from rehead.batch.portions import BadRow
from rehead.data import tables
from rehead.runtime.errors import first_line

QUOTED, PLAIN, LINES, JSON = "quoted", "plain", "lines", "json"
# A line of JSON may hold several fields, and spell a character in twelve of its own.
LONGEST_JSON = 16 * tables.MAX_FIELD_CHARACTERS
# A row may hold several long fields, too.
_LONGEST_RECORD, _MOST_LINES = 4 * tables.MAX_FIELD_CHARACTERS, 100_000


def _finite(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else str(number)


_CONSTANTS = {"NaN": None, "Infinity": "inf", "-Infinity": "-inf"}
# Made once: json.loads would make one for each line.
_DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.get, parse_float=_finite)
# How JSON spells half a character; two of them in a row may well spell a whole one.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Form:
    """What the lines of a file are.

    Attributes:
        how: QUOTED or PLAIN for delimited fields; LINES for a text a line, JSON for an object a line.
        delimiter: between fields.
    """

    encoding: str
    how: str
    delimiter: str = ""

    @property
    def longest_line(self) -> int:
        """In characters."""
        return LONGEST_JSON if self.how == JSON else tables.MAX_FIELD_CHARACTERS


# The line at which a row begins, and its cells.
Cells = tuple[int, list[str]]


def rows(lines: Iterator[Line], form: Form, source: str) -> Iterator[Cells | BadRow]:
    """The rows of a delimited file, its header among them, however many cells they have."""
    if form.how == QUOTED:
        return _quoted(lines, form.delimiter, source)
    return _plain(lines, None if form.how == LINES else form.delimiter, source)


def objects(lines: Iterator[Line], source: str) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """The objects of JSON Lines. Numbers that JSON does not have are None or text, as in a table of cells."""
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
    if len(text) > tables.MAX_FIELD_CHARACTERS:
        for name, value in record.items():
            if problem := problem_of_length(name, len(tables.as_text(value) or "")):
                return problem
    if _HALF.search(text) and tables.SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        return "half a surrogate pair"
    return None


def problem_of_length(name: str, length: int) -> str | None:
    """What is wrong with a cell of so many characters."""
    if length <= tables.MAX_FIELD_CHARACTERS:
        return None
    return f"column {name!r} holds {length:,} characters, the limit is {tables.MAX_FIELD_CHARACTERS:,}"


def _plain(lines: Iterator[Line], delimiter: str | None, source: str) -> Iterator[Cells | BadRow]:
    """Rows that are lines; where there is no delimiter, an empty line is a text, too."""
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


def _quoted(lines: Iterator[Line], delimiter: str, source: str) -> Iterator[Cells | BadRow]:
    """Rows whose fields may be enclosed in quotation marks, and then hold line ends.

    A mark that is never closed would swallow what follows. So only the first line of a broken row is set aside, and the
    lines behind it are read again; of these, one with a mark inside a field that is not enclosed may be the rest of the
    broken row and is set aside, too, until a row is found that is whole.
    """
    again: deque[Line] = deque()
    after_broken = False
    while line := again.popleft() if again else next(lines, None):
        if '"' not in line.text and line.problem is None:
            content = line.text.removesuffix("\n")
            if delimiter in content or content.strip():
                yield line.number, content.split(delimiter)
                after_broken = False
            continue
        read = [line]
        try:
            cells = _record(read, again, lines, delimiter)
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


def _record(read: list[Line], again: deque[Line], lines: Iterator[Line], delimiter: str) -> list[str]:
    """The fields of the record that begins with the line in `read`, to which the others that it takes are added."""

    def coming() -> Iterator[str]:
        characters = 0
        yield _whole(read[0])
        while line := again.popleft() if again else next(lines, None):
            read.append(line)
            characters += len(line.text)
            if characters > _LONGEST_RECORD or len(read) > _MOST_LINES:
                raise _BrokenError("a quotation mark that is never closed, or fields that are too long")
            yield _whole(line)

    return next(csv.reader(coming(), delimiter=delimiter, strict=True))


def _whole(line: Line) -> str:
    if line.too_long:
        raise _BrokenError(str(line.problem))
    return line.text


def _has_bare_mark(read: list[Line], delimiter: str) -> bool:
    """Whether a field that is not enclosed holds a quotation mark."""
    text = "".join(line.text for line in read).removesuffix("\n")
    end = re.escape(delimiter)
    return re.fullmatch(rf'(?:("(?:[^"]|"")*"|[^"{end}\n]*)(?:{end}|\Z))+', text) is None
