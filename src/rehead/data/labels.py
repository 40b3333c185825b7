"""Labels: as they are written in the cells of a table, and as arrays in two shapes.

An array is (n,) int64 class ids where each text has one label, and (n, n_classes) int64 of 0 and 1 where a text may
have several, or none. What follows differs by shape, and is the same to whoever calls it.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.columns import SURROGATE, is_missing, is_no_value, listed
from rehead.runtime import progress
from rehead.runtime.errors import DataError

Labels = npt.NDArray[np.int64]
# How much each of n examples counts.
Weights = npt.NDArray[np.float64]

# As many different fractions may be classes, such as half stars, however few the rows are.
_FEW_NUMBERS = 10
# Labels that are named in a warning.
_NAMED = 6
# Of a class that is a decision for itself, this probability and more is a yes.
EVEN = 0.5


def is_multilabel(labels: Labels) -> bool:
    """Return whether a text may have several labels."""
    return labels.ndim == 2


def of_class(labels: Labels, label: int) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: which examples have the label."""
    return labels[:, label] > 0 if is_multilabel(labels) else labels == label


def class_counts(labels: Labels, n_classes: int) -> Labels:
    """Return (n_classes,) int64: how many examples have each label."""
    counts: Labels = labels.sum(0) if is_multilabel(labels) else np.bincount(labels, minlength=n_classes)
    return np.asarray(counts, dtype=np.int64)


def as_indicator(labels: Labels, n_classes: int) -> npt.NDArray[np.float64]:
    """Return (n, n_classes) float64: 1 for each label that an example has."""
    return labels.astype(np.float64) if is_multilabel(labels) else np.eye(n_classes)[labels]


def combinations(labels: Labels) -> npt.NDArray[np.int64]:
    """Return (n,) int64: the same number for examples that have exactly the same labels."""
    if not is_multilabel(labels):
        return labels
    _, numbers = np.unique(labels, axis=0, return_inverse=True)
    return np.asarray(numbers.reshape(-1), dtype=np.int64)


def strata(labels: Labels) -> npt.NDArray[np.int64]:
    """Return (n,) int64: the class that a split is to spread an example by: its own, or the rarest of several.

    An example without a label belongs to a stratum of its own kind.
    """
    if not is_multilabel(labels):
        return labels
    counts = labels.sum(0)
    rarity = np.where(labels > 0, counts, np.iinfo(np.int64).max)
    return np.asarray(np.where(labels.any(1), rarity.argmin(1), labels.shape[1]), dtype=np.int64)


def most_probable(probabilities: npt.NDArray[np.floating], multilabel: bool) -> Labels:
    """Return labels for probabilities (n, n_classes): the most probable one, or all that are as probable as not."""
    chosen: Labels = (probabilities >= EVEN).astype(np.int64) if multilabel else probabilities.argmax(1)
    return chosen


def are_right(labels: Labels, predicted: Labels) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: where the prediction is the label; where it is all of the labels and nothing else."""
    same: npt.NDArray[np.bool_] = labels == predicted
    return np.asarray(same.all(1)) if is_multilabel(labels) else same


def classes_among(y: Any) -> tuple[npt.NDArray[Any], Labels]:
    """Return the classes among labels as `Classifier.fit` takes them, and the labels as they are kept here.

    What comes back from `restored` after saving is equal to the classes; what could not is refused.

    Args:
        y: n labels, all text, all numbers or all truth values; n collections of such; or (n, k) of 0 and 1, as an array
            or as n lists.

    Raises:
        DataError: one is missing, or is no label (with its row).
    """
    if getattr(y, "ndim", 1) == 2:
        y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
        if y.shape[1] == 1:
            from sklearn.utils import column_or_1d  # which warns of it; predictions need no scikit-learn

            y = column_or_1d(y, warn=True)
        elif np.isin(y, (0, 1)).all():
            return np.arange(y.shape[1]), y.astype(np.int64)
        else:
            raise DataError("y has more than one column and holds other numbers than 0 and 1; give one label a text")
    rows = [value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value for value in listed(y)]
    if not any(isinstance(value, list | tuple | set | frozenset) for value in rows):
        labels = _plain(rows, list(range(1, len(rows) + 1)))
        classes, ids = np.unique(labels, return_inverse=True)
        return classes, ids.reshape(-1).astype(np.int64)
    for number, value in enumerate(rows, start=1):
        if not isinstance(value, list | tuple | set | frozenset):
            raise DataError(f"y row {number} is {_shown(value)}, and other rows are lists; give a list in each row")
    if all(isinstance(value, list | tuple) for value in rows) and (bits := indicators(rows)):
        return np.arange(len(bits[0])), np.array(bits).astype(np.int64)
    numbers = [number for number, values in enumerate(rows, start=1) for _ in values]
    each = _plain([label for values in rows for label in values], numbers)
    if not len(each):
        raise DataError("y holds no label at all; give each text those that it has")
    classes, ids = np.unique(each, return_inverse=True)
    labels = np.zeros((len(rows), len(classes)), dtype=np.int64)
    labels[np.array(numbers) - 1, ids.reshape(-1)] = 1
    return classes, labels


def warn_of_alike(classes: npt.NDArray[Any]) -> None:
    """Warn of classes that are the same but for their Unicode form, spaces, or how a number is written."""
    texts = classes.tolist() if classes.dtype.kind == "U" else []
    counts = Counter(map(same_value, texts))
    if alike := [ascii(text) for text in texts if counts[same_value(text)] > 1]:
        progress.warn(f"y: labels {', '.join(alike[:_NAMED])} are alike, and a class each; give them one spelling")


def ids_among(classes: npt.NDArray[Any], y: Any) -> Labels:
    """Return labels, as `classes_among` takes them, as they are kept where the classes are known.

    Raises:
        DataError: one is none of the classes.
    """
    here, ids = classes_among(y)
    if is_multilabel(ids) and getattr(y, "ndim", 1) == 2 and ids.shape[1] == len(classes):
        return ids
    place = {label: i for i, label in enumerate(classes.tolist())}
    if unknown := [label for label in here.tolist() if label not in place]:
        raise DataError(
            f"y holds {unknown[0]!r:.40}, which is not among the classes learned; correct it or leave it out"
        )
    columns = np.array([place[label] for label in here.tolist()], dtype=np.int64)
    if not is_multilabel(ids):
        return columns[ids]
    labels = np.zeros((len(ids), len(classes)), dtype=np.int64)
    labels[:, columns] = ids
    return labels


def _plain(values: list[Any], rows: list[int]) -> npt.NDArray[Any]:
    """Return labels as an array of text, whole numbers, float64 or truth values.

    Args:
        rows: (n,) where they stand in y, for messages.
    """
    plain = [value if is_no_value(value) else _as_python(value) for value in values]
    for value, row in zip(plain, rows, strict=True):
        if is_no_value(value):
            raise DataError(f"y row {row} has no label ({value!s:.20}); leave that row out of X and y")
        if not isinstance(value, str | bool | int | float):
            cure = "label.decode()" if isinstance(value, bytes) else "str(label)"
            raise DataError(
                f"y row {row} is {_shown(value)}, which cannot be saved as a label; give text or numbers, such as "
                f"{cure}"
            )
        if isinstance(value, str) and (not value.strip() or "\0" in value or SURROGATE.search(value)):
            raise DataError(f"y row {row} is {value[:40]!r}, an empty text or one that cannot be saved; correct it")
        if type(value) is not type(plain[0]) and not (_is_number(value) and _is_number(plain[0])):
            raise DataError(
                f"y row {row} is {_shown(value)}, and row {rows[0]} is {_shown(plain[0])}; give labels of one type"
            )
    labels = np.array(plain)
    if labels.dtype.kind == "O" or (labels.dtype.kind == "f" and not np.isfinite(labels).all()):
        raise DataError(
            "y holds a number that is too large to be saved as a label; give text instead, such as str(label)"
        )
    if labels.dtype.kind == "f" and any(isinstance(value, int) and int(float(value)) != value for value in plain):
        raise DataError("y holds whole numbers that a float cannot hold; give text instead, such as str(label)")
    if labels.dtype.kind == "f" and _FEW_NUMBERS < len(np.unique(labels)) > len(labels) / 2:
        different = f"{len(np.unique(labels))} different numbers in {len(labels)} rows"
        raise DataError(f"y holds {different}, a continuous target; give classes, such as ranges of them")
    return labels


def _as_python(value: Any) -> Any:
    """Return a label as Python's own where it is one: a number in an array of any library's, a member of a str Enum."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, np.generic):
        # Other kinds, such as times, would become numbers.
        return value.item() if value.dtype.kind in "biufU" else value
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return f"{value!r:.40} ({type(value).__name__})"


def restored(labels: tuple[str, ...], kind: str) -> npt.NDArray[Any]:
    """Return labels in the type that they had: numpy's kind of whole number, float, truth value or text."""
    if kind == "b":
        return np.array([label == "True" for label in labels])
    return np.array(labels).astype({"i": np.int64, "u": np.uint64, "f": np.float64}.get(kind, np.str_))


# Labels in the cells of a table: one, several with a separator between them, or a list

# Between the labels of a text that has several, where nothing else is said.
SEPARATOR = ";"
# Longer cells are texts.
_LONGEST_LIST = 10_000
# As NumPy prints arrays: no commas between the elements.
_SPACED = re.compile(r"\[\s*-?[\d.]+(\s+-?[\d.]+)+\s*\]|\[\s*(['\"])[^,]*\2(\s+\2[^,]*\2)+\s*\]")
_BETWEEN = re.compile(r"(?<=[\d.'\"])\s+(?=[-\d.'\"])")


# What is not seen: a variation selector, a soft hyphen, spaces without a width, a byte order mark.
_UNSEEN = dict.fromkeys(map(ord, "\ufe0f\xad\u200b\u2060\ufeff"))


def same_value(label: str) -> str:
    """Return what is the same for labels that differ in their Unicode form, or as numbers in how they are written."""
    form = unicodedata.normalize("NFKC", label).translate(_UNSEEN).strip()
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
        numbers_alone = all(values and len(values) == 1 and not isinstance(values[0], str | list) for values in lists)
        return None if numbers_alone else SEPARATOR
    if not any(SEPARATOR in cell for cell in different):
        return None
    pieces = {piece for cell in different for piece in labels_in(cell, SEPARATOR)}
    return SEPARATOR if len(pieces) <= len(different) else None


def warn_of_separator(cells: Sequence[str | None], source: str) -> None:
    """Warn where a comma or bar may stand between labels: all of what it divides cells into comes up as a cell, too."""
    different = {cell.strip() for cell in cells if cell}
    for separator in ",|/+&\n\t ":
        joint = sorted(cell for cell in different if separator in cell)
        if joint and all(piece.strip() in different for cell in joint for piece in cell.split(separator)):
            progress.warn(
                f"{source}: {joint[0][:40]!r} is taken for one label; if it is several, say so with "
                f"`label_separator` {separator!r}"
            )


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
    are_lists = all(cell.strip()[:1] in ("[", "{") and cell.strip()[-1:] in ("]", "}") for cell in cells)
    # Vectors of 0 and 1 whose lengths differ hold no names: these would not come twice in one.
    are_bits = separator is not None and not indicators(lists) and all(v and all(map(_is_bit, v)) for v in lists)
    are_vectors = are_bits and any(len(values or ()) > 2 for values in lists)
    for cell, values, line in zip(cells, lists, lines, strict=True):
        if "\ufffd" in cell or "\0" in cell:
            raise DataError(f"{source} row {line}: label {cell[:40]!r} holds bytes that are no text; correct it")
        is_other = "," in cell and are_lists if values is None else separator is not None and not _are_labels(values)
        if is_other or are_vectors or _is_object(cell):
            raise DataError(
                f"{source} row {line}: {cell.strip()[:60]!r} is no label and no list of names; write a name, or the "
                f"names of several with {SEPARATOR} between them"
            )
    if separator is not None and (is_indicator := indicators(lists)):
        return [[str(i) for i, on in enumerate(values) if on] for values in is_indicator]
    return [labels_in(cell, separator) for cell in cells]


def indicators(lists: Sequence[Sequence[Any] | None]) -> list[list[bool]] | None:
    """Return lists of 0 and 1, two or more and all as many, as truth values; None where they are others."""
    bits = [[bool(value) for value in values] for values in lists if values is not None and all(map(_is_bit, values))]
    widths = {len(values) for values in bits}
    return bits if len(bits) == len(lists) and len(widths) == 1 and min(widths) >= 2 else None


def _is_bit(value: Any) -> bool:
    return not isinstance(value, str | bytes) and value in (0, 1)


def _are_labels(values: list[Any]) -> bool:
    """Return whether they are all names, or all whole numbers."""
    kinds = {type(value) for value in values}
    return (len(kinds) <= 1 and kinds <= {str, int, bool}) or all(map(_is_bit, values))


def _as_list(cell: str) -> list[Any] | None:
    """Return what a list holds, as JSON, Python or NumPy write it: `["a", "b"]`, `('a', 'b')`, `[0 1 1]`."""
    text = cell.strip()
    if text == "set()":
        return []
    if len(text) < 2 or len(text) > _LONGEST_LIST or (text[0], text[-1]) not in (("[", "]"), ("(", ")"), ("{", "}")):
        return None
    values = _parsed(text)
    if isinstance(values, set):
        return sorted(values, key=str)
    return list(values) if isinstance(values, list | tuple) else None


def _parsed(text: str) -> Any:
    """Return the value that a cell spells as JSON, Python or NumPy do; None where it is none."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return ast.literal_eval(_BETWEEN.sub(", ", text) if _SPACED.fullmatch(text) else text)
    return None


def _is_object(cell: str) -> bool:
    """Return whether a cell holds an object, or a list of objects."""
    if values := _as_list(cell):
        return isinstance(values[0], dict)
    text = cell.strip()
    if re.match(r"<\S+ object at 0x", text):
        return True
    return text.startswith("{") and text.endswith("}") and isinstance(_parsed(text), dict)
