"""Writes a table of predictions: CSV, JSON Lines or Parquet, by the file's name."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from rehead.runtime import files
from rehead.runtime.errors import DataError

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


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
        content: bytes = sink.getvalue().to_pybytes()
        return content
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, fieldnames=list(rows[0]), delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
