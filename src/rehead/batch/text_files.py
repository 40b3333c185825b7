"""Rows out of text files, however long: delimited, a text a line, or JSON Lines."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from rehead.batch import records
from rehead.batch.dialects import JSON_LINES, Dialect, dialect_of, require_kind
from rehead.batch.lines import KEPT, Line, lines_of, read_head, stamp_of
from rehead.batch.portions import BadRow, Portion, Row, portioned
from rehead.data import tables
from rehead.data.examples import Table
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# Rows after which a progress bar moves.
_OFTEN = 4096


@dataclass(frozen=True)
class TextFile:
    """One of them.

    Attributes:
        name: what it is called in results.
        size: in bytes.
    """

    path: Path
    name: str
    size: int
    dialect: Dialect


class TextFiles:
    """Rows of text files, one after the other. A `rehead.batch.sources.Source`.

    Args:
        files: and what each is called in results.
        kind: of all of them; see `rehead.batch.dialects`.
        file_column: the name of a column that says which file a row is from; None for no such column.

    Attributes:
        sample: the first rows, to choose the text column by.

    Raises:
        DataError: one cannot be read, their columns are not the same, or they have no rows.
    """

    changeable = False
    schema = None

    def __init__(self, files: list[tuple[Path, str]], kind: str, file_column: str | None) -> None:
        self._json = kind == JSON_LINES
        self._file_column = file_column
        self._files: list[TextFile] = []
        sample: tuple[str, Dialect] | None = None
        late_keys: dict[str, None] = {}
        for path, name in files:
            head = read_head(path)
            if head.is_empty:
                continue
            require_kind(head, kind, self._files[0].path if self._files else path)
            dialect = dialect_of(head, self._files[0].dialect.columns if self._files else None)
            if (dialect.sample or not head.whole) and not (sample and sample[1].sample):
                sample = str(path), dialect
            file = TextFile(path, name, path.stat().st_size, replace(dialect, sample=[]))
            if self._json and not head.whole:
                late_keys |= _keys_of(file)
            self._files.append(file)
        if sample is None:
            what = "has a header line and no rows" if self._files else "is empty"
            raise DataError(f"{files[0][0]} {what}; give a file with one example a row")
        if self._json:
            self._own_columns = list(dict.fromkeys(key for file in self._files for key in file.dialect.columns))
            self._own_columns = list(dict.fromkeys([*self._own_columns, *late_keys]))
            tables.require_width(len(self._own_columns), files[0][0])
        else:
            self._own_columns = _agreed(self._files)
        self.columns = [*self._own_columns, *([file_column] if file_column else [])]
        self.total = sum(file.size for file in self._files)
        self.identity = "".join(stamp_of(path) for path, _ in files)
        self.sample = _as_table(*sample, self._own_columns)

    def portions(self, text_column: str, n_rows: int) -> Iterator[Portion]:
        """All rows; see `rehead.batch.portions.portioned`."""
        before, being_read = 0, None
        at = self._own_columns.index(text_column)

        def rows() -> Iterator[Row | BadRow]:
            nonlocal before, being_read
            for file in self._files:
                with _opened(file) as (being_read, lines):
                    yield from self._rows_of(file, lines, at)
                before, being_read = before + file.size, None

        def done() -> int:
            return min(self.total, before + (being_read.tell() if being_read else 0))

        return portioned(rows(), n_rows, done)

    def _rows_of(self, file: TextFile, lines: Iterator[Line], at: int) -> Iterator[Row | BadRow]:
        added = [file.name] if self._file_column else []
        width = len(self._own_columns)
        form = file.dialect.form
        if self._json:
            for found in records.objects(lines, file.name):
                if isinstance(found, BadRow):
                    yield found
                    continue
                number, record = found
                values = [record.get(name) for name in self._own_columns]
                yield Row(file.name, number, tables.as_text(values[at]) or "", values + added)
            return
        header = file.dialect.header
        for read in records.rows(lines, form, file.name):
            if isinstance(read, BadRow):
                yield read
            elif header:
                header = False
            elif len(read[1]) == width:
                yield Row(file.name, read[0], read[1][at], read[1] + added)
            else:
                expected = ", ".join(self._own_columns[:6])
                reason = f"{len(read[1])} fields, expected {width} ({expected})"
                yield BadRow(file.name, read[0], reason, form.delimiter.join(read[1]))


@contextmanager
def _opened(file: TextFile) -> Iterator[tuple[BinaryIO, Iterator[Line]]]:
    """The file, which tells how far it has been read, and its lines."""
    form = file.dialect.form
    # JSON's lines end with a line feed alone, as they do where a whole file is read.
    newline = "\n" if form.how == records.JSON else None
    with (
        file.path.open("rb") as raw,
        io.TextIOWrapper(raw, encoding=form.encoding, errors=KEPT, newline=newline) as text,
    ):
        yield raw, lines_of(text, form.longest_line)


def _as_table(source: str, dialect: Dialect, columns: list[str]) -> Table:
    """The first rows of a file, as text."""
    at = {name: i for i, name in enumerate(dialect.columns)}
    rows = [
        [tables.as_text(cells[at[name]]) if name in at else None for name in columns] for _, cells in dialect.sample
    ]
    return Table(source, columns, rows, [number for number, _ in dialect.sample])


def _agreed(files: list[TextFile]) -> list[str]:
    first = files[0]
    for other in files[1:]:
        if other.dialect.columns != first.dialect.columns:
            raise different_columns(other.path, other.dialect.columns, first.path, first.dialect.columns)
    return first.dialect.columns


def different_columns(path: Path, columns: list[str], first: Path, expected: list[str]) -> DataError:
    """What to say where two files that are read as one table are not."""
    ours, theirs = ", ".join(columns)[:200], ", ".join(expected)[:200]
    return DataError(f"{path} has the columns {ours}, and {first} has {theirs}; give files with the same columns")


def _keys_of(file: TextFile) -> dict[str, None]:
    """All keys of JSON Lines, for which they have to be read once more: some may come up late."""
    keys: dict[str, None] = {}
    with _opened(file) as (raw, lines), progress.bar(f"columns of {file.name}", file.size) as advance:
        told = 0
        for number, found in enumerate(records.objects(lines, file.name)):
            if not isinstance(found, BadRow) and not found[1].keys() <= keys.keys():
                keys |= dict.fromkeys(found[1])
                tables.require_width(len(keys), file.name)
            if number % _OFTEN == 0:
                advance(raw.tell() - told)
                told = raw.tell()
    return keys
