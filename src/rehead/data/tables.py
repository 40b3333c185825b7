"""Tables in files: CSV, TSV and their kin, JSON, JSON Lines, Parquet, Arrow, Excel workbooks, saved data sets.

The kind is found out from the content, not from the file's name. What stands in the file is what is read: a quotation
mark in a file that does not use quoting is text, and no row is skipped. Predictions are written to the plainer kinds.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rehead.data import dialects, records
from rehead.data.columns import (
    LABEL_NAMES,
    SURROGATE,
    TEXT_NAMES,
    Table,
    as_text,
    header_of,
    is_utf8,
    require_different,
    require_width,
    with_names,
)
from rehead.data.dialects import ARROW, DELIMITED, JSON, JSON_LINES, PARQUET, WORKBOOK, Dialect, column_names
from rehead.data.records import BadRow, FileHead
from rehead.runtime import files, progress
from rehead.runtime.errors import DataError, first_line

if TYPE_CHECKING:
    import pyarrow

# What the names of files with tables end with; and those that tables are written to.
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".json", ".gz", ".bz2", ".xz", ".xlsx", ".arrow", ".feather")
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
# What pictures and hashes hold in most places, and texts in whatever encoding do not.
_NO_TEXT = re.compile(rb"[\0-\x08\x0e-\x1f]")
# Bytes of a file that is read as a whole, unpacked, and of what becomes of it in memory; and cells of its table.
MAX_BYTES, MAX_CELLS = 2 * 2**30, 50_000_000
# Bytes that are read together.
_PIECE = 16 * 2**20
# Sheets of a workbook that are named.
_NAMED = 5
# Rows of an Arrow table that are looked at together.
_ROWS_AT_A_TIME = 512


def is_named_as_table(name: str) -> bool:
    """Return whether it can only be meant as the name of a table's file: it has such an ending, and no spaces."""
    return name.lower().endswith(ENDINGS) and not any(character.isspace() for character in name)


def read(path: Path, *, unlabelled: bool = False, names: Collection[str] = ()) -> Table:
    """Read the table in `path`.

    Args:
        unlabelled: texts alone are enough: a single column is a table, and so is a text on each line.
        names: of columns that are looked for; a first row with one of them is a header.

    Raises:
        DataError: the file is missing, empty, not a table, too large, or malformed (with the row).
    """
    if path.is_dir() and is_saved_data_set(path):
        return _read_saved_data_set(path)
    head = records.read_head(path)
    if head.is_empty:
        raise DataError(f"{path} is empty; give a file with one example a row")
    kind = dialects.kind_of(head)
    if kind not in (DELIMITED, JSON_LINES):
        return _read_document(path, kind, unlabelled, names)
    dialect = dialects.dialect_of(head, unlabelled=unlabelled, names=names)
    return _read_objects(head, dialect) if kind == JSON_LINES else _read_rows(head, dialect)


def _read_objects(head: FileHead, dialect: Dialect) -> Table:
    numbers, objects = [], []
    with records.opened(head.path, dialect.form) as (_, lines):
        for found in records.objects(lines, str(head.path)):
            if isinstance(found, BadRow):
                raise DataError(f"{head.path} row {found.number}: {found.reason}; correct or remove it")
            numbers.append(found[0])
            objects.append(found[1])
    require_width(len({key for record in objects for key in record}), head.path)
    return _of_objects(objects, numbers, head.path)


def _of_objects(objects: list[dict[str, Any]], numbers: list[int], path: Path) -> Table:
    columns = list(dict.fromkeys(key for record in objects for key in record))
    rows = [[as_text(record.get(name)) for name in columns] for record in objects]
    return Table(str(path), columns, rows, numbers)


def _read_rows(head: FileHead, dialect: Dialect) -> Table:
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    with records.opened(head.path, dialect.form) as (_, lines):
        for found in dialects.rows_below(lines, dialect, str(head.path)):
            if isinstance(found, BadRow):
                quote = "put quotation marks around a text that holds the delimiter or a line break"
                cure = quote if isinstance(found, dialects.BadWidth) else "correct that row"
                cure = 'write "" for a quotation mark in a text' if '\\"' in found.content else cure
                raise DataError(f"{head.path} row {found.number}: {found.reason}; {cure}")
            numbers.append(found[0])
            rows.append([*found[1]])
    if not rows:
        raise DataError(f"{head.path} has a header line and no rows; give one example a row")
    return Table(str(head.path), dialect.columns, rows, numbers, dialect.header)


# Files that are read as a whole: their sizes are bounded before anything is made of them


def _read_document(path: Path, kind: str, unlabelled: bool = False, names: Collection[str] = ()) -> Table:
    """Read a file of a kind that is not read line by line."""
    if kind == JSON:
        table = _read_json(path)
    elif kind == WORKBOOK:
        table = _read_workbook(path, unlabelled, names)
    else:
        table = _read_arrow(path, kind)
    if not table.rows or not table.columns:
        raise DataError(f"{path} has no rows; give a file with one example a row")
    for row, number in zip(table.rows, table.lines, strict=True):
        for name, cell in zip(table.columns, row, strict=True):
            if cell and (problem := records.problem_of_length(name, len(cell))):
                raise DataError(f"{path} row {number}: {problem}; split or shorten the text")
            if cell and not cell.isascii() and SURROGATE.search(cell):
                raise DataError(f"{path} row {number}: column {name!r} holds half a surrogate pair; remove it")
    return table


def _content(path: Path) -> bytes:
    """Return all of a file's bytes, unpacked."""
    pieces: list[bytes] = []
    left = MAX_BYTES
    with records.unpacked(path) as (_, file):
        # A read of all that is allowed would take as much memory, however small the file.
        while piece := file.read(_PIECE):
            pieces.append(piece)
            if (left := left - len(piece)) < 0:
                limit = f"{MAX_BYTES / 2**30:.0f} GiB"
                raise DataError(f"{path} has more than {limit}; write it as JSON Lines, CSV or Parquet")
    return b"".join(pieces)


def _require_cells(n: int, path: Path) -> None:
    """Raise DataError where a table would have too many cells."""
    if n > MAX_CELLS:
        raise DataError(f"{path} holds {n:,} cells or more, the limit is {MAX_CELLS:,}; leave rows or columns out")


# Parquet and Arrow


def _read_arrow(path: Path, kind: str) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        if kind == ARROW:
            content = _content(path)
            if content.startswith(b"ARROW1"):
                whole = pyarrow.ipc.open_file(pyarrow.BufferReader(content))
                return _of_batches(whole.schema, map(whole.get_batch, range(whole.num_record_batches)), path)
            stream = pyarrow.ipc.open_stream(pyarrow.BufferReader(content))
            return _of_batches(stream.schema, stream, path)
        # Through an open file: pyarrow takes a path with a colon in it for an address.
        with path.open("rb") if kind == PARQUET else io.BytesIO(_content(path)) as file:
            opened = pyarrow.parquet.ParquetFile(file)
            _require_cells(opened.metadata.num_rows * max(1, opened.metadata.num_columns), path)
            return _of_batches(opened.schema_arrow, opened.iter_batches(batch_size=_ROWS_AT_A_TIME), path)
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        what = ARROW if kind == ARROW else "Parquet"
        raise DataError(f"{path} is not a readable {what} file ({first_line(error)}); write it again") from error


def _of_batches(schema: pyarrow.Schema, batches: Iterable[pyarrow.RecordBatch], path: Path) -> Table:
    """Make a table of batches; ids of classes become their names."""
    rows: list[list[str | None]] = []
    columns, names = list(schema.names), named_classes(schema.metadata)
    require_different(columns, str(path))
    size = 0
    for batch in batches:
        size += batch.nbytes
        if size > MAX_BYTES or (len(rows) + batch.num_rows) * len(columns) > MAX_CELLS:
            limit = f"{MAX_BYTES / 2**30:.0f} GiB or {MAX_CELLS:,} cells"
            raise DataError(f"{path} unpacks to more than {limit}; leave rows or columns out")
        batch.validate(full=True)
        for name, column in zip(columns, batch.columns, strict=True):
            wrong = undecodable(column)
            if wrong and (2 * len(wrong) < len(column) or not any(_NO_TEXT.search(column[i].as_py()) for i in wrong)):
                row = len(rows) + 1 + wrong[0]
                raise DataError(f"{path} row {row}: column {name!r} is not UTF-8 there; write its texts as UTF-8")
        cells = [as_texts(column, names.get(name)) for name, column in zip(columns, batch.columns, strict=True)]
        rows += map(list, zip(*cells, strict=True))
    return Table(str(path), columns, rows, list(range(1, len(rows) + 1)))


def undecodable(column: Any) -> list[int]:
    """Return the rows of an Arrow column of bytes that are not UTF-8; none of any other column."""
    import pyarrow

    types = pyarrow.types
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if not any(is_of(kind) for is_of in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)):
        return []
    return [row for row, cell in enumerate(column.to_pylist()) if cell is not None and not is_utf8(cell)]


def named_classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of the classes of each column, as the datasets library keeps them in a schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    found = {column: _names_in(feature) for column, feature in features}
    return {column: names for column, names in found.items() if names}


def _names_in(feature: Any) -> list[str]:
    """Return the names of a feature's classes, or of those in its lists; none of any other."""
    if isinstance(feature, list):
        return _names_in(feature[0]) if feature else []
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature.get("names") or []]
    return _names_in(feature.get("feature"))


def as_texts(column: Any, names: list[str] | None) -> list[str | None]:
    """Return the cells of an Arrow column as text; ids of classes with these names become the names."""
    import pyarrow

    cells = column.to_pylist()
    short = {pyarrow.float32(): np.float32, pyarrow.float16(): np.float16}.get(column.type)
    if short:  # as short as they were written
        cells = [cell if cell is None else short(cell) for cell in cells]
    return [as_text(cell if names is None else with_names(cell, names)) for cell in cells]


# Folders that the datasets library of Hugging Face writes with save_to_disk

_PARTS_FILE, _STATE_FILE = "dataset_dict.json", "state.json"


def is_saved_data_set(folder: Path) -> bool:
    """Return whether a folder holds one saved data set, rather than a dictionary of them."""
    return (folder / _STATE_FILE).is_file()


def saved_parts(folder: Path) -> list[str]:
    """Return the names of the data sets in a saved dictionary of them; none if it is no such folder."""
    try:
        parts = json.loads((folder / _PARTS_FILE).read_text(encoding="utf-8"))["splits"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [part for part in map(str, parts) if "/" not in part and is_saved_data_set(folder / part)]


def _read_saved_data_set(folder: Path) -> Table:
    """Read the Arrow files that a saved data set names.

    Raises:
        DataError: it is damaged or too large.
    """
    try:
        listed = json.loads((folder / _STATE_FILE).read_text(encoding="utf-8"))["_data_files"]
        paths = [folder / Path(file["filename"]).name for file in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} is a saved data set whose {_STATE_FILE} cannot be read; save it again") from error
    tables = [_read_document(path, ARROW) for path in paths]
    if not tables:
        raise DataError(f"{folder} has no rows; give a data set with one example a row")
    rows = [row for table in tables for row in table.rows]
    return Table(str(folder), tables[0].columns, rows, list(range(1, len(rows) + 1)))


# JSON

_SHAPES = "write it as JSON Lines, one object a line, such as pandas' to_json(orient='records', lines=True)"


def _read_json(path: Path) -> Table:
    """Read an array of objects, objects one behind the other, or one of the shapes that pandas writes."""
    text = records.decode(_content(path), path).lstrip()
    values: list[Any] = []
    lines, at, line = [], 0, 1
    while at < len(text):
        try:
            value, end = records.DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            line = records.row_of_problem(text) if text.startswith("[") and not values else line
            raise DataError(f"{path} row {line}: {records.problem_of_json(error)}; correct it") from None
        values.append(value)
        lines.append(line)
        following = len(text) - len(text[end:].lstrip(" \t\r\n"))
        line += text.count("\n", at, following)
        at = following
    found = _records_of(values[0], path) if len(values) == 1 else values
    if len(values) == 1 or len(set(lines)) < len(lines):  # they share lines, and are numbered themselves
        lines = list(range(1, len(found) + 1))
    for number, record in zip(lines, found, strict=True):
        if not isinstance(record, dict):
            raise DataError(f"{path} row {number}: not a JSON object but {as_text(record)!s:.40}; {_SHAPES}")
    _require_cells(len({key for record in found for key in record}) * len(found), path)
    return _of_objects(found, lines, path)


def _records_of(document: Any, path: Path) -> list[Any]:
    """Return the rows of a document as objects, whichever shape it has."""
    if isinstance(document, list):
        return document
    columns, data = document.get("columns"), document.get("data")
    if isinstance(columns, list) and isinstance(data, list):  # orient="split"
        names = [str(name) for name in columns]
        for number, row in enumerate(data, start=1):
            if not isinstance(row, list) or len(row) != len(names):
                raise DataError(f"{path} row {number}: not {len(names)} values ({', '.join(names)}); correct it")
        return [dict(zip(names, row, strict=True)) for row in data]
    values = list(document.values())
    if isinstance(document.get("schema"), dict) and isinstance(data, list):  # orient="table"
        return [{key: value for key, value in row.items() if key != "index"} for row in data if isinstance(row, dict)]
    if (key := dialects.key_of_rows(document)) is not None:
        return list(document[key])
    if values and all(isinstance(value, list) for value in values):  # DataFrame.to_dict("list")
        if len(set(map(len, values))) > 1:
            raise DataError(f"{path}: its columns {', '.join(document)} have different lengths; {_SHAPES}")
        return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) for value in values):
        if _is_by_row(document):
            return values
        rows = dict.fromkeys(key for column in values for key in column)
        _require_cells(len(rows) * len(document), path)
        return [{name: column.get(row) for name, column in document.items()} for row in rows]
    if values and not any(isinstance(value, dict | list) for value in values):
        return [document]
    keys = ", ".join(map(str, document))
    raise DataError(f"{path} is one JSON object with {keys[:100]}, not a table; {_SHAPES}")


def _is_by_row(document: dict[str, dict[str, Any]]) -> bool:
    """Return whether the keys of an object of objects are those of rows (orient="index"), and not names of columns."""
    known = {*TEXT_NAMES, *LABEL_NAMES}
    outer, inner = list(document), list(next(iter(document.values())))
    if any(key.lower() in known for key in outer) or all(key.isdigit() for key in inner):
        return False
    return any(key.lower() in known for key in inner) or all(key.isdigit() for key in outer) or len(outer) > len(inner)


# Excel


def _read_workbook(path: Path, unlabelled: bool, names: Collection[str]) -> Table:
    """Read the first sheet of a workbook that holds a table."""
    try:
        import openpyxl
    except ImportError:
        cure = "pip install 'rehead[excel]' to read it, or save it as CSV"
        raise DataError(f"{path} is an Excel workbook; {cure}") from None
    content = io.BytesIO(_content(path))
    try:
        with zipfile.ZipFile(content) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                raise DataError(f"{path} unpacks to more than {MAX_BYTES / 2**30:.0f} GiB; save it as CSV")
            if "xl/workbook.xml" not in archive.namelist():
                is_office = {"[Content_Types].xml", "mimetype"} & {*archive.namelist()}
                what = "an office document and no Excel workbook" if is_office else "an archive in an archive"
                raise DataError(f"{path} is {what}; save the table as CSV")
        book = openpyxl.load_workbook(content, read_only=True, data_only=True)
        visible = sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != "visible")
        found = {sheet.title: _rows_of(sheet, path) for sheet in visible}
        sheets = {title: rows for title, (rows, _) in found.items() if rows}
        # A sheet of one row is a note.
        title = next((title for title, rows in sheets.items() if len(rows) > 1), next(iter(sheets), ""))
        if title and (empty := found[title][1]):
            _require_results(openpyxl.load_workbook(content, read_only=True)[title], empty, path)
        if title:
            with zipfile.ZipFile(content) as archive:
                _fill_merged(sheets[title], archive.read(book[title]._worksheet_path), path)
        book.close()
    except DataError:
        raise
    except Exception as error:  # openpyxl raises whatever its parsers do
        raise DataError(f"{path} is not a readable workbook ({first_line(error)}); save it again or as CSV") from error
    if not sheets:
        return Table(str(path), [], [], [])
    rows = sheets[title]
    if len(sheets) > 1:
        others = ", ".join([other for other in sheets if other != title][:_NAMED])
        progress.warn(f"{path}: sheet {title!r} is read, and {others} are not; save another one as CSV to use it")
    cells = [[cell or "" for cell in row] for _, row in rows]
    dialects.require_no_title([(number, row) for (number, _), row in zip(rows, cells, strict=True)], path, names)
    header = header_of(cells, path, unlabelled=unlabelled, names=names)
    columns = column_names(cells[0]) if header else [f"column {i + 1}" for i in range(len(cells[0]))]
    require_different(columns, f"{path} row {rows[0][0]}")
    below = rows[header:]
    return Table(str(path), columns, [row for _, row in below], [number for number, _ in below], header)


def _rows_of(sheet: Any, path: Path) -> tuple[list[tuple[int, list[str | None]]], set[str]]:
    """Return the rows of a sheet that hold anything, all as wide as the widest; and its cells that are there and empty.

    An error in a cell, such as #REF!, is no value.
    """
    rows: list[tuple[int, list[str | None]]] = []
    empty: set[str] = set()
    n = 0
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        row = [None if cell.data_type == "e" else as_text(_as_shown(cell)) for cell in cells]
        # The result of a formula has a type, be it an empty text; where there is none, the type is a number's.
        there = (cell for cell in cells if hasattr(cell, "coordinate"))
        empty |= {cell.coordinate for cell in there if cell.value is None and cell.data_type == "n"}
        while row and not (row[-1] or "").strip():
            row.pop()
        n += len(cells)
        _require_cells(n, path)
        if row:
            rows.append((number, row))
    width = max((len(row) for _, row in rows), default=0)
    _require_cells(width * len(rows), path)
    return [(number, [*row, *[None] * (width - len(row))]) for number, row in rows], empty


def _as_shown(cell: Any) -> object:
    """Return the value of a cell; of a date that is shown without a time, the date alone."""
    is_day = cell.data_type == "d" and isinstance(cell.value, datetime) and "h" not in cell.number_format.lower()
    return cell.value.date() if is_day else cell.value


def _fill_merged(rows: list[tuple[int, list[str | None]]], sheet: bytes, path: Path) -> None:
    """Give each row of cells that a sheet has merged their value, which stands in the first of them alone.

    Raises:
        DataError: cells of several columns are merged in the first row, as those of a title.
    """
    from openpyxl.utils.cell import range_boundaries

    numbered, n = dict(rows), 0
    for merged in re.findall(rb'<mergeCell [^>]*ref="(\w+:\w+)"', sheet):
        left, top, right, bottom = range_boundaries(merged.decode())
        if top == rows[0][0] and right > left:
            raise DataError(f"{path}: cells {merged.decode()} are merged, such as for a title; remove that row")
        n += bottom - top
        _require_cells(n, path)
        value = numbered[top][left - 1] if top in numbered and left <= len(numbered[top]) else None
        filled = [numbered[number] for number in range(top + 1, bottom + 1) if number in numbered]
        for row in filled:
            row[left - 1] = value
        if filled and value is not None:
            progress.warn(f"{path}: cells {merged.decode()} are merged; each row has their value, {value!r:.40}")


def _require_results(sheet: Any, empty: set[str], path: Path) -> None:
    """Raise DataError where a formula is in a cell that is empty while formulas are replaced by their results."""
    for cell in (cell for cells in sheet.iter_rows() for cell in cells if cell.data_type == "f"):
        if cell.coordinate in empty:
            raise DataError(
                f"{path} sheet {sheet.title!r} cell {cell.coordinate}: the formula {str(cell.value)[:40]} has no "
                "result; open the workbook in a spreadsheet program and save it, or write the value into the cell"
            )


# Tables of predictions


def require_writable(path: Path) -> None:
    """Check, before any work is done, that `write` can write there.

    Raises:
        DataError: the format is unknown or the folder is missing.
    """
    if path.suffix not in FORMATS:
        raise DataError(f"{path}: tables are written as {', '.join(FORMATS)}; give a file name that ends so")
    if not path.parent.is_dir():
        raise DataError(f"{path}: the folder {path.parent} does not exist; make it or give another")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows that all have the same keys, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    require_writable(path)
    try:
        files.write_file(path, _encode(path.suffix, rows))
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}); give another file with -o") from error


def _encode(suffix: str, rows: list[dict[str, Any]]) -> bytes:
    if suffix == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        return bytes(sink.getvalue())
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
