"""Turn logits into probabilities and losses.

Where each text has one label that is by a softmax over the classes, where it may have several by a sigmoid for each.
The shapes of labels are those of `rehead.data.labels`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rehead.data.labels import Labels, Weights, is_multilabel

Logits = npt.NDArray[np.floating]

# Stands for a probability that was rounded to 0.
_TINY = np.finfo(np.float64).tiny


def probabilities(logits: Logits, multilabel: bool) -> npt.NDArray[np.float64]:
    """Return probabilities of logits (n, n_classes) in float64; those of several labels need not add up to 1."""
    values = np.asarray(logits, dtype=np.float64)
    if multilabel:
        # Of positive and negative logits the form that does not overflow.
        odds = np.exp(-np.abs(values))
        of_each: npt.NDArray[np.float64] = np.where(values >= 0, 1.0, odds) / (1.0 + odds)
        return of_each
    odds = np.exp(values - values.max(axis=1, keepdims=True))
    of_all: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return of_all


def log_odds(logits: Logits, multilabel: bool) -> npt.NDArray[np.float64]:
    """Return log odds of each class against the rest, in float64, of logits (n, n_classes) of two classes or more."""
    values = np.asarray(logits, dtype=np.float64)
    if multilabel:
        return values
    from scipy.special import log_softmax, logsumexp  # takes longer to import than a few texts to score

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


def losses(logits: Logits, labels: Labels, weights: Weights | None = None) -> npt.NDArray[np.float64]:
    """Return (n,) the negative log likelihood of each example in nats: cross-entropy, or the mean binary one.

    Args:
        weights: (n,) that each is multiplied by; None for 1.
    """
    from scipy.special import log_expit, log_softmax

    values = np.asarray(logits, dtype=np.float64)
    plain: npt.NDArray[np.float64]
    if is_multilabel(labels):
        plain = -log_expit((2 * labels - 1) * values).mean(1)
    else:
        plain = -log_softmax(values, axis=1)[np.arange(len(labels)), labels]
    return plain if weights is None else plain * weights


def even_loss(labels: Labels) -> float:
    """Return what `losses` are of an example that is as likely as not to have the labels that it has, all of them."""
    return float(np.log(2)) / (labels.shape[1] if is_multilabel(labels) else 1)


def logits_of(probabilities: npt.NDArray[np.float64], multilabel: bool) -> npt.NDArray[np.float64]:
    """Return logits that have these probabilities."""
    logs = np.log(np.maximum(probabilities, _TINY))
    if not multilabel:
        return logs
    result: npt.NDArray[np.float64] = logs - np.log(np.maximum(1 - probabilities, _TINY))
    return result
