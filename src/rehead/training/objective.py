"""What the training of layers minimises: cross-entropy, a binary one where a text may have several labels."""

from __future__ import annotations

from torch import Tensor, nn


def losses(logits: Tensor, labels: Tensor, weights: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return (n,) the examples' weighted losses; each is the mean over the classes where there may be several.

    Args:
        logits: (n, n_classes).
        labels: as in `rehead.data.labels`.
        weights: (n, 1), or (n, n_classes) where a text may have several labels.
        label_smoothing: share of each target that is spread over all classes (Szegedy et al., CVPR 2016, §7), or over
            yes and no.
    """
    if labels.dim() == 1:
        of_one = nn.functional.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
        return of_one * weights[:, 0].to(logits)
    smoothed = labels.to(logits) * (1 - label_smoothing) + label_smoothing / 2
    of_several = nn.functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    return (of_several * weights.to(logits)).mean(1)


def total_weight(weights: Tensor) -> float:
    """Return what the sum of the losses of examples with these weights is divided by to be their mean."""
    return float(weights.mean(1).sum())
