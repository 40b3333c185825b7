"""How a table is written down, found out from the beginning of its file: the same for whole tables and for portions."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rehead.data import records
from rehead.data.columns import (
    LABEL_NAMES,
    MAX_FIELD_CHARACTERS,
    TEXT_NAMES,
    header_of,
    is_name_of_texts,
    require_different,
    require_width,
)
from rehead.data.records import BadRow, Cells, FileHead, Form, Line, lines_of, rows_of_rfc_4180
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# Kinds of files. The first three are read in portions, the others as a whole.
DELIMITED, JSON_LINES, PARQUET = "delimited text", "JSON Lines", "Parquet"
JSON, ARROW, WORKBOOK, PACKED_PARQUET = "JSON", "Arrow", "an Excel workbook", "packed Parquet"
IN_PORTIONS = (DELIMITED, JSON_LINES, PARQUET)

DELIMITERS = "\t,;|"
_CALLED = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar"}
# csv's own limit is low, and one for all threads of the process; ours is checked below, with the row.
_CSV_LIMIT = 2**31 - 1
# Rows that are enough to find the column of the texts.
_SAMPLE = 2000
# A delimiter is looked for in so much of the beginning.
_TRIED_CHARACTERS, _TRIED_LINES = 200_000, 200
# A record whose fields are enclosed in quotation marks where they hold any, a delimiter or a line end.
_FIELD = r'(?:"(?:[^"]|"")*+"|[^"\n\t,;|]*+)'
_RECORD = re.compile(rf"(?:{_FIELD}[\t,;|])*+{_FIELD}(?=\n|\Z)")
# As Markdown and databases draw it below the names of columns; and lines in which these are looked for.
_RULE = re.compile(r"[-:=+]{3,}")
_LINES_ABOVE = 6
# As spreadsheets write it: the delimiter, in a line of its own.
_SEP = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How one file is written down.

    Attributes:
        form: how its lines are read.
        columns: their names; of JSON Lines, the keys that its beginning has.
        header: whether the first row holds them.
        sample: the first rows, without the header: the line, and the cells.
    """

    form: Form
    columns: list[str]
    header: bool
    sample: list[tuple[int, list[Any]]]


def kind_of(head: FileHead) -> str:
    """Return which kind of file it is that begins so."""
    if head.content.startswith(b"PAR1"):
        return PACKED_PARQUET if head.packed else PARQUET
    if head.encoding is None:
        return WORKBOOK if head.content.startswith(b"PK") else ARROW
    text, suffix = head.text.lstrip(), head.path.suffix
    first, _, rest = text.partition("\n")
    if text.startswith("[") and (
        suffix == ".json"
        or re.match(r'\[\s*\{\s*"', text)
        or (head.whole and _parses(json.loads, text))
        or _parses(json.loads, first)
    ):
        return JSON
    if text.startswith("{") and suffix != ".jsonl":
        # One object of many lines, or one that holds a table, rather than being a row.
        if not _parses(json.loads, first):
            if first.strip() == "{" or _parses(json.JSONDecoder().raw_decode, text):
                return JSON
        elif head.whole and not rest.strip() and _holds_table(json.loads(first)):
            return JSON
    # Its first row may be one that cannot be read.
    if text.startswith("{") or (suffix == ".jsonl" and re.search(r"^\s*\{", text, re.MULTILINE)):
        return JSON_LINES
    return DELIMITED


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, RecursionError):
        return False
    return True


def _holds_table(record: dict[str, Any]) -> bool:
    values = list(record.values())
    return bool(values) and (
        all(isinstance(value, dict) for value in values)
        or all(isinstance(value, list) for value in values)
        or isinstance(record.get("data"), list)
        or key_of_rows(record) is not None
    )


def key_of_rows(document: dict[str, Any]) -> str | None:
    """Return the key under which an object holds its rows, if it holds nothing else that could be a row or a column."""
    held = [key for key, value in document.items() if isinstance(value, list)]
    if len(held) != 1 or {*map(type, document[held[0]])} != {dict}:
        return None
    return None if {key.lower() for key in document} & {*TEXT_NAMES, *LABEL_NAMES} else held[0]


def require_kind(head: FileHead, kind: str, first: Path) -> None:
    """Raise DataError where a file is of another kind than the first."""
    if (other := kind_of(head)) != kind:
        raise DataError(f"{head.path} holds {other}, and {first} {kind}; give files of one kind")


def dialect_of(
    head: FileHead, *, unlabelled: bool, names: Collection[str] = (), expected: list[str] | None = None
) -> Dialect:
    """Return how a file with text in it is written down.

    Args:
        unlabelled, names: see `rehead.data.tables.read`.
        expected: the columns of the file before it; a first row of exactly these is a header.

    Raises:
        DataError: it has no row that can be read, or columns of the same name.
    """
    assert head.encoding is not None
    csv.field_size_limit(_CSV_LIMIT)
    if kind_of(head) == JSON_LINES:
        return _of_json_lines(head)
    text, skipped, delimiter = _whole_records(head), 0, None
    if named := _SEP.match(text):
        text, skipped, delimiter = text[named.end() :], 1, named[1]
    if unlabelled and not named and _is_of_texts_alone(text, head, names):
        # In a table of one column, what stands in quotation marks for a comma's sake is enclosed too.
        marks = DELIMITERS if head.path.suffix.lower() in (".csv", ".tsv") else "\t"
        how = records.QUOTED if is_quoted(_with_marks(text, head), records.NO_DELIMITER, marks) else records.LINES
        form = Form(head.encoding, how, records.NO_DELIMITER, skipped=skipped)
        rows = _rows(text, form, head)
        header, columns = is_name_of_texts([row[0] for _, row in rows], head.path, names), ["text"]
    else:
        delimiter = delimiter or delimiter_of(text, head.path, names)
        # What is separated by commas is quoted as soon as there is a mark, and so is what a spreadsheet has written.
        quoted = bool(named) or delimiter == "," or is_quoted(_with_marks(text, head), delimiter)
        form = Form(head.encoding, records.QUOTED if quoted else records.PLAIN, delimiter, skipped=skipped)
        spaced = quoted and re.search(rf'(^|{re.escape(delimiter)}) +"', text, re.MULTILINE)
        if spaced and rows_of_rfc_4180(text, delimiter) is None:
            form = _spaced_if_better(form, text, head)
        rows = _rows(text, form, head)
        cells = [row for _, row in rows]
        require_no_title(rows, head.path, names)
        header = column_names(cells[0]) == expected or header_of(cells, head.path, unlabelled=unlabelled, names=names)
        width = Counter(map(len, cells)).most_common(1)[0][0]
        columns = [f"column {i + 1}" for i in range(width)]
        if not header and len(cells[0]) < width:
            raise DataError(
                f"{head.path} row {rows[0][0]}: {len(cells[0])} fields where most rows have {width}; remove lines "
                "above the table, such as a title or a comment"
            )
    if header:
        columns = column_names(rows[0][1])
        longer = [cells for _, cells in rows[1:] if len(cells) == len(columns) + 1 and not cells[-1].strip()]
        if longer and len(longer) == len(rows) - 1:
            raise DataError(
                f"{head.path} row {rows[1][0]}: every row ends with a delimiter, and the row of names does not; remove "
                "these, or add one to the names"
            )
    require_different(columns, f"{head.path} row {rows[0][0]}")
    sample = [row for row in rows[header:] if len(row[1]) == len(columns)]
    if rows[header:] and not sample:
        number, first_cells = rows[header]
        expects = f"{len(columns)} ({', '.join(columns[:6])})"
        raise DataError(
            f"{head.path} row {number}: {len(first_cells)} fields, expected {expects}, and no other row has as many; "
            'put quotation marks (") around texts that hold the delimiter, or correct the first row'
        )
    return Dialect(form, columns, header, sample[:_SAMPLE])


def require_no_title(rows: list[tuple[int, list[Any]]], path: Path, names: Collection[str]) -> None:
    """Raise DataError where the names of the columns stand below the first row, or a rule below them."""
    first = {cell.strip().lower() for cell in rows[0][1]}
    for (number, cells), (above, _) in zip(rows[1:_LINES_ABOVE], rows, strict=False):
        row = {cell.strip().lower() for cell in cells}
        known = row & {*TEXT_NAMES}, row & {*LABEL_NAMES}
        if all(known) and not first & {*TEXT_NAMES, *LABEL_NAMES, *map(str.lower, names)}:
            raise DataError(
                f"{path} row {number} has the names of the columns; remove the lines above it, such as a title or a "
                "comment"
            )
        if any(row) and all(_RULE.fullmatch(cell) for cell in row if cell):
            raise DataError(f"{path} row {number} is a rule below row {above}; remove that row")


def _is_of_texts_alone(text: str, head: FileHead, names: Collection[str]) -> bool:
    """Return whether there is one column: no delimiter divides the first records evenly, or they are lines of texts."""
    tried = _first_records(text[:_TRIED_CHARACTERS], _TRIED_LINES)
    cuts = [cut for delimiter in DELIMITERS if (cut := _cut(tried, delimiter))]
    looked_for, known = {*map(str.lower, names)}, {*TEXT_NAMES, *LABEL_NAMES}
    for first in ({*map(str.lower, cut.first)} for cut in cuts):
        if first & looked_for or len(first & known) > 1:
            return False
    if not cuts or head.path.suffix == ".txt":
        return True
    if any(cut.even > 1 / 2 for cut in cuts):
        return False
    progress.warn(f"{head.path}: no delimiter divides its lines evenly, so each line is taken for a text")
    return True


class BadWidth(BadRow):
    """A row with more or fewer fields than there are columns."""


def rows_below(lines: Iterator[Line], dialect: Dialect, source: str) -> Iterator[Cells | BadRow]:
    """Yield the rows of a delimited file below its header, all of one width."""
    header, columns = dialect.header, dialect.columns
    for row in records.rows(lines, dialect.form, source):
        if isinstance(row, BadRow):
            yield row
        elif header:
            header = False
        elif dialect.header and len(columns) > 1 and column_names(row[1]) == columns:
            yield BadRow(source, row[0], "the names of the columns once more", dialect.form.delimiter.join(columns))
        elif len(row[1]) == len(columns):
            yield row
        else:
            reason = f"{len(row[1])} fields, expected {len(columns)} ({', '.join(columns[:6])})"
            yield BadWidth(source, row[0], reason, dialect.form.delimiter.join(row[1]))


def column_names(header: list[str]) -> list[str]:
    """Return the names in the first row; a column without one is numbered."""
    return [cell.strip("\ufeff \t\n") or f"column {i + 1}" for i, cell in enumerate(header)]


def _of_json_lines(head: FileHead) -> Dialect:
    assert head.encoding is not None
    form = Form(head.encoding, records.JSON)
    end = len(head.text) if head.whole else head.text.rfind("\n") + 1
    lines = lines_of(io.StringIO(head.text[:end], newline="\n"), records.LONGEST_JSON)
    objects = list(_good(records.objects(lines, str(head.path)), head))
    columns = list(dict.fromkeys(key for _, record in objects for key in record))
    require_width(len(columns), head.path)
    sample = [(number, [record.get(name) for name in columns]) for number, record in objects[:_SAMPLE]]
    return Dialect(form, columns, False, sample)


def _spaced_if_better(form: Form, text: str, head: FileHead) -> Form:
    """Return the form with spaces before quotation marks left out, where more rows have one width then."""

    def agreeing(tried: Form) -> int:
        found = list(_rows_or_bad(text, tried, head))
        widths = Counter(len(row[1]) for row in found if not isinstance(row, BadRow))
        return max(widths.values(), default=0) - sum(isinstance(row, BadRow) for row in found)

    spaced = replace(form, spaced=True)
    return spaced if agreeing(spaced) >= agreeing(form) else form


@dataclass(frozen=True)
class _Cut:
    """What a delimiter makes of the first lines.

    Attributes:
        share: of the lines that have as many fields as the first.
        even: the largest share of the lines that have the same number of fields, two or more.
        prose: share of the fields behind the first that begin with a space.
        repeats: whether the values of some column come up again.
        enclosing: whether quotation marks enclose fields wherever there are any.
    """

    first: list[str]
    share: float
    even: float
    prose: float
    repeats: bool
    enclosing: bool


def delimiter_of(text: str, path: Path, names: Collection[str] = ()) -> str:
    """Return what divides the first lines into fields: a tab, comma, semicolon or bar.

    One that makes a header with the `names` that are looked for is taken. Otherwise it is the one that divides most
    lines into as many fields as the first, is not left inside the header's fields, and does not only stand in prose.

    Raises:
        DataError: there is one column only.
    """
    tried = _first_records(text[:_TRIED_CHARACTERS], _TRIED_LINES)
    cuts = {delimiter: cut for delimiter in DELIMITERS if (cut := _cut(tried, delimiter))}
    if not cuts:
        divided = [any(mark in line for mark in DELIMITERS) for line in tried]
        if sum(divided) > len(tried) / 2:
            later = divided.index(True)
            raise DataError(
                f"{path} row 1 is one field, and row {later + 1} has more; remove the lines above the table, such as a "
                "title or a comment"
            )
        raise DataError(
            f"{path} has one column only, so no label column; "
            "give a file with a text and a label in each row, separated by commas, tabs, semicolons or bars"
        )

    looked_for = {name.lower() for name in names}

    def rank(delimiter: str) -> tuple[bool, float, bool, bool, bool, bool]:
        cut = cuts[delimiter]
        left = any(
            other in field
            and cuts[other].share >= cut.share
            and not any(delimiter in each for each in cuts[other].first)
            for other in cuts
            if other != delimiter
            for field in cut.first
        )
        return (
            bool({name.lower() for name in cut.first} & looked_for),
            round(cut.share, 3),
            not left,
            cut.enclosing,
            cut.prose < 0.8,
            cut.repeats,
        )

    ranked = sorted(cuts, key=rank, reverse=True)
    best = ranked[0]
    for other in ranked[1:]:
        # A name that is looked for settles it; a name of columns with another delimiter in it makes no sense.
        if not rank(best)[0] and rank(other)[1:3] == rank(best)[1:3] and len(tried) > 1:
            progress.warn(
                f"{path}: fields are divided by {_CALLED[best]}; {_CALLED[other]} would divide as many of its rows. "
                "Name a column of the right division with `text_column` if that is wrong"
            )
    return best


def _first_records(text: str, most: int) -> list[str]:
    """Return the first lines that hold anything, and with each those that its enclosed fields go on in."""
    found: list[str] = []
    at = 0
    while at < len(text) and len(found) < most:
        whole = _RECORD.match(text, at)
        record = whole[0] if whole else text[at:].split("\n", 1)[0]
        found += [record] if record.strip() else []
        at += len(record) + 1
    return found


def _cut(tried: list[str], delimiter: str) -> _Cut | None:
    """Divide the first lines; None where the first has one field."""
    divided = [[field.strip() for field in next(csv.reader(io.StringIO(line), delimiter=delimiter))] for line in tried]
    width = len(divided[0])
    if width < 2:
        return None
    even = [fields for fields in divided if len(fields) == width]
    behind = [line[at + 1 : at + 2] for line in tried for at, mark in enumerate(line) if mark == delimiter]
    columns = list(zip(*even, strict=True))
    repeats = any(1 < len(set(column)) <= max(2, len(column) / 2) for column in columns)
    enclosing = all(rows_of_rfc_4180(line, delimiter) is not None for line in tried if '"' in line)
    prose = behind.count(" ") / max(1, len(behind))
    widest = max(count for width, count in Counter(map(len, divided)).items() if width > 1)
    return _Cut(divided[0], len(even) / len(divided), widest / len(divided), prose, repeats, enclosing)


def is_quoted(text: str, delimiter: str, marks: str | None = None) -> bool:
    """Return whether the file follows RFC 4180, where quotation marks enclose fields, or has them as plain text.

    Args:
        marks: what makes a writer enclose a field that holds one of them; the delimiter if None.

    A comma cannot stand in a text without quoting, so a comma-separated file is taken to be quoted. In any
    other file a writer that quotes encloses every field that holds a quotation mark; one bare mark inside
    an unquoted field, or an opening mark that is never closed, shows that this file's marks are text.
    """
    if '"' not in text:
        return False
    if delimiter == ",":
        return True
    rows = rows_of_rfc_4180(text, delimiter)
    if rows is None:
        return False
    enclosed = [cell for row in rows for cell in row if cell.startswith('"')]
    # A writer encloses an empty text that is all of a row, too.
    needing = ('"', "\n", *(marks or delimiter))
    all_need_it = all(cell == '""' or any(mark in cell[1:-1] for mark in needing) for cell in enclosed)
    whole_column = len(enclosed) >= len(rows) - 1  # the header may be bare
    return len({len(row) for row in rows}) == 1 and (all_need_it or whole_column)


def _with_marks(text: str, head: FileHead) -> str:
    """Return the beginning, or where it has no quotation mark, as much from the first line on that has one.

    No record is cut in two by that: without a mark, each line is one.
    """
    if '"' in text or head.whole:
        return text
    assert head.encoding is not None
    found: list[str] = []
    size = 0
    with records.opened(head.path, Form(head.encoding, records.PLAIN)) as (_, lines):
        for line in lines:
            if not line.too_long and (found or '"' in line.text):
                found.append(line.text)
                size += len(line.text)
                if size >= len(text):
                    return _up_to_whole_record("".join(found))
    return "".join(found)


def _up_to_whole_record(text: str) -> str:
    """Return the text up to the end of the last record that is sure to be whole.

    There the number of quotation marks is even, if they enclose fields; where they are text, a line or two more is left
    out. If half of it would be, a mark further up is one too many.
    """
    lines_alone = cut = text[: text.rfind("\n") + 1]
    while cut.count('"') % 2:
        cut = cut[: cut.rfind("\n", 0, cut.rfind('"')) + 1]
    return cut if len(cut) > len(text) // 2 else lines_alone or text


def _whole_records(head: FileHead) -> str:
    """Return the beginning up to the end of a record, without lines that are too long, and with line feeds alone."""
    text = head.text.replace("\r\n", "\n").replace("\r", "\n")
    split = text.split("\n")
    if max(map(len, split)) > MAX_FIELD_CHARACTERS:
        text = "\n".join(line for line in split if len(line) <= MAX_FIELD_CHARACTERS)
    if not head.whole:
        text = _up_to_whole_record(text)
    if not text.strip():
        assert head.encoding is not None
        with records.opened(head.path, Form(head.encoding, records.PLAIN)) as (_, lines):
            first = next(line for line in lines if line.text.strip())
        raise DataError(
            f"{head.path} row {first.number}: {first.problem}; break the file into one example a line, or shorten it"
        )
    return text


def _rows(text: str, form: Form, head: FileHead) -> list[tuple[int, list[Any]]]:
    """Return the rows of a beginning, from which the line that names the delimiter is left out already."""
    return [(number + form.skipped, cells) for number, cells in _good(_rows_or_bad(text, form, head), head)]


def _rows_or_bad(text: str, form: Form, head: FileHead) -> Iterator[Cells | BadRow]:
    lines = lines_of(io.StringIO(text, newline="\n"), MAX_FIELD_CHARACTERS)
    return records.rows(lines, replace(form, skipped=0), str(head.path))


def _good(found: Iterator[Any], head: FileHead) -> Iterator[Any]:
    """Yield the rows that can be read; raise DataError if none can."""
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
