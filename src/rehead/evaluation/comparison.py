"""Whether one classifier is better than another on the same test examples, or merely luckier."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

# Differences that chance alone makes less often than this are taken to be real.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two classifiers on the same n examples.

    Attributes:
        only_this, only_other: examples that one of them alone has right.
        p_value: of McNemar's test, exact and two-sided (McNemar, Psychometrika 12, 1947): how often chance would make
            two equally good classifiers differ so much on these examples.
        verdict: the same in plain words.
    """

    n: int
    only_this: int
    only_other: int
    p_value: float
    verdict: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    right: npt.NDArray[np.bool_], other_right: npt.NDArray[np.bool_], other: str, this: str = "language model"
) -> Comparison:
    """Compares a pretrained model with another classifier.

    Args:
        right, other_right: (n,) which examples each has right.
        other: what the other one is called, as in "TF-IDF + logistic regression".
        this: what kind of model the first one is.
    """
    only_this, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    p_value = float(binomtest(only_this, only_this + only_other).pvalue) if only_this + only_other else 1.0
    return Comparison(
        len(right), only_this, only_other, p_value, _verdict(only_this - only_other, p_value, other, this)
    )


def _verdict(more: int, p_value: float, other: str, this: str) -> str:
    told = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    if p_value >= SIGNIFICANT:
        return f"no evidence that the {this} helps here ({told}): use {other}, which costs next to nothing"
    if more > 0:
        return f"better than {other}, {told}"
    return f"worse than {other}, {told}: use {other}"
