"""How results are written: each portion as bytes that are appended to those before, and at the end a whole file.

CSV, TSV and JSON Lines grow as they are. A Parquet file cannot be appended to, so portions are kept in Arrow's own
form, each complete in itself, and become one file when all are there.
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from rehead.batch.answers import Cells
from rehead.batch.portions import Portion
from rehead.data.columns import as_text
from rehead.runtime.wording import no_formula

if TYPE_CHECKING:
    import pyarrow

# A row group of the finished Parquet file: it is in memory as a whole when it is written.
_GROUP_ROWS = 100_000
_GROUP_BYTES = 64 * 2**20


def sink_for(
    output: Path, columns: list[str], schema: pyarrow.Schema | None, added: list[str], escape_formulas: bool = False
) -> Sink:
    """Return what writes the kind of file that a name ends with.

    Args:
        columns, schema: of the original columns; see `rehead.batch.sources.RowSource`.
        added: names of the columns with answers.
        escape_formulas: see `DelimitedSink`.
    """
    if output.suffix == ".parquet":
        return ParquetSink(columns, schema, added)
    if output.suffix == ".jsonl":
        return JsonSink(columns)
    return DelimitedSink([*columns, *added], "\t" if output.suffix == ".tsv" else ",", escape_formulas)


class DelimitedSink:
    """CSV and TSV.

    Args:
        escape_formulas: whether a text that a spreadsheet would take for a formula gets an apostrophe before it.
    """

    assemble = None

    def __init__(self, columns: list[str], delimiter: str, escape_formulas: bool = False) -> None:
        self._delimiter, self._escape_formulas = delimiter, escape_formulas
        self.beginning = self._lines([columns])

    def encode(self, portion: Portion, answers: list[Cells]) -> bytes:
        return self._lines(
            [*map(as_text, row), *answer.values()] for row, answer in zip(portion.rows(), answers, strict=True)
        )

    def _lines(self, rows: Any) -> bytes:
        text = io.StringIO(newline="")
        if self._escape_formulas:
            rows = ([no_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
        csv.writer(text, delimiter=self._delimiter, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()


class JsonSink:
    """JSON Lines; numbers, lists and objects stay what they are."""

    beginning = b""
    assemble = None

    def __init__(self, columns: list[str]) -> None:
        self._columns = columns

    def encode(self, portion: Portion, answers: list[Cells]) -> bytes:
        rows = (
            dict(zip(self._columns, row, strict=True)) | answer
            for row, answer in zip(portion.rows(), answers, strict=True)
        )
        return "".join(f"{_json(row)}\n" for row in rows).encode()


def _json(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=as_text)
    except ValueError:
        return json.dumps(_finite(row), ensure_ascii=False, default=as_text)


def _finite(value: Any) -> Any:
    """Return a value without numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


class ParquetSink:
    """Parquet; columns of a Parquet file keep their types, all others are text."""

    beginning = b""

    def __init__(self, columns: list[str], schema: pyarrow.Schema | None, added: list[str]) -> None:
        import pyarrow

        types = {"predicted": pyarrow.string(), "possible": pyarrow.string(), "tokens_cut": pyarrow.int64()}
        self._added = [pyarrow.field(name, types.get(name, pyarrow.float64())) for name in added]
        own = schema or pyarrow.schema([pyarrow.field(name, pyarrow.string()) for name in columns])
        self._columns = columns
        self._schema = pyarrow.schema([*own, *self._added], metadata=own.metadata)

    def encode(self, portion: Portion, answers: list[Cells]) -> bytes:
        import pyarrow

        if isinstance(portion.values, list):
            rows = [[as_text(cell) for cell in row] for row in portion.values]
            own = [pyarrow.array([row[i] for row in rows], pyarrow.string()) for i in range(len(self._columns))]
        else:
            own = portion.values.columns
        added = [pyarrow.array([answer[field.name] for answer in answers], field.type) for field in self._added]
        batch = pyarrow.RecordBatch.from_arrays([*own, *added], [field.name for field in self._schema])
        sink = pyarrow.BufferOutputStream()
        with pyarrow.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        return bytes(sink.getvalue())

    def assemble(self, results: Path, whole: Path) -> None:
        """Make one file of the portions, in row groups of many of them."""
        import pyarrow
        import pyarrow.parquet

        waiting: list[pyarrow.RecordBatch] = []
        rows = size = 0
        with results.open("rb") as file, pyarrow.parquet.ParquetWriter(whole, self._schema) as writer:
            end = results.stat().st_size
            while file.tell() < end:
                waiting += pyarrow.ipc.open_stream(file)
                rows, size = rows + len(waiting[-1]), size + waiting[-1].nbytes
                if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                    writer.write_table(self._typed(waiting))
                    waiting, rows, size = [], 0, 0
            if waiting:
                writer.write_table(self._typed(waiting))

    def _typed(self, batches: list[pyarrow.RecordBatch]) -> pyarrow.Table:
        """Return a table with the dictionaries that portions are kept without."""
        import pyarrow

        table = pyarrow.Table.from_batches(batches)
        columns = [
            column.dictionary_encode().cast(field.type) if pyarrow.types.is_dictionary(field.type) else column
            for column, field in zip(table.columns, self._schema, strict=True)
        ]
        return pyarrow.Table.from_arrays(columns, schema=self._schema)


# Each has a `beginning`, which stands before the first row; `encode` makes bytes of a portion with its answers as
# columns, and `assemble` the file of all that was appended, or is None where that is the file.
Sink: TypeAlias = DelimitedSink | JsonSink | ParquetSink
