"""Rows out of Parquet files, with the types of their columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet
from pyarrow import RecordBatch

from rehead.batch.portions import PORTION_CHARACTERS, Portion, rows_at_once
from rehead.batch.text_files import different_columns, stamp_of
from rehead.data.columns import MAX_FIELD_CHARACTERS, Table, as_text, require_different, require_width
from rehead.data.dialects import PARQUET, require_kind
from rehead.data.records import BadRow, problem_of_length, read_head
from rehead.data.tables import as_texts, undecodable
from rehead.runtime.errors import DataError, first_line

# Columns are read from the disk by this number of bytes, and not a row group of a million rows at once.
_BUFFER = 2**20
# Rows that are looked at to choose the text column.
_SAMPLE = 1000
# Characters that are shown of each of a bad row's cells.
_SHOWN = 500


class ParquetFiles:
    """Rows of Parquet files, one after the other. A `rehead.batch.sources.RowSource`.

    For arguments and errors see `rehead.batch.sources.rows_of`.

    Attributes:
        schema: names and types of the columns, those of the first file.
    """

    changeable = False

    def __init__(self, files: list[tuple[Path, str]], file_column: str | None) -> None:
        self._files, self._file_column = files, file_column
        self.identity = "".join(stamp_of(path) for path, _ in files)
        self.total = 0
        schema: pyarrow.Schema | None = None
        sample: Table | None = None
        for path, _ in files:
            require_kind(read_head(path), PARQUET, files[0][0])
            with _opened(path) as file:
                require_width(file.metadata.num_columns, path)
                if schema is None:
                    schema = file.schema_arrow
                    require_different(schema.names, str(path))
                _require_same(file.schema_arrow, path, schema, files[0][0])
                self.total += file.metadata.num_rows
                if sample is None and file.metadata.num_rows:
                    sample = _sample(file, path)
        if sample is None or schema is None:
            raise DataError(f"{files[0][0]} has no rows; give a file with one example a row")
        self.sample = sample
        self.schema = schema.append(pyarrow.field(file_column, pyarrow.string())) if file_column else schema
        self.columns = list(self.schema.names)
        is_dictionary = pyarrow.types.is_dictionary
        plain = [each.with_type(each.type.value_type) if is_dictionary(each.type) else each for each in self.schema]
        self._plain_schema = pyarrow.schema(plain)

    def portions(self, text_column: str, n_rows: int) -> Iterator[Portion]:
        """Yield all rows; a portion ends with each piece that the file comes in, and where texts are long, before."""
        done = 0
        for path, name in self._files:
            before = done
            with _opened(path) as file:
                for batch in file.iter_batches(batch_size=n_rows):
                    batch = self._plain(batch, name)
                    yield from _cut(batch, text_column, name, done - before + 1, done)
                    done += len(batch)

    def _plain(self, batch: RecordBatch, name: str) -> RecordBatch:
        """Return a batch with the file's name, and without dictionaries: each would be written with every portion."""
        is_dictionary = pyarrow.types.is_dictionary
        columns = [each.dictionary_decode() if is_dictionary(each.type) else each for each in batch.columns]
        if self._file_column:
            columns.append(pyarrow.array([name] * len(batch), pyarrow.string()))
        return RecordBatch.from_arrays(columns, schema=self._plain_schema)


def _cut(batch: RecordBatch, text_column: str, source: str, first: int, done: int) -> Iterator[Portion]:
    """Yield portions of a batch.

    Args:
        first: the number of its first row.
        done: rows that were read before it.
    """
    not_utf8 = dict.fromkeys(undecodable(batch.column(text_column)), f"column {text_column!r} is not UTF-8")
    problems = not_utf8 | _problems(batch)
    good = [row for row in range(len(batch)) if row not in problems]
    usable = batch.take(pyarrow.array(good, pyarrow.int64())) if problems else batch
    texts = [as_text(cell) or "" for cell in usable.column(text_column).to_pylist()]
    start = n_before = 0  # of the rows, and of those that are usable
    while start < len(batch):
        end, n, characters, bad = start, n_before, 0, []
        while end < len(batch) and characters < PORTION_CHARACTERS:
            if end in problems:
                bad.append(BadRow(source, first + end, problems[end], _shown(batch.slice(end, 1))))
            else:
                characters += len(texts[n])
                n += 1
            end += 1
        empty = [i for i in range(n_before, n) if not texts[i].strip()]
        first_empty = f"{source} row {first + good[empty[0]]}" if empty else None
        values = usable.slice(n_before, n - n_before)
        yield Portion(texts[n_before:n], values, bad, len(empty), first_empty, done + end)
        start, n_before = end, n


def _problems(batch: RecordBatch) -> dict[int, str]:
    """Return what is wrong with which rows of a batch."""
    problems: dict[int, str] = {}
    try:
        batch.validate(full=True)
    except pyarrow.ArrowInvalid:
        for row in range(len(batch)):
            try:
                batch.slice(row, 1).validate(full=True)
            except pyarrow.ArrowInvalid as error:
                problems[row] = first_line(error)
    types = pyarrow.types
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if not any(is_of(column.type) for is_of in texts):
            continue
        too_long = pyarrow.compute.greater(pyarrow.compute.binary_length(column), MAX_FIELD_CHARACTERS)
        for row in pyarrow.compute.indices_nonzero(too_long).to_pylist():
            if row not in problems and (problem := problem_of_length(name, len(as_text(column[row].as_py()) or ""))):
                problems[row] = problem
    return problems


def _shown(row: RecordBatch) -> str:
    """Return one row that cannot be used, as far as it can be shown."""
    cells: dict[str, Any] = {}
    for name, column in zip(row.schema.names, row.columns, strict=True):
        if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
            content = column.cast(pyarrow.large_binary())[0].as_py()
            cell = None if content is None else content.decode("utf-8", errors="backslashreplace")
        else:
            cell = as_text(column[0].as_py())
        cells[name] = cell if cell is None else cell[:_SHOWN]
    return json.dumps(cells, ensure_ascii=False)


@contextmanager
def _opened(path: Path) -> Iterator[pyarrow.parquet.ParquetFile]:
    """Yield the file; what Arrow cannot read in it is a DataError."""
    # Through an open file: pyarrow takes a path with a colon in it for an address.
    with path.open("rb") as raw:
        try:
            yield pyarrow.parquet.ParquetFile(raw, buffer_size=_BUFFER)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path} is not a readable Parquet file ({first_line(error)}); write it again") from error


def _sample(file: pyarrow.parquet.ParquetFile, path: Path) -> Table:
    batch = next(file.iter_batches(batch_size=rows_at_once(_SAMPLE, file.metadata.num_columns)))
    bad = _problems(batch)
    good = batch.take(pyarrow.array([row for row in range(len(batch)) if row not in bad], pyarrow.int64()))
    columns = [as_texts(column, None) for column in good.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(str(path), list(batch.schema.names), rows, list(range(1, len(rows) + 1)))


def _require_same(schema: pyarrow.Schema, path: Path, expected: pyarrow.Schema, first: Path) -> None:
    if schema.names != expected.names:
        raise different_columns(path, schema.names, first, expected.names)
    for ours, theirs in zip(schema, expected, strict=True):
        if ours.type != theirs.type:
            raise DataError(
                f"{path}: column {ours.name!r} is {ours.type}, and {theirs.type} in {first}; give files of one type"
            )
