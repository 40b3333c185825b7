"""Train layers [cut, depth), final norm and head, from the token states kept at the cut or from the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rehead.data.labels import Weights
from rehead.evaluation.calibration import temperature
from rehead.models.backbone import Backbone
from rehead.models.forward_pass import batches, token_budget
from rehead.models.heads import Head, halves, is_family_head
from rehead.models.packing import Packing
from rehead.runtime import hardware
from rehead.training import loop
from rehead.training.features import training_flops
from rehead.training.inputs import Computed, Inputs, autocast
from rehead.training.loop import PORTION, Recipe
from rehead.training.objective import losses, total_weight


@dataclass(frozen=True)
class Tail:
    """The blocks [cut, depth) of a base with its head, and what of them is trained.

    Attributes:
        trained: holds the weights that change.
    """

    base: Backbone
    head: Head
    cut: int
    depth: int
    trained: nn.Module

    @classmethod
    def of_blocks(cls, base: Backbone, head: Head, cut: int, depth: int) -> Tail:
        """Train the layers from the cut on, the final norm and the head.

        Where the head reads frozen blocks too, the norm stays as it is: those states are kept as it made them.
        """
        norm = [base.norm] if head.reads[0] > cut else []
        return cls(base, head, cut, depth, nn.ModuleList([*base.layers[cut:depth], *norm, head]))

    @classmethod
    def of_everything(cls, base: Backbone, head: Head, depth: int) -> Tail:
        """Train the embedding too."""
        return cls(base, head, 0, depth, nn.ModuleList([base.body, head]))

    @classmethod
    def of_adapters(cls, adapted: Backbone, head: Head, depth: int, adapters: nn.ParameterList) -> Tail:
        """Train what stands beside the frozen weights, see `rehead.training.lora`, and the head."""
        return cls(adapted, head, 0, depth, nn.ModuleList([adapters, head]))

    def weights(self) -> list[nn.Parameter]:
        """Return what is trained, each once; unfreeze it, and freeze the rest."""
        return loop.unfrozen(self.trained, self.base.model)

    def forward(self, hidden: Tensor, packing: Packing, below: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Return logits (n, n_classes) float32; arguments as for `pooled`."""
        pooled = self.pooled(hidden, packing, below, recompute)
        with torch.autocast(hidden.device.type, enabled=False):
            logits: Tensor = self.head(pooled)
        return logits

    def pooled(self, hidden: Tensor, packing: Packing, below: Tensor | None = None, recompute: bool = False) -> Tensor:
        """Return what the head sees, (n, width) float32.

        Args:
            hidden: (T, hidden_size) packed states at the cut.
            below: (n, width) what the head reads of frozen layers, up to the cut.
            recompute: see `run_layers`.
        """
        pooling = self.head.pooling
        only = pooling if is_family_head(pooling) else None
        parts = halves(pooling, self.base.summary_position)
        seen = [] if below is None else [below.to(hidden.device)]
        hidden, packing = self.base.filled(hidden, packing)
        done = self.cut
        for stop in (read for read in self.head.reads if read > self.cut):
            hidden = self.base.run_layers(hidden, packing, done, stop, only=only, recompute=recompute)
            normed = self.base.normalise(hidden).float()
            seen += [normed] if only else [self.base.pooled(normed, packing, part) for part in parts]
            done = stop
        return torch.cat(seen, dim=1)

    def logits(self, inputs: Inputs) -> Tensor:
        """Return logits of n texts, (n, n_classes) float32 on the CPU, in evaluation mode and without gradients."""
        return self._evaluated(self.forward, inputs, self.head.linear.out_features)

    def features(self, inputs: Inputs) -> Tensor:
        """Return what the head sees of n texts, (n, width) float32, likewise."""
        n_parts = len(halves(self.head.pooling, self.base.summary_position))
        width = sum(n_parts * self.base.width_at(read) for read in self.head.reads)
        return self._evaluated(self.pooled, inputs, width)

    def _evaluated(
        self, compute: Callable[[Tensor, Packing, Tensor | None], Tensor], inputs: Inputs, width: int
    ) -> Tensor:
        device = self.to_device()
        result = torch.empty(len(inputs.lengths), width)
        self.base.train(False)
        order = torch.argsort(inputs.lengths, stable=True)
        with torch.inference_mode(), autocast(hardware.native_dtype() == torch.bfloat16):
            for places in batches(inputs.lengths[order], token_budget(self.base)):
                rows = order[places]
                packing = Packing(inputs.lengths[rows].to(device))
                below = None if inputs.below is None else inputs.below[rows]
                result[rows] = compute(inputs.hidden(rows, packing), packing, below).cpu()
        return result

    def to_device(self) -> torch.device:
        """Bring what is trained and what is frozen to where it is computed, and return where that is."""
        device = hardware.device()
        self.base.model.to(device)
        self.trained.to(device)
        return device


@dataclass(frozen=True)
class Labelled:
    """Inputs of n texts with their labels.

    Attributes:
        labels: (n,) or (n, n_classes) int64, see `rehead.data.labels`.
        weights: (n, 1) or (n, n_classes), see `rehead.training.weights`; None for equal ones.
        own_weights: (n,) those that the temperature is fitted with, whatever the classes; None likewise.
    """

    inputs: Inputs
    labels: Tensor
    weights: Weights | None = None
    own_weights: Weights | None = None


class TailTraining:
    """What any training of a tail has in common; most of what `rehead.training.loop.train` takes."""

    def __init__(self, tail: Tail, examples: Labelled, *, dropout: bool = False) -> None:
        self._tail, self._examples, self._dropout = tail, examples, dropout
        self._device = tail.to_device()
        self._recompute = activation_bytes(tail.base, tail.cut, tail.depth) > hardware.free_device_memory() / 2

    @property
    def lengths(self) -> Tensor:
        return self._examples.inputs.lengths

    def weights(self) -> list[nn.Parameter]:
        return self._tail.weights()

    def switch(self, *, training: bool) -> None:
        self._tail.base.train(training and self._dropout)

    def passed(self, compute: Callable[[Tensor, Packing, Tensor | None, bool], Tensor], rows: Tensor) -> Tensor:
        """Return what `Tail.forward` or `Tail.pooled` makes of some examples, with gradients."""
        inputs = self._examples.inputs
        packing = Packing(inputs.lengths[rows].to(self._device))
        with autocast(hardware.native_dtype() == torch.bfloat16):
            below = None if inputs.below is None else inputs.below[rows]
            return compute(inputs.hidden(rows, packing), packing, below, self._recompute)

    def labels(self, rows: Tensor) -> Tensor:
        """Return the labels of some examples, where the tail is computed."""
        return self._examples.labels[rows].to(self._device)

    def flops_an_epoch(self) -> float:
        tail = self._tail
        kept = not isinstance(self._examples.inputs, Computed)
        return training_flops(tail.base, tail.base.tokens_of(self.lengths), tail.cut, tail.depth, kept=kept)


class Classification(TailTraining):
    """A tail that learns the labels of texts; what `rehead.training.loop.train` takes."""

    def __init__(self, tail: Tail, examples: Labelled, validation: Labelled, recipe: Recipe) -> None:
        super().__init__(tail, examples, dropout=recipe.dropout)
        self._validation, self._label_smoothing = validation, recipe.label_smoothing
        self._weights = _weights(examples)

    def weight_of(self, rows: Tensor) -> float:
        return total_weight(self._weights[rows])

    def loss(self, rows: Tensor) -> Tensor:
        logits = self.passed(self._tail.forward, rows)
        return losses(logits, self.labels(rows), self._weights[rows], self._label_smoothing).sum()

    def validation_losses(self) -> Tensor:
        """Return the losses after calibration: a network that trains on grows surer of itself than it gets better.

        Without smoothing, which is not to be rewarded itself.
        """
        logits, held_out = self._tail.logits(self._validation.inputs).double(), self._validation
        if bool(logits.isfinite().all()):
            logits /= temperature(logits.numpy(), held_out.labels.numpy(), held_out.own_weights)
        weights = _weights(held_out)
        return losses(logits, held_out.labels, weights) * (len(weights) / total_weight(weights))


def _weights(examples: Labelled) -> Tensor:
    """Return those of the examples as a tensor, (n, 1) or (n, n_classes) float64."""
    return (
        torch.ones(len(examples.labels), 1).double() if examples.weights is None else torch.from_numpy(examples.weights)
    )


def activation_bytes(base: Backbone, cut: int, depth: int) -> float:
    """Estimate the bytes of a portion's activations until its backward pass: in and out of each layer, 6 a value."""
    widths = sum(max(weight.shape) for block in base.layers[:1] for weight in block.parameters())
    return 6.0 * PORTION * widths * (depth - cut)
