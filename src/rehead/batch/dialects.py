"""How the rows of a text file are written down, told from its beginning with the functions that read whole tables."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehead.batch import records
from rehead.batch.lines import KEPT, Head, lines_of
from rehead.batch.portions import BadRow, rows_at_once
from rehead.data import tables
from rehead.runtime.errors import DataError

DELIMITED, JSON_LINES, PARQUET = "delimited text", "JSON Lines", "Parquet"
# So many rows are enough to tell which column holds the texts.
_SAMPLE = 2000


@dataclass(frozen=True)
class Dialect:
    """How one file is written down.

    Attributes:
        form: what its lines are.
        columns: their names; of JSON Lines, the keys that its beginning has.
        header: whether the first row holds them.
        sample: the first rows, without the header: the line, and the cells.
    """

    form: records.Form
    columns: list[str]
    header: bool
    sample: list[tuple[int, list[Any]]]


def kind_of(head: Head) -> str:
    """Whether a file holds delimited text, JSON Lines or Parquet.

    Raises:
        DataError: it holds JSON of another form.
    """
    if head.is_parquet:
        return PARQUET
    begins = head.text.lstrip()[:1]
    # Its first row may be one that cannot be read.
    if begins == "{" or (head.path.suffix == ".jsonl" and re.search(r"^\s*\{", head.text, re.MULTILINE)):
        return JSON_LINES
    if begins == "[" and (head.path.suffix == ".json" or tables.is_json(head.text)):
        raise DataError(f"{head.path} holds JSON arrays; write one JSON object a line (JSON Lines) instead")
    return DELIMITED


def require_kind(head: Head, kind: str, first: Path) -> None:
    """Raises DataError where a file is of another kind than the first."""
    if (other := kind_of(head)) != kind:
        raise DataError(f"{head.path} holds {other}, and {first} {kind}; give files of one kind")


def dialect_of(head: Head, expected: list[str] | None = None) -> Dialect:
    """How a file with text in it is written down.

    Args:
        expected: a first row of these names is a header.

    Raises:
        DataError: it has one row, or no row that can be read, or columns of the same name.
    """
    assert head.encoding is not None
    if kind_of(head) == JSON_LINES:
        form = records.Form(head.encoding, records.JSON)
        objects = list(_good(records.objects(lines_of(_as_file(head), records.LONGEST_JSON), str(head.path)), head))
        columns = list(dict.fromkeys(key for _, record in objects for key in record))
        tables.require_width(len(columns), head.path)
        first = objects[: rows_at_once(_SAMPLE, len(columns))]
        sample = [(number, [record.get(name) for name in columns]) for number, record in first]
        return Dialect(form, columns, False, sample)
    text = _whole_records(head)
    csv.field_size_limit(tables.CSV_LIMIT)
    if tables.holds_lines(text, head.path):
        how = records.QUOTED if tables.are_lines_quoted(_with_marks(text, head), head.path) else records.LINES
        form = records.Form(head.encoding, how, "\t")
        rows = _rows(text, form, head)
        header = rows[0][1][0].strip().lower() in tables.TEXT_NAMES
        columns = [rows[0][1][0].strip()] if header else ["text"]
    else:
        delimiter = tables.delimiter_of(text, head.path)
        # What is separated by commas is quoted as soon as there is a mark.
        quoted = delimiter == "," or tables.is_quoted(_with_marks(text, head), delimiter)
        how = records.QUOTED if quoted else records.PLAIN
        form = records.Form(head.encoding, how, delimiter)
        rows = _rows(text, form, head)
        named = tables.column_names(rows[0][1]) == expected
        header = named or tables.has_header([cells for _, cells in rows], unlabelled=True)
        width = Counter(len(cells) for _, cells in rows).most_common(1)[0][0]
        columns = tables.column_names(rows[0][1]) if header else [f"column {i + 1}" for i in range(width)]
    tables.require_width(len(columns), head.path)
    if len(set(columns)) < len(columns):
        twice = next(name for name, count in Counter(columns).items() if count > 1)
        raise DataError(f"{head.path} row 1: two columns are named {twice!r}; rename one of them")
    sample = [row for row in rows[header:] if len(row[1]) == len(columns)]
    if rows[header:] and not sample:
        number, cells = rows[header]
        wanted = f"{len(columns)} ({', '.join(columns[:6])})"
        raise DataError(
            f"{head.path} row {number}: {len(cells)} fields, expected {wanted}, and no other row has as many; "
            "correct the first row"
        )
    return Dialect(form, columns, header, sample[: rows_at_once(_SAMPLE, len(columns))])


def _as_file(head: Head) -> io.StringIO:
    """The whole lines of a beginning."""
    end = len(head.text) if head.whole else head.text.rfind("\n") + 1
    return io.StringIO(head.text[:end], newline="\n")


def _with_marks(text: str, head: Head) -> str:
    """The beginning, or where it has no quotation mark, as much from the first line on that has one.

    No record is cut in two by that: without a mark, each line is one.
    """
    if '"' in text or head.whole:
        return text
    found: list[str] = []
    size = 0
    with head.path.open(encoding=head.encoding, errors=KEPT) as file:
        for line in lines_of(file, tables.MAX_FIELD_CHARACTERS):
            if not line.too_long and (found or '"' in line.text):
                found.append(line.text)
                size += len(line.text)
                if size >= len(text):
                    return _up_to_whole_record("".join(found))
    return "".join(found)


def _up_to_whole_record(text: str) -> str:
    """Up to the end of the last record that is sure to be whole.

    There the number of quotation marks is even, if they enclose fields; where they are text, a line or two more is left
    out. If half of it would be, a mark further up is one too many.
    """
    lines_alone = cut = text[: text.rfind("\n") + 1]
    while cut.count('"') % 2:
        cut = cut[: cut.rfind("\n", 0, cut.rfind('"')) + 1]
    return cut if len(cut) > len(text) // 2 else lines_alone or text


def _whole_records(head: Head) -> str:
    """The beginning up to the end of a record, without lines that are too long, and with line feeds alone."""
    text = head.text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    too_long = max(map(len, lines)) > tables.MAX_FIELD_CHARACTERS
    if too_long:
        text = "\n".join(line for line in lines if len(line) <= tables.MAX_FIELD_CHARACTERS)
    if not head.whole:
        text = _up_to_whole_record(text)
    if not text.strip():
        number = 1 + next(i for i, line in enumerate(lines) if line.strip())
        raise DataError(
            f"{head.path} row {number}: a line of more than {tables.MAX_FIELD_CHARACTERS:,} characters; break the file "
            "into one example a line or shorten the text"
        )
    return text


def _rows(text: str, form: records.Form, head: Head) -> list[tuple[int, list[Any]]]:
    lines = lines_of(io.StringIO(text, newline="\n"), tables.MAX_FIELD_CHARACTERS)
    return list(_good(records.rows(lines, form, str(head.path)), head))


def _good(found: Iterator[Any], head: Head) -> Iterator[Any]:
    """Those that can be read; an error if none can."""
    bad: BadRow | None = None
    any_good = False
    for row in found:
        if isinstance(row, BadRow):
            bad = bad or row
        else:
            any_good = True
            yield row
    if bad and not any_good:
        raise DataError(f"{head.path} row {bad.number}: {bad.reason}, and no other row there can be read; correct it")
