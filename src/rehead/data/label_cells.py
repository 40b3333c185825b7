"""Labels as they are written in the cells of a table: one, several with a separator between them, or a list."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from rehead.runtime.errors import DataError

# Between the labels of a text that has several, where nothing else is said.
SEPARATOR = ";"
# How programs write that there is no value, in a cell that should hold one.
_MISSING = frozenset(["nan", "NaN", "-nan", "<NA>", "NA", "N/A", "n/a", "#N/A", "#NA", "NaT", "None", "NULL", "null"])
# Longer cells are texts.
_LONGEST_LIST = 10_000
# As NumPy prints arrays: no commas between the elements.
_SPACED = re.compile(r"\[\s*-?[\d.]+(\s+-?[\d.]+)+\s*\]|\[\s*(['\"])[^,]*\2(\s+\2[^,]*\2)+\s*\]")
_BETWEEN = re.compile(r"(?<=[\d.'\"])\s+(?=[-\d.'\"])")


def is_missing(cell: str) -> bool:
    """Return whether a cell says that there is no value."""
    return cell.strip() in _MISSING


def same_value(label: str) -> str:
    """Return what is the same for labels that differ in their Unicode form, or as numbers in how they are written."""
    form = unicodedata.normalize("NFKC", label).replace("\ufe0f", "").strip()
    try:
        return f"{float(form):.17g}"
    except ValueError:
        return form


def separator_of(cells: Sequence[str | None]) -> str | None:
    """Return what stands between the labels of a column whose texts may have several; None where each has one.

    They may have several if every cell is a list and some hold another number of labels than one, or names; or if
    semicolons divide cells into names that come up again: into no more different names than there are different cells.
    """
    different = {cell.strip() for cell in cells if cell and cell.strip() and not is_missing(cell)}
    lists = [_as_list(cell) for cell in different]
    if different and all(values is not None for values in lists):
        numbers_alone = all(values and len(values) == 1 and not isinstance(values[0], str) for values in lists)
        return None if numbers_alone else SEPARATOR
    if not any(SEPARATOR in cell for cell in different):
        return None
    pieces = {piece for cell in different for piece in labels_in(cell, SEPARATOR)}
    return SEPARATOR if len(pieces) <= len(different) else None


def labels_in(cell: str, separator: str | None) -> list[str]:
    """Return the labels that a cell holds; one if there is no separator."""
    if separator is None:
        return [cell.strip()]
    listed = _as_list(cell)
    pieces = cell.split(separator) if listed is None else map(str, listed)
    return [piece.strip() for piece in pieces if piece.strip()]


def label_lists(cells: Sequence[str], separator: str | None, lines: Sequence[int], source: str) -> list[list[str]]:
    """Return the labels of each of n cells.

    Lists of 0 and 1 that are all as long say for each class whether it applies; the classes are called 0, 1, ...

    Args:
        lines: (n,) where the cells stand, for messages.

    Raises:
        DataError: a cell holds what is no label, such as an object.
    """
    lists = [_as_list(cell) for cell in cells]
    for cell, values, line in zip(cells, lists, lines, strict=True):
        if "\ufffd" in cell:
            raise DataError(f"{source} row {line}: label {cell[:40]!r} holds bytes that are no text; correct it")
        if _is_object(cell) or (separator is not None and values is not None and not _are_labels(values)):
            raise DataError(
                f"{source} row {line}: {cell.strip()[:60]!r} is no label and no list of names; write a name, or the "
                f"names of several with {SEPARATOR} between them"
            )
    if separator is not None and (is_indicator := indicators(lists)):
        return [[str(i) for i, on in enumerate(values) if on] for values in is_indicator]
    return [labels_in(cell, separator) for cell in cells]


def indicators(lists: Sequence[Sequence[Any] | None]) -> list[list[bool]] | None:
    """Return lists of 0 and 1, two or more and all as many, as truth values; None where they are others."""
    width = len(lists[0]) if lists and lists[0] is not None else 0
    if width < 2:
        return None
    for values in lists:
        if values is None or len(values) != width or not all(_is_bit(value) for value in values):
            return None
    return [[bool(value) for value in values or ()] for values in lists]


def _is_bit(value: Any) -> bool:
    return not isinstance(value, str | bytes) and value in (0, 1)


def _are_labels(values: list[Any]) -> bool:
    """Return whether they are all names, or all whole numbers."""
    kinds = {type(value) for value in values}
    return (len(kinds) <= 1 and kinds <= {str, int, bool}) or all(_is_bit(value) for value in values)


def _as_list(cell: str) -> list[Any] | None:
    """Return what a list holds, as JSON, Python or NumPy write it: `["a", "b"]`, `('a', 'b')`, `[0 1 1]`."""
    text = cell.strip()
    if len(text) < 2 or len(text) > _LONGEST_LIST or (text[0], text[-1]) not in (("[", "]"), ("(", ")"), ("{", "}")):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        if _SPACED.fullmatch(text):
            text = _BETWEEN.sub(", ", text)
        try:
            values = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None
    if isinstance(values, set):
        return sorted(values, key=str)
    return list(values) if isinstance(values, list | tuple) else None


def _is_object(cell: str) -> bool:
    text = cell.strip()
    if not (text.startswith("{") and text.endswith("}")):
        return False
    for parse in (json.loads, ast.literal_eval):
        try:
            return isinstance(parse(text), dict)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return False
