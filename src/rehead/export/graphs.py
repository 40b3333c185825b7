"""A classifier as one module from padded batches to logits: what an ONNX graph is made of.

It runs the plain Transformers backbone with its padding, not rehead's packed layers, so that comparing the two proves
both. It reads the states after a layer where they leave it, because what Transformers calls hidden states is before the
final norm in one family and behind it in another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rehead.evaluation.baselines import Baselines
from rehead.models.backbone import Backbone
from rehead.models.heads import OVERWHELMING, Head, halves
from rehead.models.text_backbone import TextBackbone
from rehead.models.vision_backbone import VisionBackbone

# By name of an input, and axis: what that axis is called where it may have any length.
Axes = dict[str, dict[int, str]]


class NgramGraph(nn.Module):
    """Known n-grams of texts → the logits of the regression that stands beside a head.

    Args:
        factor: what its logits are multiplied by.
    """

    def __init__(self, baselines: Baselines, factor: float) -> None:
        super().__init__()
        weight = baselines.weight
        if not len(weight):  # it knows no n-gram at all, and padding needs a row to point at
            weight = np.zeros((1, weight.shape[1]), dtype=np.float32)
        self.weight = nn.Parameter(torch.from_numpy(weight), requires_grad=False)
        self.bias = nn.Parameter(torch.from_numpy(baselines.bias), requires_grad=False)
        self._factor = factor

    def forward(self, ngram_ids: Tensor, ngram_values: Tensor) -> Tensor:
        """
        Args:
            ngram_ids: (n, m) int64, rows of the matrix of weights; where a text has fewer, any row.
            ngram_values: (n, m) float32, how much each counts; 0 where a text has fewer.

        Returns:
            (n, n_classes) float32 logits, to be added to the head's.
        """
        rows = nn.functional.embedding(ngram_ids, self.weight)
        logits = (ngram_values.unsqueeze(1) @ rows).squeeze(1) + self.bias
        return self._factor * logits.clamp(-OVERWHELMING, OVERWHELMING)


class TextGraph(nn.Module):
    """Token ids and their mask → logits, with those of n-grams added where they stand beside the head."""

    def __init__(self, base: TextBackbone, head: Head, beside: NgramGraph | None = None) -> None:
        super().__init__()
        self.backbone, self.head, self.beside = base.body, head, beside
        self._base, self._parts = base, halves(head.pooling, base.summary_position)
        self._causal = base.family.causal
        self._padding = int(base.tokenizer.pad_token_id)
        # Where a token may look at nothing, as padding beyond a window, the other kernels give nan, and 0 · nan is nan.
        self.backbone.set_attn_implementation("eager")

    @property
    def axes(self) -> Axes:
        axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
        if self.beside is not None:
            axes |= {name: {0: "batch", 1: "ngrams"} for name in ("ngram_ids", "ngram_values")}
        return axes

    def examples(self) -> dict[str, Tensor]:
        """Return inputs of the smallest shape that leaves the axes open: one of length 1 would be taken for fixed."""
        examples = {name: torch.ones(2, 3, dtype=torch.int64) for name in ("input_ids", "attention_mask")}
        if self.beside is not None:
            examples |= {"ngram_ids": torch.zeros(2, 4, dtype=torch.int64), "ngram_values": torch.zeros(2, 4)}
        return examples

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        ngram_ids: Tensor | None = None,
        ngram_values: Tensor | None = None,
    ) -> Tensor:
        """
        Args:
            input_ids: (n, length) int64, padded on the right.
            attention_mask: (n, length) int64, 1 for a text's tokens and 0 for padding.
            ngram_ids, ngram_values: as `NgramGraph` takes them, where one stands beside the head.

        Returns:
            (n, n_classes) float32 logits.
        """
        real = self._real(input_ids, attention_mask)
        states = [self._base.normalise(each) for each in self._read(input_ids, real.long())]
        pooled = [_pooled(each, real, part) for each in states for part in self._parts]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))
        return logits if self.beside is None else logits + self.beside(ngram_ids, ngram_values)

    def _real(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(n, length) bool: the tokens that rehead would see of each text, see `rehead.models.tokenization.encode`: at
        least one, and of a decoder none of the padding tokens that a text itself may end with.
        """
        seen = attention_mask != 0
        if self._causal:
            seen = seen & (input_ids != self._padding)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        lengths = ((places + 1) * seen).amax(1).clamp(min=1)
        return places < lengths.unsqueeze(1)

    def _read(self, input_ids: Tensor, mask: Tensor) -> list[Tensor]:
        """States (n, length, hidden_size) after each of the layers that the head reads."""
        states: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        hooks = [self._base.layers[depth - 1].register_forward_hook(keep) for depth in self.head.reads]
        try:
            self.backbone(input_ids=input_ids, attention_mask=mask, **({"use_cache": False} if self._causal else {}))
        finally:
            for hook in hooks:
                hook.remove()
        return states


def _pooled(states: Tensor, real: Tensor, pooling: str) -> Tensor:
    """(n, length, width) → (n, width), over the tokens that are no padding."""
    if pooling == "mean":
        return (states * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True)
    if pooling == "last":
        return states[torch.arange(states.shape[0], device=states.device), real.sum(1) - 1]
    return states[:, {"cls": 0}[pooling]]


class ImageGraph(nn.Module):
    """Pixels → logits."""

    def __init__(self, base: VisionBackbone, head: Head) -> None:
        super().__init__()
        # What predicts in rehead, too: batch norms are folded into the convolutions.
        self._base = base.with_products_in(torch.float32)
        self.model, self.head = self._base.model, head
        self._parts = halves(head.pooling, base.summary_position)

    @property
    def axes(self) -> Axes:
        return {"pixel_values": {0: "batch"}}

    def examples(self) -> dict[str, Tensor]:
        """Return inputs of the smallest shape that leaves the axes open."""
        side = self._base.transform.size
        return {"pixel_values": torch.zeros(2, 3, side, side)}

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(n, 3, size, size) float32 → (n, n_classes) float32 logits."""
        family, pooled = self._base.family, []
        states = family.embed(self._base.body, pixel_values)
        for depth, layer in enumerate(self._base.layers[: self.head.reads[-1]], start=1):
            states = family.layer(layer, states)
            if depth in self.head.reads:
                pooled += [self._pooled(states, part) for part in self._parts]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))
        return logits

    def _pooled(self, states: Tensor, pooling: str) -> Tensor:
        if self._base.family.maps:
            return states.mean((2, 3))
        normed = self._base.normalise(states)
        if pooling == "mean":
            return normed[:, self._base.family.prefix :].mean(1)
        return normed[:, {"cls": 0}[pooling]]


def graph_of(base: Backbone, head: Head, beside: tuple[Baselines, float] | None = None) -> TextGraph | ImageGraph:
    """Return the module, in evaluation mode on the CPU.

    Args:
        beside: the regression on n-grams that stands beside the head, and its factor; None where none does.
    """
    if isinstance(base, VisionBackbone):
        return ImageGraph(base, head).eval().to("cpu")
    assert isinstance(base, TextBackbone)
    graph = TextGraph(base, head, NgramGraph(*beside) if beside else None)
    return graph.eval().to("cpu")
