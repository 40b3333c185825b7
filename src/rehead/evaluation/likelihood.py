"""Turn logits into probabilities and losses.

Where each text has one label that is by a softmax over the classes, where it may have several by a sigmoid for each.
The shapes of labels are those of `rehead.data.labels`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, log_softmax, logsumexp
from scipy.special import softmax as scipy_softmax

from rehead.data.labels import Labels, is_multilabel

Logits = npt.NDArray[np.floating]

# Stands for a probability that was rounded to 0.
_TINY = np.finfo(np.float64).tiny


def probabilities(logits: Logits, multilabel: bool) -> npt.NDArray[np.float64]:
    """Return probabilities of logits (n, n_classes) in float64; those of several labels need not add up to 1."""
    values = np.asarray(logits, dtype=np.float64)
    result: npt.NDArray[np.float64] = expit(values) if multilabel else scipy_softmax(values, axis=1)
    return result


def log_odds(logits: Logits, multilabel: bool) -> npt.NDArray[np.float64]:
    """Return log odds of each class against the rest, in float64, of logits (n, n_classes) of two classes or more."""
    values = np.asarray(logits, dtype=np.float64)
    if multilabel:
        return values
    logs = log_softmax(values, axis=1)
    with np.errstate(divide="ignore"):  # of the most probable class, replaced below
        rest = np.log1p(-np.exp(logs))
    # 1 - p of that one would be rounding alone where it is nearly certain.
    first = logs.argmax(1)[:, None]
    others = logs.copy()
    np.put_along_axis(others, first, -np.inf, axis=1)
    np.put_along_axis(rest, first, logsumexp(others, axis=1, keepdims=True), axis=1)
    result: npt.NDArray[np.float64] = logs - rest
    return result


def losses(logits: Logits, labels: Labels) -> npt.NDArray[np.float64]:
    """Return (n,) the negative log likelihood of each example in nats: cross-entropy, or the mean binary one."""
    values = np.asarray(logits, dtype=np.float64)
    if is_multilabel(labels):
        signs = 2 * labels - 1
        of_several: npt.NDArray[np.float64] = -log_expit(signs * values).mean(1)
        return of_several
    of_one: npt.NDArray[np.float64] = -log_softmax(values, axis=1)[np.arange(len(labels)), labels]
    return of_one


def logits_of(probabilities: npt.NDArray[np.float64], multilabel: bool) -> npt.NDArray[np.float64]:
    """Return logits that have these probabilities."""
    logs = np.log(np.maximum(probabilities, _TINY))
    if not multilabel:
        return logs
    result: npt.NDArray[np.float64] = logs - np.log(np.maximum(1 - probabilities, _TINY))
    return result
