"""Labels as arrays, in two shapes: (n,) int64 class ids where each text has one label, and (n, n_classes) int64 of 0
and 1 where a text may have several, or none. What follows differs by shape, and is the same to whoever calls it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
