"""Run any stretch of a pretrained language model or text encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rehead.models import onednn_linear
from rehead.models.backbone import Backbone, is_product
from rehead.models.families import TEXT_FAMILIES, HeadParts, TextFamily, rotary, window
from rehead.models.layers import PackedRow
from rehead.models.packing import Packing
from rehead.runtime import hardware, interrupts


@dataclass(frozen=True)
class TextBackbone(Backbone):
    """A pretrained model of texts, ready to be cut.

    Attributes:
        tokenizer: a fast Transformers tokenizer that pads on the right, or a `SavedTokenizer`.
    """

    tokenizer: Any
    takes = "texts"

    @property
    def family(self) -> TextFamily:
        return TEXT_FAMILIES[self.config.model_type]

    @property
    def summary_position(self) -> str:
        return "last" if self.family.causal else "cls"

    @property
    def means_at_one_length(self) -> bool:
        return not self.family.causal

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    def width_at(self, depth: int) -> int:
        return self.hidden_size

    def family_head(self, pooling: str) -> HeadParts | None:
        return self.family.head_parts(self.model) if pooling == self.summary_position else None

    def with_products_in(self, dtype: torch.dtype) -> Self:
        """Return a copy whose matrix products run in `dtype`, under torch.autocast; the rest stays float32.

        Norms and the sum that flows past the layers keep float32: on 1,500 text messages through SmolLM2 that
        halves the error of an all-bf16 pass (median 0.7 % against 1.2 % of the feature's length) at the
        same speed. Weights are converted here once, not on each pass.
        """
        if dtype == torch.float32:
            return self
        # A language model's output layer may be its embedding, and what enters the layers stays float32.
        embedding = self.body.get_input_embeddings().weight
        products = [module for module in self.model.modules() if is_product(module) and module.weight is not embedding]
        weights = [weight for module in products for weight in module.parameters(recurse=False)]
        # For deepcopy these are copied already, so no float32 copy of them is ever made.
        converted = {id(weight): nn.Parameter(weight.detach().to(dtype), weight.requires_grad) for weight in weights}
        return replace(self, model=interrupts.deepcopy(self.model, dict[int, Any](converted)))

    @property
    def frozen_dtype(self) -> torch.dtype:
        # A few numbers of a language model's states are hundreds of times as large as the rest: not measured in int8.
        return hardware.native_dtype() if self.family.causal else hardware.frozen_dtype()

    def frozen_in(self, dtype: torch.dtype) -> Self:
        in_int8 = dtype == torch.int8
        if hardware.device().type != "cpu" or not (in_int8 or onednn_linear.available(dtype)):
            return self.with_products_in(dtype)
        if dtype == torch.bfloat16:
            frozen = self.with_products_in(dtype)
        else:
            shared = {id(weight): weight for weight in self.model.parameters()}
            frozen = replace(self, model=interrupts.deepcopy(self.model, dict[int, Any](shared)))
        onednn_linear.prepack(frozen.layers, in_int8=in_int8)
        return frozen

    def train(self, mode: bool) -> None:
        # Looked at first, because setting all modules takes as long as a small training step.
        if self.model.training != mode:
            self.model.train(mode)

    def embed(self, inputs: Tensor, packing: Packing) -> Tensor:
        return self.family.embed(self.body, inputs, packing)

    def filled(self, hidden: Tensor, packing: Packing) -> tuple[Tensor, Packing]:
        # For each number of rows the kernels of these types are made anew.
        if hidden.device.type == "cpu" and (torch.is_autocast_enabled("cpu") or self.products_in == torch.int8):
            return packing.filled(hidden)
        return hidden, packing

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
        if start == stop:
            return hidden if only is None else packing.pooled(hidden, only)
        kinds = getattr(self.config, "layer_types", None)
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        biases = self.family.biases(self.body, packing)
        through = partial(checkpoint, self.family.layer, use_reentrant=False) if recompute else self.family.layer
        rows: dict[str, PackedRow] = {}
        for number in range(start, stop):
            kind = kinds[number] if kinds else "full_attention"
            if kind not in rows:
                tables = rotary(self.body, hidden, packing, kind)
                typed = None if tables is None else (tables[0].to(dtype), tables[1].to(dtype))
                rows[kind] = PackedRow(packing, dtype, window(self.config, kind), typed, biases)
            arguments = (self.layers[number], hidden, rows[kind], only if number == stop - 1 else None)
            hidden = through(*arguments)
        return hidden

    def normalise(self, hidden: Tensor) -> Tensor:
        normed: Tensor = self.norm(hidden)
        return normed

    def pooled(self, hidden: Tensor, packing: Packing, pooling: str) -> Tensor:
        return packing.pooled(hidden, pooling)

    def flops_a_token(self, start: int, stop: int) -> float:
        """Return 2 for each weight of the layers (Kaplan et al. 2020, §2.1)."""
        return 2.0 * sum(weight.numel() for layer in self.layers[start:stop] for weight in layer.parameters())

    def tokens_of(self, lengths: Tensor) -> int:
        return int(lengths.sum())
