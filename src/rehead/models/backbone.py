"""Say what a backbone is: a pretrained model that can be run from any of its layers to any other.

Three methods compose to the unmodified Transformers model, for every family and however the layers are divided:
`backbone.normalise(backbone.run_layers(backbone.embed(inputs, packing), packing, 0, n))` is its last hidden state
(tests/models/test_equivalence.py). `TextBackbone` and `VisionBackbone` are the two kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor, nn

from rehead.models.families import Family, HeadParts, SavedLayout
from rehead.models.packing import Packing
from rehead.runtime import hardware


@dataclass(frozen=True)
class Backbone(ABC):
    """A pretrained model, ready to be cut.

    Attributes:
        name: what the user called it.
        folder: where it was loaded from.
        model: of texts its family's sequence-classification model, of images the model itself (float32, evaluation
            mode).
        published_layers: how many layers the model had as published.
        architectures: class names that the published configuration gives.
    """

    name: str
    folder: Path
    model: Any
    published_layers: int
    architectures: list[str]
    # What it reads.
    takes: ClassVar[Literal["texts", "images"]]

    @property
    @abstractmethod
    def family(self) -> Family:
        """How its architecture is cut."""

    @property
    @abstractmethod
    def summary_position(self) -> str | None:
        """The token whose state stands for all of the input: `last` or `cls`; None where there is none."""

    @property
    def means_at_one_length(self) -> bool:
        """Whether a head is to see the mean of an input's tokens at the same length, however many they are."""
        return False

    @property
    @abstractmethod
    def hidden_size(self) -> int:
        """Width of the states that leave the last layer."""

    @abstractmethod
    def width_at(self, depth: int) -> int:
        """Return the width of the states that leave layer `depth` - 1."""

    def family_head(self, pooling: str) -> HeadParts | None:
        """Return the family's own sequence-classification head, where it has one and pools that way."""
        return None

    def published_layout(self, pooling: str) -> SavedLayout | None:
        """Return how the family's own class has a plain linear layer saved, where it has one and pools that way."""
        return None

    @abstractmethod
    def embed(self, inputs: Tensor, packing: Packing) -> Tensor:
        """Return the states that enter layer 0.

        Args:
            inputs: token ids (T,) of packed texts, or pixels (n, 3, height, width).

        Returns:
            (T, width) float32, or (n · states an image, width).
        """

    @abstractmethod
    def run_layers(
        self,
        hidden: Tensor,
        packing: Packing,
        start: int,
        stop: int,
        *,
        only: str | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """Turn states that enter layer `start` into those that leave layer `stop` - 1.

        Args:
            hidden: (T, width), of packed inputs.
            start, stop: the stretch of layers; equal numbers leave `hidden` as it is.
            only: `last` or `cls` where just that token of each input is wanted. The last layer of the stretch then
                computes keys and values for all tokens of a text, but queries, attention and feed-forward layers for
                that one alone: the same result for a fraction of the work.
            recompute: keep only what enters each layer, and compute the rest again in the backward pass: a third more
                work for a fraction of the memory (Chen et al., arXiv 1604.06174).

        Returns:
            (T, width), or (n, width) with `only`.
        """

    @abstractmethod
    def normalise(self, hidden: Tensor) -> Tensor:
        """Apply the final norm, token by token; the identity where there is none."""

    @abstractmethod
    def pooled(self, hidden: Tensor, packing: Packing, pooling: str) -> Tensor:
        """Pool token states (T, width) to one vector an input, (n, width)."""

    @abstractmethod
    def with_products_in(self, dtype: torch.dtype) -> Self:
        """Return a copy whose matrix products run in `dtype`."""

    @property
    def frozen_dtype(self) -> torch.dtype:
        """The type that matrix products with weights that nothing is trained through run fastest in."""
        return hardware.native_dtype()

    def frozen_in(self, dtype: torch.dtype) -> Self:
        """Do as `with_products_in`, for what nothing is trained through: it may be faster, and cannot be copied.

        Args:
            dtype: one that `frozen_dtype` may be.
        """
        return self.with_products_in(dtype)

    def frozen(self) -> Self:
        """Return it for what nothing is trained through, in the type that is fastest; see `frozen_in`."""
        return self.frozen_in(self.frozen_dtype)

    def filled(self, hidden: Tensor, packing: Packing) -> tuple[Tensor, Packing]:
        """Return states that enter a layer with filler where products run faster with it, and where they lie."""
        return hidden, packing

    @abstractmethod
    def flops_a_token(self, start: int, stop: int) -> float:
        """Return the operations of a forward pass through layers [start, stop), for each token."""

    @abstractmethod
    def tokens_of(self, lengths: Tensor) -> int:
        """Return what inputs with these numbers of states, (n,), count for in `flops_a_token`."""

    def lengths_of(self, hidden: Tensor, packing: Packing) -> Tensor:
        """Return (n,) int64: how many of the states (T, width) each input has."""
        return packing.lengths

    @abstractmethod
    def train(self, mode: bool) -> None:
        """Turn dropout on or off."""

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def body(self) -> Any:
        """The model without its head."""
        return self.model.base_model

    @property
    def layers(self) -> nn.ModuleList:
        found = self.body.get_submodule(self.family.layers)
        assert isinstance(found, nn.ModuleList)
        return found

    @property
    def norm(self) -> nn.Module:
        """The final norm; the identity where the family has none."""
        return self.body.get_submodule(self.family.norm) if self.family.norm else nn.Identity()

    @property
    def products_in(self) -> torch.dtype:
        """The type of the weights of the layers' matrix products."""
        return next(weight.dtype for weight in self.layers[0].parameters() if weight.dim() > 1)

    @property
    def products_in_bf16(self) -> bool:
        """Whether that is bfloat16."""
        return self.products_in == torch.bfloat16

    @property
    def takes_adapters(self) -> bool:
        """Whether the layers have matrix products that low-rank adapters can stand beside."""
        return any(is_product(module) for module in self.layers.modules())

    def truncate(self, depth: int) -> None:
        """Throw away the layers from `depth` on; what is left is the Transformers model with that many layers."""
        parent, _, attribute = self.family.layers.rpartition(".")
        setattr(self.body.get_submodule(parent), attribute, nn.ModuleList(list(self.layers)[:depth]))
        trim_config(self.config, depth)


AnyBackbone = TypeVar("AnyBackbone", bound=Backbone)


def trim_config(config: Any, depth: int) -> None:
    """Set the number of layers in a Transformers configuration, and what must agree with it."""
    for name in ("layer_types", "hidden_sizes", "depths", "num_heads"):
        if isinstance(getattr(config, name, None), list | tuple):
            setattr(config, name, list(getattr(config, name))[:depth])
    for name in ("num_stages", "num_hidden_layers"):
        if hasattr(config, name):
            setattr(config, name, depth)
    if hasattr(config, "stage_names"):
        config.stage_names = ["stem", *(f"stage{i}" for i in range(1, depth + 1))]
        # Which of them the model as a backbone gives out; they must exist.
        config._out_features, config._out_indices = [f"stage{depth}"], [depth]


def is_product(module: nn.Module) -> bool:
    """Return whether a module is a matrix product: a linear layer, or GPT-2's, which is one with its weight transposed.

    GPT-2's class is known by its name, because importing it takes longer than most predictions.
    """
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
