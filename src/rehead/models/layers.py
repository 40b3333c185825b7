"""Compute what a layer of each family computes, over packed tokens (`rehead.models.packing`).

The modules, their weights and their dropout are those of Transformers, called one by one; what is ours is
the order of the calls: no padding, and in the last layer only the tokens that something is read from. Every
family is tested against the unmodified Transformers model, logits and gradients
(tests/models/test_equivalence.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rehead.models.int8_linear import shared
from rehead.models.packing import Attention, Packing, ScoreBias, attend


@dataclass(frozen=True)
class PackedRow:
    """The tokens that a layer works on, beside their states.

    Attributes:
        packing: of the n texts.
        dtype: that matrix products run in; the states themselves stay float32.
        window: of the layer's attention, in tokens; None for unlimited.
        rotary: cosines and sines (T, 1, head size) in `dtype`, for families that rotate queries and keys.
        biases: what is added to the scores of each of the packing's stretches, for families that do so.
    """

    packing: Packing
    dtype: torch.dtype
    window: int | None
    rotary: tuple[Tensor, Tensor] | None = field(default=None, repr=False)
    biases: Sequence[ScoreBias] = field(default=(), repr=False)

    def asking(self, values: Tensor, only: str | None) -> Tensor:
        """Return of (T, ...) what belongs to the tokens that ask: all of them, or one a text."""
        if only is None:
            return values
        return values[self.packing.last if only == "last" else self.packing.first]

    def rotated(self, values: Tensor, only: str | None = None) -> Tensor:
        """Apply rotary position embedding (Su et al., arXiv 2104.09864) to (T or n, heads, size)."""
        assert self.rotary is not None
        cosine, sine = (self.asking(table, only) for table in self.rotary)
        half = values.shape[-1] // 2
        result = values * cosine
        result[..., :half].addcmul_(values[..., half:], sine[..., :half], value=-1)
        result[..., half:].addcmul_(values[..., :half], sine[..., half:])
        return result


# (layer, token states (T, hidden_size), row, only) → states of the same shape, or (n, hidden_size) with `only`:
# `last` or `cls` where nothing but that token of each text is needed.
Layer = Callable[[Any, Tensor, PackedRow, str | None], Tensor]


def rotary_decoder(layer: Any, hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Compute a layer of Llama and its kin: norms before attention and feed-forward, in Gemma 2 and 3 behind too."""
    module = layer.self_attn
    normed = layer.input_layernorm(hidden).to(row.dtype)
    queries = _heads(module.q_proj(row.asking(normed, only)), module.head_dim)
    keys, values = (_heads(projection(normed), module.head_dim) for projection in (module.k_proj, module.v_proj))
    if hasattr(module, "q_norm"):
        queries, keys = module.q_norm(queries).to(row.dtype), module.k_norm(keys).to(row.dtype)
    attention = Attention(
        module.scaling,
        causal=True,
        window=row.window,
        softcap=module.attn_logit_softcapping if module.config.model_type == "gemma2" else None,
        dropout=_active(module, module.attention_dropout),
    )
    attended = attend(row.rotated(queries, only), row.rotated(keys), values, row.packing, attention, only)
    attended = module.o_proj(attended)
    hidden = row.asking(hidden, only)
    if hasattr(layer, "pre_feedforward_layernorm"):
        hidden = hidden + layer.post_attention_layernorm(attended.float())
        fed = layer.mlp(layer.pre_feedforward_layernorm(hidden).to(row.dtype))
        return _tensor(hidden + layer.post_feedforward_layernorm(fed.float()))
    hidden = hidden + attended
    return _tensor(hidden + layer.mlp(layer.post_attention_layernorm(hidden).to(row.dtype)))


def gpt2(layer: Any, hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Compute a layer of GPT-2: one product for queries, keys and values, dropout on what each half adds."""
    module = layer.attn
    product = module.c_attn(layer.ln_1(hidden).to(row.dtype))
    queries, keys, values = (_heads(part, module.head_dim) for part in product.split(module.split_size, dim=-1))
    attention = Attention(module.scaling, causal=True, dropout=_active(module, module.attn_dropout.p))
    attended = attend(row.asking(queries, only), keys, values, row.packing, attention, only)
    hidden = row.asking(hidden, only) + module.resid_dropout(module.c_proj(attended))
    return _tensor(hidden + layer.mlp(layer.ln_2(hidden).to(row.dtype)))


def bert(layer: Any, hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Compute a layer of BERT and RoBERTa: the norm is behind the sum."""
    attended = _attended(layer.attention.self, ("query", "key", "value"), hidden, row, only)
    hidden = layer.attention.output(attended, row.asking(hidden, only))
    return _tensor(layer.output(layer.intermediate(hidden.to(row.dtype)), hidden))


def mpnet(layer: Any, hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Compute a layer of MPNet: BERT's under other names, with a bias on the scores by the distance of two tokens."""
    module = layer.attention.attn
    attended = module.o(_attended(module, ("q", "k", "v"), hidden, row, only))
    hidden = layer.attention.LayerNorm(layer.attention.dropout(attended) + row.asking(hidden, only))
    return _tensor(layer.output(layer.intermediate(hidden.to(row.dtype)), hidden))


def distilbert(layer: Any, hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Compute a layer of DistilBERT: as BERT, under other names."""
    module = layer.attention
    attended = module.out_lin(_attended(module, ("q_lin", "k_lin", "v_lin"), hidden, row, only))
    hidden = layer.sa_layer_norm(attended + row.asking(hidden, only))
    # The feed-forward layers may work in pieces along a second axis.
    fed = layer.ffn(hidden.to(row.dtype).unsqueeze(0)).squeeze(0)
    return _tensor(layer.output_layer_norm(fed + hidden))


def _attended(module: Any, names: tuple[str, str, str], hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Return (T or n, hidden_size), what an encoder's attention makes of states; its projections have these names."""
    query, key, value = (getattr(module, name) for name in names)
    typed, size = hidden.to(row.dtype), module.attention_head_size
    seen = shared(key, typed)
    queries = _heads(query(seen if only is None else row.asking(typed, only)), size)
    keys, values = (_heads(projection(seen), size) for projection in (key, value))
    attention = Attention(size**-0.5, causal=False, dropout=_active(module, module.dropout.p))
    return attend(queries, keys, values, row.packing, attention, only, row.biases)


def modernbert(layer: Any, hidden: Tensor, row: PackedRow, only: str | None) -> Tensor:
    """Compute a layer of ModernBERT: a pre-norm encoder with rotary positions and, in most layers, a window."""
    module = layer.attn
    product = module.Wqkv(layer.attn_norm(hidden).to(row.dtype))
    queries, keys, values = product.view(len(product), 3, -1, module.head_dim).unbind(1)
    dropout = _active(module, module.attention_dropout)
    attention = Attention(module.head_dim**-0.5, causal=False, window=row.window, dropout=dropout)
    queries = row.rotated(row.asking(queries, only), only)
    attended = attend(queries, row.rotated(keys), values, row.packing, attention, only)
    hidden = row.asking(hidden, only) + module.out_drop(module.Wo(attended))
    return _tensor(hidden + layer.mlp(layer.mlp_norm(hidden).to(row.dtype)))


def _heads(values: Tensor, size: int) -> Tensor:
    """Turn (T, heads · size) into (T, heads, size)."""
    return values.view(len(values), -1, size)


def _active(module: torch.nn.Module, dropout: float) -> float:
    return dropout if module.training else 0.0


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value
