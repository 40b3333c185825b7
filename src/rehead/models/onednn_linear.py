"""Compute a frozen backbone's linear layers with weights that are laid out once, the way oneDNN's kernels read them.

torch's own linear layer brings the weights into that layout anew at each product. Here the kernel also applies
the activation that follows, on sums that are not rounded yet, instead of passing over the result a second time.
Nothing can be trained through these layers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, silu

from rehead.models.backbone import is_product
from rehead.models.int8_linear import Int8Linear

# As many rows as a batch of the trunk pass has; the layout suits fewer and more, too.
_ROWS = 1024

# oneDNN's names, by those of the classes of torch and of Transformers, which need not be imported for this: of the
# activation, and of how it is approximated.
_ACTIVATIONS = {
    "ReLU": ("relu", ""),
    "SiLU": ("swish", ""),
    "SiLUActivation": ("swish", ""),
    "GELU": ("gelu", "none"),
    "GELUActivation": ("gelu", "none"),
    "GELUTanh": ("gelu", "tanh"),
    "NewGELUActivation": ("gelu", "tanh"),
}
# Which activation follows which layer, by their names in Transformers' feed-forward modules.
_FOLLOWED_BY = {"dense": "intermediate_act_fn", "lin1": "activation", "c_fc": "act"}
_GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")


@lru_cache(maxsize=2)
def available(dtype: torch.dtype) -> bool:
    """Return whether this torch has these kernels, and they compute on this CPU what its linear layer does.

    Args:
        dtype: bfloat16 or float32.
    """
    operations: Any = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operations, "_linear_pointwise"):
        return False
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((2, 5, 64), (96, 64), (96,)))
    try:
        with torch.inference_mode():
            return _computes_the_same(*(part.to(dtype) for part in (inputs, weight, bias)))
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False


def _computes_the_same(inputs: Tensor, weight: Tensor, bias: Tensor) -> bool:
    plain = linear(inputs, weight, bias)
    gate = _Product(weight, bias, ("swish", ""))(inputs)
    pairs = [
        (_Product(weight, bias)(inputs), plain),
        (_Product(weight, bias, ("gelu", "none"))(inputs), gelu(plain)),
        (_Product(weight, bias).times(inputs, gate), silu(plain) * plain),
    ]
    near = 0.1 if inputs.dtype == torch.bfloat16 else 1e-3
    return all(torch.allclose(ours, expected, rtol=near, atol=near) for ours, expected in pairs)


def prepack(layers: nn.ModuleList, *, in_int8: bool = False) -> None:
    """Replace the matrix products in a model's layers, in place.

    Args:
        in_int8: with int8 weights; what is gated (see `_GatedFeedForward`) keeps its type.
    """
    for parent in list(layers.modules()):
        if _is_gated(parent):
            continue  # replaced as a whole, in what it is part of
        for name, child in list(parent.named_children()):
            if _is_gated(child):
                setattr(parent, name, _GatedFeedForward(child))
            elif is_product(child):
                following = _FOLLOWED_BY.get(name, "")
                activation = _ACTIVATIONS.get(type(getattr(parent, following, None)).__name__)
                if activation:
                    setattr(parent, following, nn.Identity())
                kind = Int8Linear if in_int8 else _Product
                setattr(parent, name, kind(*_weights(child), activation))


def _is_gated(layers: Any) -> bool:
    return all(hasattr(layers, part) for part in _GATED) and type(layers.act_fn).__name__ in _ACTIVATIONS


def _weights(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Return weight (width of the outputs, width of the inputs) and bias of a matrix product (see `is_product`)."""
    return layer.weight if isinstance(layer, nn.Linear) else layer.weight.T, layer.bias


class _Product(nn.Module):
    """A linear layer with what follows it.

    Args:
        weight: (width of the outputs, width of the inputs).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] | None = None) -> None:
        super().__init__()
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS)
        self.weight = nn.Parameter(laid_out, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._activation, self._approximation = activation or ("none", "")

    def forward(self, inputs: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(
            inputs, self.weight, self.bias, self._activation, [], self._approximation
        )
        return product

    def times(self, inputs: Tensor, other: Tensor) -> Tensor:
        """Return the layer's output, without its activation, times `other` of the same shape."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, other, self.weight, self.bias, "mul")
        return product


class _GatedFeedForward(nn.Module):
    """Feed-forward layers whose inner states are the product of two (GLU variants: Shazeer, arXiv 2002.05202)."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        gate, up, down = layers.gate_proj, layers.up_proj, layers.down_proj
        self.gate_proj = _Product(*_weights(gate), _ACTIVATIONS[type(layers.act_fn).__name__])
        self.up_proj, self.down_proj = _Product(*_weights(up)), _Product(*_weights(down))

    def forward(self, inputs: Tensor) -> Tensor:
        fed: Tensor = self.down_proj(self.up_proj.times(inputs, self.gate_proj(inputs)))
        return fed
