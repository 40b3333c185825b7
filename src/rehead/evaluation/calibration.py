"""Probabilities that mean what they say: temperature scaling (Guo et al., ICML 2017, §4.2)."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from rehead import likelihood
from rehead.data.labels import Labels

# The logarithm of the temperature is taken to be about 0, give or take this much, before any example is seen. Without
# that, a few validation examples that are all classified rightly would ask for temperature 0: certainty.
_PRIOR_DEVIATION = 0.5
_LARGEST_LOG = 3.0


def temperature(logits: npt.NDArray[np.floating], labels: Labels) -> float:
    """What logits (n, n_classes) are to be divided by, so that their probabilities are calibrated on these examples.

    It changes no prediction, since the largest logit stays the largest, and a positive one positive.

    Args:
        labels: (n,) or (n, n_classes), of examples that the classifier was not trained on.
    """
    values = logits.astype(np.float64)

    def negative_log_posterior(log_temperature: float) -> float:
        losses = likelihood.losses(values / np.exp(log_temperature), labels)
        return float(losses.sum() + log_temperature**2 / (2 * _PRIOR_DEVIATION**2))

    found = minimize_scalar(negative_log_posterior, bounds=(-_LARGEST_LOG, _LARGEST_LOG), method="bounded")
    return float(np.exp(found.x))


def at_temperature(
    probabilities: npt.NDArray[np.float64], factor: float, multilabel: bool = False
) -> npt.NDArray[np.float64]:
    """The probabilities of the same logits, had they been divided by so much more."""
    return likelihood.probabilities(likelihood.logits_of(probabilities, multilabel) / factor, multilabel)
