"""Train layers so that texts of one class lie together: supervised contrastive learning, for few examples.

With some dozens of examples a head has too little to learn from for what it would need; which examples belong together
says more, since there are many more pairs than examples (Tunstall et al., SetFit, arXiv 2209.11055). Here all pairs of
a batch are learned from at once, by the loss of Khosla et al., NeurIPS 2020, equation 2, so that a few dozen steps over
kept states do what SetFit does with thousands of pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from rehead import hardware
from rehead.bases.packing import Packing
from rehead.training.features import training_flops
from rehead.training.inputs import Computed, autocast
from rehead.training.tail import Labelled, Tail

# Of an example with itself, which is no pair; finite, so that a batch of one has a gradient of 0.
_NOT_SIMILAR = -1e9
# Similarities are cosines divided by this, as in the paper.
_TEMPERATURE = 0.1


class Contrastive:
    """A tail that learns which texts are of the same class; what `rehead.training.loop.train` takes.

    The head is not trained: it is solved afterwards, on the features that the trained layers give.
    """

    def __init__(self, tail: Tail, examples: Labelled, *, dropout: bool) -> None:
        self._tail, self._examples, self._dropout = tail, examples, dropout
        self._device = tail.to_device()

    @property
    def lengths(self) -> Tensor:
        return self._examples.inputs.lengths

    def weights(self) -> list[nn.Parameter]:
        head = {id(weight) for weight in self._tail.head.parameters()}
        weights = self._tail.weights()
        for weight in weights:
            weight.requires_grad_(id(weight) not in head)
        return [weight for weight in weights if id(weight) not in head]

    def switch(self, *, training: bool) -> None:
        self._tail.base.train(training and self._dropout)

    def weight_of(self, rows: Tensor) -> float:
        return float(len(rows))

    def loss(self, rows: Tensor) -> Tensor:
        inputs = self._examples.inputs
        packing = Packing(inputs.lengths[rows].to(self._device))
        with autocast(hardware.native_dtype() == torch.bfloat16):
            below = None if inputs.below is None else inputs.below[rows]
            features = self._tail.pooled(inputs.hidden(rows, packing), packing, below)
        return contrastive_losses(features, self._examples.labels[rows].to(self._device)).sum()

    def validation_loss(self) -> float:
        """Return the loss of the training examples: there are too few others to say when to stop."""
        features = self._tail.features(self._examples.inputs)
        return float(contrastive_losses(features, self._examples.labels).mean())

    def flops_an_epoch(self) -> float:
        tail = self._tail
        kept = not isinstance(self._examples.inputs, Computed)
        return training_flops(tail.base, tail.base.tokens_of(self.lengths), tail.cut, tail.depth, kept=kept)

    def finish(self) -> None:
        self._tail.base.model.requires_grad_(False)
        self._tail.head.requires_grad_(False)


def contrastive_losses(features: Tensor, labels: Tensor) -> Tensor:
    """Return (n,) how badly each example tells those of its class from the others; 0 where it has no other.

    Args:
        features: (n, width).
        labels: (n,) class ids.

    Source: Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """
    directions = normalize(features.float(), dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similar = (directions @ directions.T / _TEMPERATURE).masked_fill(itself, _NOT_SIMILAR)
    alike = (labels[:, None] == labels) & ~itself
    log_shares = similar - torch.logsumexp(similar, dim=1, keepdim=True)
    return -log_shares.masked_fill(~alike, 0.0).sum(1) / alike.sum(1).clamp(min=1)
