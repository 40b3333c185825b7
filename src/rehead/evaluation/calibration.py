"""Probabilities that mean what they say: temperature scaling (Guo et al., ICML 2017, §4.2)."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from rehead.data.examples import Index

# The logarithm of the temperature is taken to be about 0, give or take this much, before any example is seen. Without
# that, a few validation examples that are all classified rightly would ask for temperature 0: certainty.
_PRIOR_DEVIATION = 0.5
_LARGEST_LOG = 3.0
# Stands for a probability that was rounded to 0.
_TINY = np.finfo(np.float64).tiny


def temperature(logits: npt.NDArray[np.floating], labels: Index) -> float:
    """What logits (n, n_classes) are to be divided by, so that their softmax is calibrated on these examples.

    It changes no prediction, since the largest logit stays the largest.

    Args:
        labels: (n,) class ids of examples that the classifier was not trained on.
    """
    values = logits.astype(np.float64)
    rows = np.arange(len(labels))

    def negative_log_posterior(log_temperature: float) -> float:
        likelihoods = log_softmax(values / np.exp(log_temperature), axis=1)[rows, labels]
        return float(-likelihoods.sum() + log_temperature**2 / (2 * _PRIOR_DEVIATION**2))

    found = minimize_scalar(negative_log_posterior, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded")
    return float(np.exp(found.x))


def at_temperature(probabilities: npt.NDArray[np.float64], factor: float) -> npt.NDArray[np.float64]:
    """The softmax of the same logits, had they been divided by so much more."""
    result: npt.NDArray[np.float64] = softmax(np.log(np.maximum(probabilities, _TINY)) / factor, axis=1)
    return result
