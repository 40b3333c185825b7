"""Reads a table from a file: CSV, TSV and their kin, JSON Lines, Parquet, and what `rehead.data.documents` reads.

The kind is found out from the content, not from the file's name. What stands in the file is what is read: a
quotation mark in a file that does not use quoting is text, and no row is skipped.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

from rehead.data import dialects, documents, lines, records
from rehead.data.cells import Table, as_text
from rehead.data.dialects import DELIMITED, JSON_LINES, Dialect
from rehead.data.lines import Head, read_head
from rehead.data.records import BadRow
from rehead.runtime.errors import DataError

_Found = TypeVar("_Found")
# What the names of files with tables end with.
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt", ".json", ".gz", ".bz2", ".xz", ".xlsx", ".arrow", ".feather")


def is_named_as_table(name: str) -> bool:
    """Return whether it can only be meant as the name of a table's file: it has such an ending, and no spaces."""
    return name.lower().endswith(ENDINGS) and not any(character.isspace() for character in name)


def read(path: Path, *, unlabelled: bool = False, names: Collection[str] = ()) -> Table:
    """Read the table in `path`.

    Args:
        unlabelled: texts alone are enough: a single column is a table, and so is a text on each line.
        names: of columns that are looked for; a first row with one of them is a header.

    Raises:
        DataError: the file is missing, empty, not a table, or malformed (with the row).
    """
    if path.is_dir() and documents.is_saved_data_set(path):
        return documents.read_saved_data_set(path)
    head = read_head(path)
    if head.is_empty:
        raise DataError(f"{path} is empty; give a file with one example a row")
    kind = dialects.kind_of(head)
    if kind not in (DELIMITED, JSON_LINES):
        return documents.read(path, kind, names)
    dialect = dialects.dialect_of(head, unlabelled=unlabelled, names=names)
    return _read_objects(head, dialect) if kind == JSON_LINES else _read_rows(head, dialect)


def _read_objects(head: Head, dialect: Dialect) -> Table:
    numbers, objects = [], []
    with lines.opened(head.path, dialect.form.encoding, dialect.form.longest_line, "\n") as (_, coming):
        for found in records.objects(coming, str(head.path)):
            number, record = _whole(found, head.path, "correct or remove it")
            numbers.append(number)
            objects.append(record)
    columns = list(dict.fromkeys(key for record in objects for key in record))
    dialects.require_width(len(columns), head.path)
    rows = [[as_text(record.get(name)) for name in columns] for record in objects]
    return Table(str(head.path), columns, rows, numbers)


def _read_rows(head: Head, dialect: Dialect) -> Table:
    path, columns = head.path, dialect.columns
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    header = dialect.header
    with lines.opened(path, dialect.form.encoding, dialect.form.longest_line, None) as (_, coming):
        for found in records.rows(coming, dialect.form, str(path)):
            number, cells = _whole(found, path, "correct that row")
            if header:
                header = False
                continue
            if len(cells) != len(columns):
                raise DataError(
                    f"{path} row {number}: {len(cells)} fields, expected {len(columns)} ({', '.join(columns[:6])}); "
                    "put quotation marks around a text that holds the delimiter or a line break"
                )
            rows.append([*cells])
            numbers.append(number)
    if not rows:
        raise DataError(f"{path} has a header line and no rows; give one example a row")
    return Table(str(path), columns, rows, numbers, dialect.header)


def _whole(found: _Found | BadRow, path: Path, cure: str) -> _Found:
    if isinstance(found, BadRow):
        raise DataError(f"{path} row {found.number}: {found.reason}; {cure}")
    return found
