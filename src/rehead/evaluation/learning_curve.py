"""Estimate what more labels would bring: errors at several numbers of them, and the power law through these.

That errors fall as a power of the number of examples is an observation made in many fields (Hestness et al., arXiv
1712.00409); how far it can be drawn out is shown by an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from rehead.runtime.results import Result

_RESAMPLES = 200
_LEVEL = 0.8
_SEED = 0
# Errors this much smaller are what "a point" means.
_POINT = 0.01
# More labels than this many times those at hand are beyond what the curve can show.
_REACH = 10


@dataclass(frozen=True)
class Curve(Result):
    """Errors by number of training examples, and what more of them would bring.

    Attributes:
        sizes: numbers of training examples, rising.
        errors: of each the shares of wrong predictions, one a repetition.
        mean_errors: of each the mean of these.
        more: how many labels more would lower the error by a point, about; None where none or too many would.
        more_between: the interval of that in four of five resamples; None for an end that is out of reach.
        verdict: the same in words.
    """

    sizes: list[int]
    errors: list[list[float]]
    mean_errors: list[float]
    more: int | None
    more_between: tuple[int | None, int | None]
    verdict: str


def fit_curve(sizes: Sequence[int], errors: Sequence[Sequence[float]], n: int) -> Curve:
    """Draw the power law and read off it what more labels would bring.

    Args:
        sizes: numbers of training examples, rising, three or more.
        errors: of each the errors of one or more repetitions.
        n: labels at hand.
    """
    generator = np.random.default_rng(_SEED)
    mean = np.array([np.mean(values) for values in errors])
    more = _more(np.array(sizes, np.float64), mean, n)
    drawn = []
    for _ in range(_RESAMPLES):
        again = np.array([np.mean(generator.choice(values, len(values))) for values in errors])
        drawn.append(_more(np.array(sizes, np.float64), again, n))
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="closest_observation")
    between = _within_reach(float(low), n), _within_reach(float(high), n)
    likely = _within_reach(more, n)
    return Curve(
        sizes=list(sizes),
        errors=[list(map(float, values)) for values in errors],
        mean_errors=mean.tolist(),
        more=likely,
        more_between=between,
        verdict=_verdict(likely, between, n),
    )


def _more(sizes: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], n: int) -> float:
    """Return how many labels more lower the error at n by a point; infinite where the curve never falls as far."""

    def residuals(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        floor, scale, power = parameters
        result: npt.NDArray[np.float64] = floor + scale * sizes**-power - errors
        return result

    start = (max(0.0, float(errors[-1]) * 0.5), max(1e-3, float(errors[0])) * math.sqrt(sizes[0]), 0.5)
    bounds = ([0.0, 0.0, 0.05], [1.0, np.inf, 2.0])
    _, scale, power = least_squares(residuals, start, bounds=bounds).x
    target = scale * n**-power - _POINT
    return math.inf if target <= 0 else float((scale / target) ** (1 / power) - n)


def _within_reach(more: float, n: int) -> int | None:
    return None if not math.isfinite(more) or more > _REACH * n else max(1, round(more))


def _verdict(more: int | None, between: tuple[int | None, int | None], n: int) -> str:
    if more is None:
        return f"more labels of the same kind would hardly help: ten times the {n:,} at hand would not bring a point"
    low, high = ("many" if end is None else f"{_rounded(end):,}" for end in between)
    return f"about {_rounded(more):,} more labels for 1 point ({low} to {high}), beside the {n:,} at hand"


def _rounded(number: int) -> int:
    """Return a number to two digits: it is an estimate."""
    digits = max(0, len(str(number)) - 2)
    return int(round(number, -digits))
