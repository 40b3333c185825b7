"""Reads a table from a file: CSV, TSV and their kin, JSON Lines, Parquet. Gives a `Table` of text cells.

The kind is told from the content, not from the file's name. What stands in the file is what is read: a
quotation mark in a file that does not use quoting is text, and no row is skipped.
"""

import csv
import io
import json
import math
import re
from collections import Counter
from pathlib import Path

from rehead.data.examples import Table
from rehead.runtime import progress
from rehead.runtime.errors import DataError, first_line

# The longest field that can be a text to classify; a longer one is a binary or a file without line breaks.
MAX_FIELD_CHARACTERS = 1_000_000
DELIMITERS = "\t,;|"
# csv's own limit is low, and one for all threads of the process; ours is checked below, with the row.
CSV_LIMIT = 2**31 - 1
# JSON can spell half a character, which no encoding can write.
SURROGATE = re.compile("[\ud800-\udfff]")


def read(path: Path, *, unlabelled: bool = False) -> Table:
    """Reads the table in `path`.

    Args:
        unlabelled: texts alone are enough: a single column is a table, and so is a text on each line.

    Raises:
        DataError: the file is missing, empty, not a table, or malformed (with the row).
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a CSV, TSV, JSON Lines or Parquet file")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if not content.strip():
        raise DataError(f"{path} is empty; give a file with one example a row")
    if content[:4] == b"PAR1":
        return _read_parquet(path)
    text = decode(content, path)
    if not text.strip():
        raise DataError(f"{path} is empty; give a file with one example a row")
    if text.lstrip()[0] == "{":
        return _read_json_lines(text, path)
    if text.lstrip()[0] == "[" and (path.suffix == ".json" or is_json(text)):
        raise DataError(f"{path} holds JSON arrays; write one JSON object a line (JSON Lines) instead")
    return _read_delimited(text, path, unlabelled)


def decode(content: bytes, path: Path) -> str:
    """UTF-8, or UTF-16 where a byte order mark says so, or Windows-1252 as old files have it."""
    for encoding in encodings(content, path):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError as error:
            if is_damaged_utf8(content):
                number = content[: error.start].count(b"\n") + 1
                wrong = f"byte 0x{content[error.start]:02x} is not UTF-8"
                raise DataError(f"{path} row {number}: {wrong}; correct that row") from None
            continue
        if is_text(text):
            if encoding == "cp1252":
                progress.warn(f"{path} is not UTF-8 and is read as Windows-1252")
            return text
    raise DataError(f"{path} is neither UTF-8 nor Windows-1252 text; convert it to UTF-8")


def encodings(content: bytes, path: Path) -> list[str]:
    """The encodings that a file that begins so may have, the likeliest first.

    Raises:
        DataError: it is no text.
    """
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return ["utf-16"]
    if b"\0" in content:
        raise DataError(f"{path} is binary; give a CSV, TSV, JSON Lines or Parquet file")
    return ["utf-8-sig", "cp1252"]


def is_damaged_utf8(content: bytes) -> bool:
    """Whether it is UTF-8 with a few bad bytes, which Windows-1252 would turn into nonsense."""
    replaced = content.decode("utf-8-sig", errors="replace")
    bad = replaced.count("\ufffd")
    return sum(ord(character) > 127 for character in replaced) - bad > bad


def is_text(decoded: str) -> bool:
    """Whether it has hardly any control characters."""
    controls = sum(decoded.count(chr(code)) for code in range(32) if chr(code) not in "\t\n\r\f\v\x1c\x1d\x1e\x1f")
    return controls <= len(decoded) // 200


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        # Through an open file: pyarrow takes a path with a colon in it for an address.
        with path.open("rb") as file:
            table = pyarrow.parquet.read_table(file)
        columns = [[as_text(cell) for cell in column.to_pylist()] for column in table.columns]
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable Parquet file ({first_line(error)}); write it again") from error
    rows = [list(row) for row in zip(*columns, strict=True)]
    if not rows:
        raise DataError(f"{path} has no rows; give a file with one example a row")
    lines = list(range(1, len(rows) + 1))
    _check_cells(rows, lines, table.column_names, path)
    return Table(str(path), list(table.column_names), rows, lines)


def _read_json_lines(text: str, path: Path) -> Table:
    records: list[dict[str, object]] = []
    lines: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} row {number}: not JSON ({first_line(error)}); correct or remove it") from None
        if not isinstance(record, dict):
            raise DataError(f"{path} row {number}: not a JSON object; write one object a line")
        records.append(record)
        lines.append(number)
    columns = list(dict.fromkeys(key for record in records for key in record))
    rows = [[as_text(record.get(name)) for name in columns] for record in records]
    _check_cells(rows, lines, columns, path)
    return Table(str(path), columns, rows, lines)


def _read_delimited(text: str, path: Path, unlabelled: bool) -> Table:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    csv.field_size_limit(CSV_LIMIT)
    longest = max(text.split("\n"), key=len)
    if len(longest) > MAX_FIELD_CHARACTERS:
        number = text[: text.index(longest)].count("\n") + 1
        raise DataError(
            f"{path} row {number}: a line of {len(longest):,} characters, the limit is {MAX_FIELD_CHARACTERS:,}; "
            "break the file into one example a line or shorten the text"
        )
    if unlabelled and holds_lines(text, path):
        return _read_lines(text, path)
    delimiter = delimiter_of(text, path)
    rows, lines = _read_quoted(text, delimiter, path) if is_quoted(text, delimiter) else _read_plain(text, delimiter)
    width = Counter(map(len, rows)).most_common(1)[0][0]
    if has_header(rows, unlabelled):
        columns = column_names(rows[0])
        rows, lines = rows[1:], lines[1:]
        width = len(columns)
    else:
        columns = [f"column {i + 1}" for i in range(width)]
    if not rows:
        raise DataError(f"{path} has a header line and no rows; give one example a row")
    if len(set(columns)) < len(columns):
        twice = next(name for name, count in Counter(columns).items() if count > 1)
        raise DataError(f"{path} row 1: two columns are named {twice!r}; rename one of them")
    for row, number in zip(rows, lines, strict=True):
        if len(row) != width:
            raise DataError(
                f"{path} row {number}: {len(row)} fields, expected {width} ({', '.join(columns[:6])}); "
                "put quotation marks around a text that holds the delimiter or a line break"
            )
        for name, cell in zip(columns, row, strict=True):
            _check_length(cell, path, number, name)
    return Table(str(path), columns, [list(row) for row in rows], lines)


def holds_lines(text: str, path: Path) -> bool:
    """Whether each line is a text, rather than a row with more columns."""
    return path.suffix == ".txt" or not any(mark in text.strip().split("\n")[0] for mark in DELIMITERS)


def are_lines_quoted(text: str, path: Path) -> bool:
    """Whether texts that are the only column are enclosed, where what a writer would enclose is in them."""
    # In a table of one column, what stands in quotation marks for a comma's sake is enclosed too.
    return is_quoted(text, "\t", DELIMITERS if path.suffix.lower() in (".csv", ".tsv") else "\t")


def column_names(header: list[str]) -> list[str]:
    """The names in the first row; a column without one is numbered."""
    return [cell.strip() or f"column {i + 1}" for i, cell in enumerate(header)]


def _read_lines(text: str, path: Path) -> Table:
    """One text a line, or one quoted field a record; a first line that is a text column's name is a header."""
    if are_lines_quoted(text, path):
        rows, lines = _read_quoted(text, "\t", path)
    else:
        # An empty line is a text too, so that the results line up with the file.
        rows = [[line] for line in text.removesuffix("\n").split("\n")]
        lines = list(range(1, len(rows) + 1))
    names = ["text"]
    if rows and rows[0][0].strip().lower() in TEXT_NAMES:
        names, rows, lines = [rows[0][0].strip()], rows[1:], lines[1:]
    if not rows:
        raise DataError(f"{path} has no rows; give one text a line")
    return Table(str(path), names, [[*row] for row in rows], lines)


def delimiter_of(text: str, path: Path) -> str:
    """The one of tab, comma, semicolon and bar that cuts most of the first lines in as many fields as the first."""
    lines = [line for line in text[:200_000].split("\n")[:200] if line.strip()]
    agreeing = {}
    for delimiter in DELIMITERS:
        widths = [len(next(csv.reader([line], delimiter=delimiter))) for line in lines]
        if widths[0] > 1:
            agreeing[delimiter] = widths.count(widths[0])
    if not agreeing:
        raise DataError(
            f"{path} has one column only, so no label column; "
            "give a file with a text and a label in each row, separated by commas or tabs"
        )
    return max(agreeing, key=lambda delimiter: agreeing[delimiter])


def is_quoted(text: str, delimiter: str, marks: str | None = None) -> bool:
    """Whether the file follows RFC 4180, where quotation marks enclose fields, or has them as plain text.

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
    end = re.escape(delimiter)
    field = re.compile(rf'("(?:[^"]|"")*"|[^"{end}\n]*)({end}|\n|\Z)')
    records: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        found = field.match(text, at)
        if found is None:
            return False  # a bare mark, or one that is never closed
        records[-1].append(found[1])
        at = found.end()
        if found[2] == "\n":
            records.append([])
    records = [record for record in records if record not in ([], [""])]
    enclosed = [cell for record in records for cell in record if cell.startswith('"')]
    all_need_it = all(_needs_quoting(cell[1:-1], marks or delimiter) for cell in enclosed)
    whole_column = len(enclosed) >= len(records) - 1  # the header may be bare
    return len({len(record) for record in records}) == 1 and (all_need_it or whole_column)


def _needs_quoting(cell: str, marks: str) -> bool:
    return any(mark in cell for mark in ('"', "\n", *marks))


def _read_quoted(text: str, delimiter: str, path: Path) -> tuple[list[list[str]], list[int]]:
    rows, lines = [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for row in reader:
            if len(row) > 1 or any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path} row {start}: {error}; correct the quoting of that row") from None
    return rows, lines


def _read_plain(text: str, delimiter: str) -> tuple[list[list[str]], list[int]]:
    numbered = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip() or delimiter in line]
    return [line.split(delimiter) for _, line in numbered], [n for n, _ in numbered]


# Names that people give to the two columns; the first that a table has is taken.
TEXT_NAMES = (
    *("text", "message", "sentence", "content", "body", "review", "document", "article", "tweet", "sms"),
    *("utterance", "comment", "question", "description", "title", "v2"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "topic", "intent", "sentiment", "y", "tag"),
    *("stars", "rating", "v1"),
)


def has_header(rows: list[list[str]], unlabelled: bool) -> bool:
    """Whether the first row names the columns: two known names do; a first cell that comes up again is a value.

    A first row with no known name is a header only where labels are expected, which would come up again.
    """
    first = [cell.strip().lower() for cell in rows[0]]
    known = sum(cell in TEXT_NAMES or cell in LABEL_NAMES for cell in first)
    if known >= 2:
        return True
    for position, cell in enumerate(first):
        if any(len(row) > position and row[position].strip().lower() == cell for row in rows[1:]):
            return False
    return known == 1 or (not unlabelled and all(first) and len(set(first)) == len(first))


def infer_columns(table: Table, text_column: str | None, label_column: str | None) -> tuple[str, str]:
    """Says which column holds the texts and which the labels, honouring what the user named.

    Raises:
        DataError: a named column does not exist, or no column looks like labels or texts.
    """
    for option, name in (("text_column", text_column), ("label_column", label_column)):
        if name is not None and name not in table.columns:
            raise DataError(
                f"{table.source} has no column {name!r} (`{option}`); its columns are {', '.join(table.columns)}"
            )
    if text_column is not None and text_column == label_column:
        raise DataError(f"{table.source}: column {text_column!r} cannot be the text and the label; name two columns")
    label = label_column or _by_name(table, LABEL_NAMES, text_column) or _most_repeated(table, text_column)
    if label is None:
        raise DataError(
            f"{table.source}: none of its columns ({', '.join(table.columns)[:200]}) looks like labels, few values "
            "that repeat; name it with `label_column`"
        )
    return infer_text_column(table, text_column, label), label


def text_column_of(table: Table, named: str | None, trained_on: str | None) -> str:
    """The column of the texts to be classified: the one that is named, else the one that the classifier was trained on
    if the table has it, else as `infer_text_column` says.
    """
    return infer_text_column(table, named or (trained_on if trained_on in table.columns else None), None)


def infer_text_column(table: Table, text_column: str | None, label_column: str | None) -> str:
    """Says which column holds the texts: the one named, else by its name, else the one with the longest cells.

    Raises:
        DataError: the named column does not exist, or the labels are the only column.
    """
    if text_column is not None and text_column not in table.columns:
        raise DataError(f"{table.source} has no column {text_column!r}; its columns are {', '.join(table.columns)}")
    others = [name for name in table.columns if name != label_column]
    if not others:
        raise DataError(f"{table.source} has no column beside {label_column!r}; give a file with texts and labels")
    return (
        text_column
        or _by_name(table, TEXT_NAMES, label_column)
        or max(others, key=lambda name: sum(len(cell or "") for cell in table.column(name)))
    )


def _by_name(table: Table, names: tuple[str, ...], taken: str | None) -> str | None:
    columns = {column.lower(): column for column in table.columns if column != taken}
    return next((columns[name] for name in names if name in columns), None)


def _most_repeated(table: Table, taken: str | None) -> str | None:
    """The column with the fewest different values, if these repeat: at most 50, or a value a fifth of the rows."""
    distinct = {name: len({cell for cell in table.column(name) if cell}) for name in table.columns if name != taken}
    candidates = {
        name: count
        for name, count in distinct.items()
        if count >= 1 and count < len(table.rows) and count <= max(50, len(table.rows) / 5)
    }
    return min(candidates, key=lambda name: candidates[name]) if candidates else None


def as_text(cell: object) -> str | None:
    """A value as the text of a cell; None for none, and for what is not a number."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bytes):
        return cell.decode("utf-8", errors="replace")
    if isinstance(cell, list):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def is_json(text: str) -> bool:
    """Whether the text, or its first line, is one JSON value."""
    for candidate in (text, text.strip().split("\n")[0]):
        try:
            json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        return True
    return False


def _check_cells(rows: list[list[str | None]], lines: list[int], columns: list[str], path: Path) -> None:
    for row, number in zip(rows, lines, strict=True):
        for name, cell in zip(columns, row, strict=True):
            _check_length(cell, path, number, name)
            if cell and SURROGATE.search(cell):
                raise DataError(f"{path} row {number}: column {name!r} holds half a surrogate pair; remove it")


def _check_length(cell: str | None, path: Path, number: int, column: str) -> None:
    if cell and len(cell) > MAX_FIELD_CHARACTERS:
        raise DataError(
            f"{path} row {number}: column {column!r} holds {len(cell):,} characters, the limit is "
            f"{MAX_FIELD_CHARACTERS:,}; split or shorten the text"
        )
