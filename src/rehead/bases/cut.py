"""Runs any stretch of a pretrained model: embedding, blocks [start, stop), final norm.

`Base` is a loaded model with its tokenizer. The three functions compose to the unmodified Transformers
backbone: `normalise(base, run_blocks(base, embed(base, ids, mask), mask, 0, n))` equals its last hidden
state, for every family and however the blocks are divided (tests/bases/test_equivalence.py).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rehead.bases.families import FAMILIES, Family


@dataclass(frozen=True)
class Base:
    """A pretrained model, ready to be cut.

    Attributes:
        name: what the user called it.
        model: its family's sequence-classification model (float32, evaluation mode).
        tokenizer: a fast Transformers tokenizer that pads on the right.
        blocks_before_cut: how many blocks the model had as published.
        architectures: class names that the published configuration gives.
    """

    name: str
    model: Any
    tokenizer: Any
    blocks_before_cut: int
    architectures: list[str]

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def backbone(self) -> Any:
        """The model without its head."""
        return self.model.base_model

    @property
    def family(self) -> Family:
        return FAMILIES[self.config.model_type]

    @property
    def blocks(self) -> nn.ModuleList:
        found = self.backbone.get_submodule(self.family.blocks)
        assert isinstance(found, nn.ModuleList)
        return found

    @property
    def norm(self) -> nn.Module:
        """The final norm; the identity where the family has none."""
        return self.backbone.get_submodule(self.family.norm) if self.family.norm else nn.Identity()

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    def with_products_in(self, dtype: torch.dtype) -> Base:
        """A copy whose matrix products run in `dtype`, under torch.autocast; the rest stays float32.

        Norms and the sum that flows past the blocks keep float32: on 1,500 text messages through SmolLM2 that
        halves the error of an all-bf16 pass (median 0.7 % against 1.2 % of the feature's length) at the
        same speed. Weights are converted here once, not on each pass.
        """
        if dtype == torch.float32:
            return self
        model = copy.deepcopy(self.model)
        for module in model.modules():
            if isinstance(module, nn.Linear | Conv1D):
                module.to(dtype)
        return replace(self, model=model)


def embed(base: Base, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """Token ids (n, length) → hidden states that enter block 0 (n, length, hidden_size)."""
    return base.family.embed(base.backbone, input_ids, attention_mask)


def run_blocks(base: Base, hidden: Tensor, attention_mask: Tensor | None, start: int, stop: int) -> Tensor:
    """Hidden states that enter block `start` → those that leave block `stop` - 1, of the same shape.

    Args:
        hidden: (n, length, hidden_size).
        attention_mask: (n, length), 1 for a real token, 0 for padding. None where nothing is padded, and
            for causal families also where padding is on the right: no real token sees it.
        start, stop: the stretch of blocks; equal numbers leave `hidden` as it is.
    """
    if start == stop:
        return hidden
    arguments = base.family.arguments(base.backbone, hidden, attention_mask)
    kinds = getattr(base.config, "layer_types", None)
    for number in range(start, stop):
        kind = kinds[number] if kinds else "full_attention"
        hidden = base.blocks[number](hidden, **arguments[kind])
    return hidden


def needed_mask(base: Base, attention_mask: Tensor) -> Tensor | None:
    """The mask that blocks need for a right-padded batch, (n, length), or None where they need none.

    No real token of a causal model looks at padding on the right, and without padding nothing is masked.
    """
    return None if base.family.causal or bool(attention_mask.all()) else attention_mask


def normalise(base: Base, hidden: Tensor) -> Tensor:
    """Applies the final norm, token by token; the identity for families without one."""
    normed: Tensor = base.norm(hidden)
    return normed


def truncate(base: Base, depth: int) -> None:
    """Throws away the blocks from `depth` on; what is left is the Transformers model with that many layers."""
    parent, _, attribute = base.family.blocks.rpartition(".")
    setattr(base.backbone.get_submodule(parent), attribute, nn.ModuleList(list(base.blocks)[:depth]))
    trim_config(base.config, depth)


def trim_config(config: Any, depth: int) -> None:
    """Sets the number of blocks in a Transformers configuration, and what must agree with it."""
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[:depth]
    config.num_hidden_layers = depth
