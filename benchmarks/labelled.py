"""Reads the files that the benchmarks write, in rehead's environment and in the peers'."""

import csv
from pathlib import Path


def read(file: Path) -> tuple[list[str], list[str]]:
    """The columns `text` and `label`; the latter may be absent."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [row["text"] for row in rows], [row.get("label", "") for row in rows]
