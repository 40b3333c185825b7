"""Which labels are probably wrong: confident learning (Northcutt et al., Confident Learning, JAIR 70, 2021, §3)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Index


@dataclass(frozen=True)
class Ranking:
    """All n examples, the most suspicious label first.

    Attributes:
        order: (n,) positions.
        margin: (n,) in the order of the examples: probability of the label that is given, less that of the most
            probable other one. From -1, surely wrong, to 1, surely right.
        suggested: (n,) the most probable other label.
        is_suspected: (n,) bool: another class is as probable as it is, on average, for examples that have that label.
    """

    order: Index
    margin: npt.NDArray[np.float64]
    suggested: Index
    is_suspected: npt.NDArray[np.bool_]


def rank(probabilities: npt.NDArray[np.float64], labels: Index) -> Ranking:
    """Ranks labels by how little the probabilities agree with them.

    Args:
        probabilities: (n, n_classes), each from a classifier that has not seen the example's label.
        labels: (n,) class ids as given.
    """
    rows = np.arange(len(labels))
    given = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -1.0
    suggested = others.argmax(1)
    margin = given - others[rows, suggested]
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
