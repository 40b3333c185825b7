"""What the training of blocks minimises: cross-entropy, a binary one where a text may have several labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Objective:
    """A loss for logits (n, n_classes) and labels as in `rehead.data.labels`.

    Attributes:
        weights: (n_classes,) of the classes; where a text may have several labels (2, n_classes), of not having a label
            and of having it.
        label_smoothing: share of each target that is spread over all classes (Szegedy et al., CVPR 2016, §7), or over
            yes and no.
    """

    weights: Tensor
    label_smoothing: float

    @classmethod
    def of(cls, labels: Tensor, n_classes: int, *, balanced: bool, label_smoothing: float) -> Objective:
        """Return the objective for these training examples.

        Args:
            balanced: let each class weigh the same; where a text may have several labels, as much as its absence.
        """
        if labels.dim() == 2:
            yes = labels.sum(0)
            counts = torch.stack([len(labels) - yes, yes])
            kinds = (counts > 0).sum(0)
        else:
            counts = torch.bincount(labels, minlength=n_classes)
            kinds = (counts > 0).sum()
        weights = len(labels) / (kinds * counts.clamp(min=1)) if balanced else torch.ones(counts.shape)
        return cls(weights, label_smoothing)

    @property
    def multilabel(self) -> bool:
        return self.weights.dim() == 2

    def without_smoothing(self) -> Objective:
        """Return the one by which weights are chosen, so that smoothing itself is not rewarded."""
        return replace(self, label_smoothing=0.0)

    def total(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the weighted losses; each is the mean over the classes where there may be several."""
        weights = self.weights.to(logits)
        if not self.multilabel:
            return nn.functional.cross_entropy(
                logits, labels, weight=weights, label_smoothing=self.label_smoothing, reduction="sum"
            )
        targets = labels.to(logits)
        smoothed = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(
            logits, smoothed, weight=torch.where(labels > 0, weights[1], weights[0]) / logits.shape[1], reduction="sum"
        )

    def weight_of(self, labels: Tensor) -> float:
        """Return what the total of these examples is divided by to be their mean."""
        return float(len(labels) if self.multilabel else self.weights[labels].sum())

    def mean(self, logits: Tensor, labels: Tensor) -> float:
        """Return the weighted mean loss."""
        return float(self.total(logits, labels)) / self.weight_of(labels)
