"""Say whether one classifier is better than another on the same test examples, or merely luckier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from rehead.evaluation.intervals import wilson
from rehead.runtime.results import Result
from rehead.runtime.wording import counted

# Differences that chance alone makes less often than this are taken to be real.
SIGNIFICANT = 0.05
# How often the examples that are asked for would show the difference, if it is what it seems to be.
_POWER = 0.8
# A difference that takes more than this many times the examples there are is as good as none: its own size is hardly
# known, and nobody labels that many for it.
_MOST_TIMES = 20


@dataclass(frozen=True)
class Comparison(Result):
    """Two classifiers on the same n examples.

    Attributes:
        n: examples.
        only_this, only_other: examples that one of them alone has right.
        p_value: of McNemar's test, exact and two-sided (McNemar, Psychometrika 12, 1947): how often chance would make
            two equally good classifiers differ so much on these examples.
        verdict: the same in plain words.
        difference: of the accuracies, the first one's minus the other's.
        interval: where that lies for all such examples, with 95 % confidence (see `paired_interval`); it holds 0
            exactly where the test does not rule out that the two are equally good.
        more_needed: further examples that would be likely to separate the two (see `examples_needed`), rounded to two
            digits; 0 where these do, None where no number is likely to.
    """

    n: int
    only_this: int
    only_other: int
    p_value: float
    verdict: str
    difference: float
    interval: tuple[float, float]
    more_needed: int | None


def compare(
    right: npt.NDArray[np.bool_],
    other_right: npt.NDArray[np.bool_],
    other: str,
    this: str = "language model",
    what: str = "texts",
    option: str | None = None,
) -> Comparison:
    """Compare a model with another classifier.

    One rule decides: McNemar's exact test. Newcombe's interval is a little narrower than that test, so where the test
    does not rule out 0 the interval reaches to 0 at least; the other way round the two never disagree.

    Args:
        right, other_right: (n,) which examples each has right.
        other: what the other one is called, as in "TF-IDF of words and characters + logistic regression".
        this: what kind of model the first one is.
        what: what the examples are, in the plural.
        option: of the command line, that gives the other one; None where none does.
    """
    n = len(right)
    both, neither = int((right & other_right).sum()), int((~right & ~other_right).sum())
    only_this, only_other = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    p_value = float(binomtest(only_this, only_this + only_other).pvalue) if only_this + only_other else 1.0
    difference, interval = (only_this - only_other) / n, paired_interval(both, only_this, only_other, neither)
    is_tie = p_value >= SIGNIFICANT
    if is_tie:
        interval = min(interval[0], 0.0), max(interval[1], 0.0)
    more = _further(n, only_this, only_other) if is_tie else 0
    measured = (
        f"difference {_points(difference)} points, 95 % interval {_points(interval[0])} to {_points(interval[1])}"
    )
    if is_tie:
        outlook = "no number of examples is likely to separate them"
        if more is not None:
            outlook = f"about {more:,} more would decide"
        verdict = f"a tie with {other} on {counted(n, what.removesuffix('s'))}; {measured}; {outlook}"
    else:
        chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        verdict = f"better than {other}, {chance}; {measured}"
        if difference < 0:
            cure = f"{other} ({option})" if option else other
            verdict = f"worse than {other}, {chance}; {measured}: use {cure} instead of the {this}"
    return Comparison(n, only_this, only_other, p_value, verdict, difference, interval, more)


def paired_interval(both: int, only_this: int, only_other: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two accuracies on the same examples.

    Each accuracy's Wilson interval, squared and added with the correlation of the two: as right for few examples and
    for accuracies close to 1 as a score interval.

    Args:
        both, only_this, only_other, neither: examples that both have right, and so on.

    Source:
        Newcombe, Statistics in Medicine 17, 1998, pages 2635-2650, method 10 (with the continuity-corrected phi).
    """
    n = both + only_this + only_other + neither
    first, second = both + only_this, both + only_other
    (low_first, high_first), (low_second, high_second) = (wilson(count, n) for count in (first, second))
    scale = math.sqrt(first * (n - first) * second * (n - second))
    excess = both * neither - only_this * only_other
    # Half of the examples is taken from a correlation above 0, which few examples exaggerate.
    phi = 0.0 if scale == 0 else (max(excess - n / 2, 0.0) if excess > 0 else float(excess)) / scale
    p, q = first / n, second / n

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a**2 - 2 * phi * a * b + b**2, 0.0))

    return p - q - reach(p - low_first, high_second - q), p - q + reach(high_first - p, q - low_second)


def examples_needed(only_this: float, only_other: float) -> float:
    """Return how many examples in all McNemar's test needs to show a difference four times out of five.

    n = (z_a sqrt(s) + z_b sqrt(s - d²))² / d², where s = p10 + p01 is the share of the examples that one classifier
    alone has right, d = p10 - p01 the difference, z_a = 1.96 the two-sided 5 % point and z_b = 0.84 that of a power of
    80 %. Infinite where there is no difference.

    Args:
        only_this, only_other: p10 and p01, shares of the examples.

    Source:
        Connor, Biometrics 43, 1987, pages 207-211; Miettinen, Biometrics 24, 1968, pages 339-352, before him.
    """
    discordant, difference = only_this + only_other, only_this - only_other
    if difference == 0:
        return math.inf
    two_sided, power = norm.ppf(1 - SIGNIFICANT / 2), norm.ppf(_POWER)
    root = two_sided * math.sqrt(discordant) + power * math.sqrt(max(discordant - difference**2, 0.0))
    return float(root / difference) ** 2


def _further(n: int, only_this: int, only_other: int) -> int | None:
    """Return how many examples are needed beside n, to two digits, if the shares stay; None if beyond all reason."""
    needed = examples_needed(only_this / n, only_other / n) - n
    if needed > _MOST_TIMES * n:
        return None
    more = max(math.ceil(needed), 1)
    step: int = 10 ** max(len(str(more)) - 2, 0)
    return math.ceil(more / step) * step


def _points(share: float) -> str:
    """Return a share in points with its sign; what rounds to 0 has none."""
    points = round(100 * share, 1)
    return f"{points:+.1f}" if points else "0.0"
