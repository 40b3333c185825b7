"""Multiply float32 rows by int8 weights: a scale for each row and each output, and sums of whole numbers.

A scale of its own for each row makes what a text gets independent of the texts beside it (LLM.int8: Dettmers et al.,
arXiv 2208.07339, §2.1, without its outlier columns). oneDNN's kernels for processors with VNNI take rows without a
sign, so that zero is 128. On other processors they exist, too, but two products may not fit into the number that they
are added up in: `is_exact` finds out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

_LARGEST, _ZERO = 127, 128
# A row of zeros has this scale.
_SMALLEST_SCALE = 1e-12
# As many rows as a batch of the trunk pass has; the weights' layout suits fewer and more, too.
_ROWS = 1024


class Rows(NamedTuple):
    """Quantised rows: `values` (n, width) uint8, of which 128 is zero, and `scale` (n, 1) float32 of each."""

    values: Tensor
    scale: Tensor


class Weight(NamedTuple):
    """A quantised weight: `packed` in oneDNN's layout, `scale` (outputs,) float32, `zero` (outputs,) int32 of zeros."""

    packed: Tensor
    scale: Tensor
    zero: Tensor


def quantise(rows: Tensor) -> Rows:
    """Quantise (n, width) float32; a row with a number that is not finite has a scale that is none."""
    scale = rows.abs().amax(1, keepdim=True).div_(_LARGEST).clamp_min_(_SMALLEST_SCALE)
    # Half of one more, because the conversion rounds down.
    return Rows(torch.addcmul(torch.tensor(_ZERO + 0.5), rows, scale.reciprocal()).to(torch.uint8), scale)


def quantise_weight(weight: Tensor) -> Weight:
    """Quantise (outputs, width) float32 and lay it out as the kernels read it."""
    scale = weight.abs().amax(1).div_(_LARGEST).clamp_min_(_SMALLEST_SCALE)
    whole = (weight / scale[:, None]).round_().to(torch.int8)
    operations: Any = torch.ops.onednn
    packed: Tensor = operations.qlinear_prepack(whole, [_ROWS, weight.shape[1]])
    return Weight(packed, scale, torch.zeros(len(weight), dtype=torch.int32))


def multiply(rows: Rows, weight: Weight, bias: Tensor | None) -> Tensor:
    """Return (n, outputs) float32.

    Args:
        bias: (outputs,) float32; None for none.
    """
    operations: Any = torch.ops.onednn
    sums: Tensor = operations.qlinear_pointwise(
        rows.values, 1.0, _ZERO, *weight, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return sums.mul_(rows.scale) if bias is None else torch.addcmul(bias, sums, rows.scale, out=sums)


@lru_cache(maxsize=1)
def is_exact() -> bool:
    """Return whether this torch has these kernels, and sums of the largest products are right on this processor."""
    ends = torch.full((3, 64), float(_LARGEST))
    ends[1], ends[2, ::2] = -_LARGEST, -_LARGEST
    try:
        with torch.inference_mode():
            found = multiply(quantise(ends), quantise_weight(ends[:2]), None)
    except (AttributeError, RuntimeError, NotImplementedError, TypeError):
        return False
    return torch.allclose(found, ends @ ends[:2].T, atol=1.0)
