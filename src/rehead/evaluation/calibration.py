"""Make probabilities mean what they say: temperature scaling (Guo et al., ICML 2017, §4.2), of two classifiers too."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from rehead.data.labels import Labels, Weights, strata
from rehead.data.splits import folds
from rehead.evaluation import likelihood

# The logarithm of the temperature is taken to be about 0, give or take this much, before any example is seen. Without
# that, a few validation examples that are all classified rightly would ask for temperature 0: certainty.
_PRIOR_DEVIATION = 0.5
_LARGEST_LOG = 3.0
# The second classifier's factor is taken to be about 0 likewise, give or take this much.
_FACTOR_DEVIATION = 1.0
_LARGEST_FACTOR = 5.0
# Parts of the examples that a mixture is judged on, each with factors that were fitted to the others.
_PARTS = 5


def temperature(logits: npt.NDArray[np.floating], labels: Labels, weights: Weights | None = None) -> float:
    """Return what logits (n, n_classes) are divided by for calibrated probabilities of these examples.

    It changes no prediction, since the largest logit stays the largest, and a positive one positive.

    Args:
        labels: (n,) or (n, n_classes), of examples that the classifier was not trained on.
        weights: (n,) how much each of them counts; None where all count the same.
    """
    values = logits.astype(np.float64)

    def negative_log_posterior(log_temperature: float) -> float:
        losses = likelihood.losses(values / np.exp(log_temperature), labels, weights)
        return float(losses.sum() + log_temperature**2 / (2 * _PRIOR_DEVIATION**2))

    found = minimize_scalar(negative_log_posterior, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded")
    return float(np.exp(found.x))


def calibrated_losses(
    logits: npt.NDArray[np.floating], labels: Labels, weights: Weights | None = None
) -> npt.NDArray[np.float64]:
    """Return (n,) the log loss of each example after calibration, by which classifiers are compared.

    A network that has trained on is surer of itself than it should be, however much better it has become; its
    uncalibrated loss says that it got worse.

    Args:
        weights: (n,) how much each counts, which its loss is multiplied by; None where all count the same.
    """
    values = logits.astype(np.float64)
    return likelihood.losses(values / temperature(values, labels, weights), labels, weights)


class Mixture(NamedTuple):
    """The factors of two classifiers' logits before they are added: 1 / `divisor` and `factor`."""

    divisor: float
    factor: float

    def of(self, first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the mixed logits, (n, n_classes) float64."""
        mixed: npt.NDArray[np.float64] = first.astype(np.float64) / self.divisor
        return mixed + self.factor * second.astype(np.float64) if self.factor else mixed


class Stacking(NamedTuple):
    """A mixture of two classifiers, and its losses.

    Attributes:
        mixture: fitted to all examples.
        losses: (n,) log loss of each example, by numbers that were fitted to other examples; where there are too few to
            divide, to all of them.
    """

    mixture: Mixture
    losses: npt.NDArray[np.float64]


def stacking(
    first: npt.NDArray[np.floating],
    second: npt.NDArray[np.floating],
    labels: Labels,
    seed: int = 0,
    weights: Weights | None = None,
) -> Stacking:
    """Return how to add the logits of two classifiers, or to leave the second out where it does not help.

    Two numbers are fitted by maximum a posteriori likelihood. Whether the second classifier helps is judged by parts of
    the examples in turn, with numbers that were fitted to the other parts (stacking: Wolpert, Neural Networks 5, 1992).

    Args:
        first, second: (n, n_classes) logits of examples that neither classifier was trained on; finite.
        labels: (n,) or (n, n_classes).
        seed: of the parts.
        weights: (n,) as of `calibrated_losses`.
    """
    alone = Mixture(temperature(first, labels, weights), 0.0)
    if len(labels) < 2 * _PARTS:
        return Stacking(alone, likelihood.losses(alone.of(first, second), labels, weights))
    counts = np.ones(len(labels)) if weights is None else weights
    losses, mixed = np.empty(len(labels)), np.empty(len(labels))
    for split in folds(strata(labels), _PARTS, seed):
        fitted, judged = np.concatenate([split.train, split.validation]), split.test
        one = Mixture(temperature(first[fitted], labels[fitted], counts[fitted]), 0.0)
        both = _fitted(first[fitted], second[fitted], labels[fitted], counts[fitted])
        losses[judged] = likelihood.losses(one.of(first[judged], second[judged]), labels[judged], counts[judged])
        mixed[judged] = likelihood.losses(both.of(first[judged], second[judged]), labels[judged], counts[judged])
    gain = losses - mixed
    # A tie is decided for the simpler classifier; half a standard error, as where the depth is chosen.
    if second.any() and gain.mean() > 0.5 * gain.std(ddof=1) / np.sqrt(len(gain)):
        return Stacking(_fitted(first, second, labels, counts), mixed)
    return Stacking(alone, losses)


def _fitted(
    first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], labels: Labels, weights: Weights
) -> Mixture:
    def negative_log_posterior(numbers: npt.NDArray[np.float64]) -> float:
        log_divisor, factor = numbers
        mixture = Mixture(float(np.exp(log_divisor)), float(factor))
        losses = likelihood.losses(mixture.of(first, second), labels, weights)
        prior = (log_divisor / _PRIOR_DEVIATION) ** 2 + (factor / _FACTOR_DEVIATION) ** 2
        return float(losses.sum() + prior / 2)

    bounds = [(-_LARGEST_LOG, _LARGEST_LOG), (0.0, _LARGEST_FACTOR)]
    found = minimize(negative_log_posterior, np.array([0.0, 0.3]), bounds=bounds, method="L-BFGS-B")
    return Mixture(float(np.exp(found.x[0])), float(found.x[1]))


def at_temperature(
    probabilities: npt.NDArray[np.float64], factor: float, multilabel: bool = False
) -> npt.NDArray[np.float64]:
    """Return the probabilities of the same logits divided by a further factor."""
    return likelihood.probabilities(likelihood.logits_of(probabilities, multilabel) / factor, multilabel)
