"""A frozen backbone's linear layers with int8 weights (`rehead.runtime.int8`), and the activation behind them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import gelu, relu, silu

from rehead.runtime import int8

# By oneDNN's names, of the activation and of how it is approximated (see `onednn_linear`).
_ACTIVATIONS: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {
    ("relu", ""): relu,
    ("swish", ""): silu,
    ("gelu", "none"): gelu,
    ("gelu", "tanh"): partial(gelu, approximate="tanh"),
}


class Int8Linear(nn.Module):
    """A linear layer with what follows it.

    Args:
        weight: (width of the outputs, width of the inputs).
        activation: see `_ACTIVATIONS`; None for none.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: tuple[str, str] | None = None) -> None:
        super().__init__()
        packed, self._scale, self._zero = int8.quantise_weight(weight.detach())
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self._activation = activation and _ACTIVATIONS[activation]

    def forward(self, inputs: Tensor | int8.Rows) -> Tensor:
        shape = inputs.shape[:-1] if isinstance(inputs, Tensor) else inputs.values.shape[:-1]
        rows = int8.quantise(inputs.flatten(0, -2)) if isinstance(inputs, Tensor) else inputs
        product = int8.multiply(rows, int8.Weight(self.weight, self._scale, self._zero), self.bias)
        return (self._activation(product) if self._activation else product).view(*shape, -1)


def shared(layer: Any, inputs: Tensor) -> Any:
    """Return states (T, width) as several layers like this one take them: quantised once, where they are int8."""
    return int8.quantise(inputs) if isinstance(layer, Int8Linear) else inputs
