"""Labels as arrays, in two shapes: (n,) int64 class ids where each text has one label, and (n, n_classes) int64 of 0
and 1 where a text may have several, or none. What follows differs by shape, and is the same to whoever calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.runtime.errors import DataError

Labels = npt.NDArray[np.int64]

# Of a class that is a decision for itself, this probability and more is a yes.
EVEN = 0.5


def is_multilabel(labels: Labels) -> bool:
    """Whether a text may have several labels."""
    return labels.ndim == 2


def of_class(labels: Labels, label: int) -> npt.NDArray[np.bool_]:
    """(n,) bool: which examples have the label."""
    return labels[:, label] > 0 if is_multilabel(labels) else labels == label


def class_counts(labels: Labels, n_classes: int) -> Labels:
    """(n_classes,) int64: how many examples have each label."""
    counts: Labels = labels.sum(0) if is_multilabel(labels) else np.bincount(labels, minlength=n_classes)
    return np.asarray(counts, dtype=np.int64)


def as_indicator(labels: Labels, n_classes: int) -> npt.NDArray[np.float64]:
    """(n, n_classes) float64: 1 for each label that an example has."""
    return labels.astype(np.float64) if is_multilabel(labels) else np.eye(n_classes)[labels]


def combinations(labels: Labels) -> npt.NDArray[np.int64]:
    """(n,) int64: the same number for examples that have exactly the same labels."""
    if not is_multilabel(labels):
        return labels
    _, numbers = np.unique(labels, axis=0, return_inverse=True)
    return np.asarray(numbers.reshape(-1), dtype=np.int64)


def strata(labels: Labels) -> npt.NDArray[np.int64]:
    """(n,) int64: the class that a split is to spread an example by: its own, or the rarest of several.

    An example without a label belongs to a stratum of its own kind.
    """
    if not is_multilabel(labels):
        return labels
    counts = labels.sum(0)
    rarity = np.where(labels > 0, counts, np.iinfo(np.int64).max)
    return np.asarray(np.where(labels.any(1), rarity.argmin(1), labels.shape[1]), dtype=np.int64)


def most_probable(probabilities: npt.NDArray[np.floating], multilabel: bool) -> Labels:
    """Labels for probabilities (n, n_classes): the most probable one, or all that are as probable as not."""
    chosen: Labels = (probabilities >= EVEN).astype(np.int64) if multilabel else probabilities.argmax(1)
    return chosen


def are_right(labels: Labels, predicted: Labels) -> npt.NDArray[np.bool_]:
    """(n,) bool: where the prediction is the label; where it is all of the labels and nothing else."""
    same: npt.NDArray[np.bool_] = labels == predicted
    return np.asarray(same.all(1)) if is_multilabel(labels) else same


def classes_among(y: Sequence[Any]) -> tuple[npt.NDArray[Any], Labels]:
    """Return the classes among labels as `Classifier.fit` takes them, and the labels as they are kept here.

    Raises:
        DataError: they are no labels.
    """
    if getattr(y, "ndim", 1) == 2 and np.shape(y)[1] > 1:
        indicator = np.asarray(y)
        if not np.isin(indicator, (0, 1)).all():
            raise DataError("y has more than one column and holds other numbers than 0 and 1; give one label a text")
        return np.arange(indicator.shape[1]), indicator.astype(np.int64)
    if len(y) and all(isinstance(value, list | tuple | set | frozenset) for value in y):
        classes = np.unique([label for labels in y for label in labels])
        if not len(classes):
            raise DataError("y holds no label at all; give each text those that it has")
        return classes, np.stack([np.isin(classes, list(labels)) for labels in y]).astype(np.int64)
    classes, ids = np.unique(np.asarray(y).ravel(), return_inverse=True)
    return classes, ids.astype(np.int64)


def restored(labels: tuple[str, ...], kind: str) -> npt.NDArray[Any]:
    """Return labels in the type that they were given in: numpy's kind of whole number, float, truth value or text."""
    if kind == "b":
        return np.array([label == "True" for label in labels])
    return np.array(labels).astype({"i": np.int64, "u": np.uint64, "f": np.float64}.get(kind, np.str_))
