"""Rows out of text files, however long: delimited, a text a line, or JSON Lines."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rehead.batch.portions import Portion, Row, portioned
from rehead.data import records, tables
from rehead.data.columns import Table, as_text, require_width
from rehead.data.dialects import JSON_LINES, Dialect, dialect_of, require_kind, rows_below
from rehead.data.records import BadRow, Line, read_head
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# Rows after which a progress bar moves.
_OFTEN = 4096


@dataclass(frozen=True)
class TextFile:
    """One of them, its name in results and its size in bytes."""

    path: Path
    name: str
    size: int
    dialect: Dialect


class TextFiles:
    """Rows of text files, one after the other. A `rehead.batch.sources.RowSource`.

    For arguments and errors see `rehead.batch.sources.rows_of`; `kind` is that of all files.
    """

    changeable = False
    schema = None

    def __init__(
        self, files: list[tuple[Path, str]], kind: str, file_column: str | None, names: Collection[str] = ()
    ) -> None:
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
            expected = self._files[0].dialect.columns if self._files else None
            dialect = dialect_of(head, unlabelled=True, names=names, expected=expected)
            if (dialect.sample or not head.whole) and not (sample and sample[1].sample):
                sample = str(path), dialect
            file = TextFile(path, name, path.stat().st_size, replace(dialect, sample=[]))
            if self._json and not head.whole:
                late_keys |= _keys_of(file)
            self._files.append(file)
        if sample is None:
            for file in self._files:
                with records.opened(file.path, file.dialect.form) as (_, coming):
                    for bad in rows_below(coming, file.dialect, file.name):
                        if isinstance(bad, BadRow):
                            raise DataError(
                                f"{file.path} row {bad.number}: {bad.reason}, and no row there can be read; correct it"
                            )
            what = "has a header line and no rows" if self._files else "is empty"
            raise DataError(f"{files[0][0]} {what}; give a file with one example a row")
        if self._json:
            early_keys = (key for file in self._files for key in file.dialect.columns)
            self._own_columns = list(dict.fromkeys([*early_keys, *late_keys]))
            require_width(len(self._own_columns), files[0][0])
        else:
            first = self._files[0]
            self._own_columns = first.dialect.columns
            for other in self._files[1:]:
                if other.dialect.columns != self._own_columns:
                    raise different_columns(other.path, other.dialect.columns, first.path, self._own_columns)
        self.columns = [*self._own_columns, *([file_column] if file_column else [])]
        self.total = sum(file.size for file in self._files)
        self.identity = "".join(stamp_of(path) for path, _ in files)
        self.sample = _as_table(*sample, self._own_columns)

    def portions(self, text_column: str, n_rows: int) -> Iterator[Portion]:
        """Yield all rows; see `rehead.batch.portions.portioned`."""
        before, being_read = 0, None
        at = self._own_columns.index(text_column)

        def rows() -> Iterator[Row | BadRow]:
            nonlocal before, being_read
            for file in self._files:
                with records.opened(file.path, file.dialect.form) as (being_read, coming):
                    yield from self._rows_of(file, coming, at)
                before, being_read = before + file.size, None

        def done() -> int:
            return min(self.total, before + (being_read.tell() if being_read else 0))

        return portioned(rows(), n_rows, done)

    def _rows_of(self, file: TextFile, coming: Iterator[Line], at: int) -> Iterator[Row | BadRow]:
        added = [file.name] if self._file_column else []
        read = records.objects(coming, file.name) if self._json else rows_below(coming, file.dialect, file.name)
        for found in read:
            if isinstance(found, BadRow):
                yield found
                continue
            number, held = found
            values = [held.get(name) for name in self._own_columns] if isinstance(held, dict) else held
            yield Row(file.name, number, as_text(values[at]) or "", values + added)


class WholeFiles:
    """Rows of files that are read as a whole, one after the other. A `rehead.batch.sources.RowSource`.

    For arguments and errors see `TextFiles`.
    """

    changeable = False
    schema = None

    def __init__(
        self, files: list[tuple[Path, str]], kind: str, file_column: str | None, names: Collection[str] = ()
    ) -> None:
        self._tables: list[tuple[str, Table]] = []
        self._file_column = file_column
        for path, name in files:
            if path.is_file():
                require_kind(read_head(path), kind, files[0][0])
            table = tables.read(path, unlabelled=True, names=names)
            first = self._tables[0][1] if self._tables else table
            if table.columns != first.columns:
                raise different_columns(path, table.columns, files[0][0], first.columns)
            self._tables.append((name, table))
        self.sample = self._tables[0][1]
        self.columns = [*self.sample.columns, *([file_column] if file_column else [])]
        self.total = sum(len(table.rows) for _, table in self._tables)
        self.identity = "".join(stamp_of(path) for path, _ in files)

    def portions(self, text_column: str, n_rows: int) -> Iterator[Portion]:
        """Yield all rows; see `rehead.batch.portions.portioned`."""
        at, done = self.columns.index(text_column), 0

        def rows() -> Iterator[Row | BadRow]:
            nonlocal done
            for name, table in self._tables:
                added = [name] if self._file_column else []
                for number, cells in zip(table.lines, table.rows, strict=True):
                    done += 1
                    yield Row(name, number, cells[at] or "", [*cells, *added])

        return portioned(rows(), n_rows, lambda: done)


def stamp_of(path: Path) -> str:
    """Return what changes when a file does: where it lies, its size, and when it was written."""
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n"


def _as_table(source: str, dialect: Dialect, columns: list[str]) -> Table:
    """Return the first rows of a file, as text."""
    at = {name: i for i, name in enumerate(dialect.columns)}
    rows = [[as_text(cells[at[name]]) if name in at else None for name in columns] for _, cells in dialect.sample]
    header = dialect.header or dialect.form.how == records.JSON
    return Table(source, columns, rows, [number for number, _ in dialect.sample], header)


def different_columns(path: Path, columns: list[str], first: Path, expected: list[str]) -> DataError:
    """Return what to say where two files that are read as one table are not."""
    ours, theirs = ", ".join(columns)[:200], ", ".join(expected)[:200]
    return DataError(f"{path} has the columns {ours}, and {first} has {theirs}; give files with the same columns")


def _keys_of(file: TextFile) -> dict[str, None]:
    """Return all keys of JSON Lines, for which they have to be read once more: some may come up late."""
    keys: dict[str, None] = {}
    with (
        records.opened(file.path, file.dialect.form) as (raw, coming),
        progress.bar(f"columns of {file.name}", file.size) as advance,
    ):
        shown = 0
        for number, found in enumerate(records.objects(coming, file.name)):
            if not isinstance(found, BadRow) and not found[1].keys() <= keys.keys():
                keys |= dict.fromkeys(found[1])
                require_width(len(keys), file.name)
            if number % _OFTEN == 0:
                advance(raw.tell() - shown)
                shown = raw.tell()
    return keys
