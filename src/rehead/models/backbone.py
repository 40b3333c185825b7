"""Runs any stretch of a pretrained model: embedding, blocks [start, stop), final norm.

`Base` is a loaded model with its tokenizer. Three of its methods compose to the unmodified Transformers backbone:
`base.normalise(base.run_blocks(base.embed(ids, packing), packing, 0, n))` is its last hidden state, for every family
and however the blocks are divided (tests/bases/test_equivalence.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from rehead.models import prepacked
from rehead.models.families import FAMILIES, Family, HeadParts, rotary, window
from rehead.models.layers import Row
from rehead.models.packing import Packing
from rehead.runtime import hardware, interrupts


@dataclass(frozen=True)
class Base:
    """A pretrained model, ready to be cut.

    Attributes:
        name: what the user called it.
        folder: where it was loaded from.
        model: its family's sequence-classification model (float32, evaluation mode).
        tokenizer: a fast Transformers tokenizer that pads on the right.
        blocks_before_cut: how many blocks the model had as published.
        architectures: class names that the published configuration gives.
    """

    name: str
    folder: Path
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
        # A language model's output layer may be its embedding, and what enters the blocks stays float32.
        embedding = self.backbone.get_input_embeddings().weight
        products = [
            module
            for module in self.model.modules()
            if isinstance(module, nn.Linear | Conv1D) and module.weight is not embedding
        ]
        weights = [weight for module in products for weight in module.parameters(recurse=False)]
        # Told to deepcopy as copied already: no float32 copy of them is ever made.
        converted = {id(weight): nn.Parameter(weight.detach().to(dtype), weight.requires_grad) for weight in weights}
        return replace(self, model=interrupts.deepcopy(self.model, dict[int, Any](converted)))

    def frozen_in(self, dtype: torch.dtype) -> Base:
        """As `with_products_in`, for what nothing is trained through: it may be faster, and cannot be copied."""
        frozen = self.with_products_in(dtype)
        if dtype == torch.bfloat16 and hardware.device().type == "cpu" and prepacked.available():
            prepacked.prepack(frozen.blocks)
        return frozen

    def laid_out(self) -> Base:
        """A copy for what nothing is trained through, whose float32 weights of the blocks lie as the kernels read them:
        10 to 20 % faster. Itself where there are no such kernels.
        """
        if hardware.device().type != "cpu" or not prepacked.available():
            return self
        shared = {id(weight): weight for weight in self.model.parameters()}
        copied = replace(self, model=interrupts.deepcopy(self.model, dict[int, Any](shared)))
        prepacked.prepack(copied.blocks)
        return copied

    @property
    def whole(self) -> str | None:
        """The token whose state stands for all of the input: `last` or `cls`; None where there is none."""
        return "last" if self.family.causal else "cls"

    @property
    def means_at_one_length(self) -> bool:
        """Whether a head is to see the mean of an input's tokens at the same length, however many they are."""
        return not self.family.causal

    def width_at(self, depth: int) -> int:
        """Of the states that leave block `depth` - 1."""
        return self.hidden_size

    def family_head(self, pooling: str) -> HeadParts | None:
        """The family's own sequence-classification head, where it pools that way."""
        return self.family.head_parts(self.model) if pooling == self.whole else None

    def train(self, mode: bool) -> None:
        """Turns dropout on or off; looked at first, because telling all modules takes as long as a small step."""
        if self.model.training != mode:
            self.model.train(mode)

    @property
    def products_in_bf16(self) -> bool:
        """Whether the weights of the blocks' matrix products are bfloat16."""
        return next(weight.dtype for weight in self.blocks[0].parameters() if weight.dim() > 1) == torch.bfloat16

    def embed(self, inputs: Tensor, packing: Packing) -> Tensor:
        """Token ids (T,) of packed texts → states that enter block 0, (T, hidden_size)."""
        return self.family.embed(self.backbone, inputs, packing)

    def filled(self, hidden: Tensor, packing: Packing) -> tuple[Tensor, Packing]:
        """States that enter a block (T, hidden_size), with filler where products run faster with it; where they lie."""
        if hidden.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return packing.filled(hidden)
        return hidden, packing

    def run_blocks(
        self,
        hidden: Tensor,
        packing: Packing,
        start: int,
        stop: int,
        *,
        only: str | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """States that enter block `start` → those that leave block `stop` - 1.

        Args:
            hidden: (T, hidden_size), of packed texts.
            start, stop: the stretch of blocks; equal numbers leave `hidden` as it is.
            only: `last` or `cls` where just that token of each text is wanted. The last block of the stretch then
                computes keys and values for all tokens, but queries, attention and feed-forward layers for that
                one alone: the same result for a fraction of the work.
            recompute: keep only what enters each block, and compute the rest again in the backward pass: a third more
                work for a fraction of the memory (Chen et al., arXiv 1604.06174).

        Returns:
            (T, hidden_size), or (n, hidden_size) with `only`.
        """
        if start == stop:
            return hidden if only is None else packing.pooled(hidden, only)
        kinds = getattr(self.config, "layer_types", None)
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        biases = self.family.biases(self.backbone, packing)
        rows: dict[str, Row] = {}
        for number in range(start, stop):
            kind = kinds[number] if kinds else "full_attention"
            if kind not in rows:
                tables = rotary(self.backbone, hidden, packing, kind)
                typed = None if tables is None else (tables[0].to(dtype), tables[1].to(dtype))
                rows[kind] = Row(packing, dtype, window(self.config, kind), typed, biases)
            arguments = (self.blocks[number], hidden, rows[kind], only if number == stop - 1 else None)
            if recompute:
                hidden = checkpoint(self.family.block, *arguments, use_reentrant=False)
            else:
                hidden = self.family.block(*arguments)
        return hidden

    def normalise(self, hidden: Tensor) -> Tensor:
        """Applies the final norm, token by token; the identity for families without one."""
        normed: Tensor = self.norm(hidden)
        return normed

    def pooled(self, hidden: Tensor, packing: Packing, pooling: str) -> Tensor:
        """Token states (T, width) → one vector a text, (n, width)."""
        return packing.pooled(hidden, pooling)

    def flops_a_token(self, start: int, stop: int) -> float:
        """Operations of a forward pass through blocks [start, stop): 2 a weight (Kaplan et al. 2020, §2.1)."""
        return 2.0 * sum(weight.numel() for block in self.blocks[start:stop] for weight in block.parameters())

    def tokens_of(self, lengths: Tensor) -> int:
        """What inputs that have so many states each, (n,), count for in `flops_a_token`."""
        return int(lengths.sum())

    @property
    def takes_adapters(self) -> bool:
        """Whether the blocks have layers that low-rank adapters can stand beside."""
        return any(isinstance(module, nn.Linear | Conv1D) for module in self.blocks.modules())

    def lengths_of(self, hidden: Tensor, packing: Packing) -> Tensor:
        """(n,) int64: how many of the states (T, width) each input has."""
        return packing.lengths

    def truncate(self, depth: int) -> None:
        """Throws away the blocks from `depth` on; what is left is the Transformers model with that many layers."""
        parent, _, attribute = self.family.blocks.rpartition(".")
        setattr(self.backbone.get_submodule(parent), attribute, nn.ModuleList(list(self.blocks)[:depth]))
        trim_config(self.config, depth)


def trim_config(config: Any, depth: int) -> None:
    """Sets the number of blocks in a Transformers configuration, and what must agree with it."""
    if getattr(config, "layer_types", None):
        config.layer_types = list(config.layer_types)[:depth]
    config.num_hidden_layers = depth
