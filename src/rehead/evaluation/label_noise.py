"""Find labels that are probably wrong: confident learning (Northcutt et al., JAIR 70, 2021, §3)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Index
from rehead.data.labels import Labels, is_multilabel


@dataclass(frozen=True)
class Ranking:
    """All n examples, the most suspicious label first.

    Attributes:
        order: (n,) positions.
        margin: (n,) in the order of the examples: probability of the label, less that of the most probable other one.
            From -1, surely wrong, to 1, surely right.
        suggested: (n,) the most probable other label; where a text may have several, (n, n_classes) its labels with
            the suspected ones turned, or the most suspicious one where none is suspected.
        is_suspected: (n,) bool: another class is as probable as it is, on average, for examples that have that label.
    """

    order: Index
    margin: npt.NDArray[np.float64]
    suggested: Labels
    is_suspected: npt.NDArray[np.bool_]


def rank(probabilities: npt.NDArray[np.float64], labels: Labels) -> Ranking:
    """Rank labels by how little the probabilities agree with them.

    Where a text may have several labels, each class is a decision for itself, to have the label or not, and the most
    suspicious one counts (Thyagarajan et al., Identifying Incorrect Annotations in Multi-Label Classification Data,
    2022, §3).

    Args:
        probabilities: (n, n_classes), each from a classifier that has not learned from the example.
        labels: (n,) class ids, or (n, n_classes) of 0 and 1.
    """
    return _rank_several(probabilities, labels) if is_multilabel(labels) else _rank_one(probabilities, labels)


def _rank_one(probabilities: npt.NDArray[np.float64], labels: Index) -> Ranking:
    rows = np.arange(len(labels))
    of_label = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1.0
    suggested = others.argmax(1)
    margin = of_label - others[rows, suggested]
    # How sure the classifier is of a class, on average, where that class is the label (§3.1, equation 2).
    confidence = np.array(
        [
            probabilities[labels == label, label].mean() if (labels == label).any() else np.inf
            for label in range(probabilities.shape[1])
        ]
    )
    confident = np.where(probabilities >= confidence, probabilities, -1.0)
    is_suspected = (confident.max(1) >= 0) & (confident.argmax(1) != labels)
    return Ranking(np.argsort(margin, kind="stable"), margin, suggested.astype(np.int64), is_suspected)


def _rank_several(probabilities: npt.NDArray[np.float64], labels: Labels) -> Ranking:
    rows = np.arange(len(labels))
    margins = np.empty(labels.shape)
    suspected = np.empty(labels.shape, dtype=np.bool_)
    for label in range(labels.shape[1]):
        yes = probabilities[:, label]
        of_class = _rank_one(np.stack([1 - yes, yes], axis=1), labels[:, label])
        margins[:, label], suspected[:, label] = of_class.margin, of_class.is_suspected
    worst = margins.argmin(1)
    margin = margins[rows, worst]
    is_suspected = np.asarray(suspected.any(1))
    turned = suspected.copy()
    turned[~is_suspected, worst[~is_suspected]] = True
    suggested = np.where(turned, 1 - labels, labels)
    return Ranking(np.argsort(margin, kind="stable"), margin, suggested, is_suspected)
