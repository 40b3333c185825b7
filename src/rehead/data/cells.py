"""A table of text cells, and values of any type as the text of one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Table:
    """A table as it stands in a file: every cell is text, None where there is no value.

    Attributes:
        source: where it came from, for messages.
        columns: names of the columns.
        rows: one list of cells a row, as many as there are columns.
        lines: the line in the file at which each row begins, from 1 (the row's number, where there are no lines).
        header: whether the names stand in the file.
    """

    source: str
    columns: list[str]
    rows: list[list[str | None]]
    lines: list[int]
    header: bool = True

    def column(self, name: str) -> list[str | None]:
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


def as_text(cell: object) -> str | None:
    """Return a value as the text of a cell; None for none, and for what is not a number."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, bytes):
        return cell.decode("utf-8", errors="replace")
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def named_classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Return the names of the classes of each column, as the datasets library keeps them in a schema."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    found = {column: _names_in(feature) for column, feature in features.items()}
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


def with_names(cell: object, names: list[str]) -> object:
    """Return the class that a number stands for, or those of a list; None for -1, which stands for no label."""
    if isinstance(cell, list):
        return [with_names(each, names) for each in cell]
    if isinstance(cell, int) and cell < 0:
        return None
    return names[cell] if isinstance(cell, int) and cell < len(names) else cell
