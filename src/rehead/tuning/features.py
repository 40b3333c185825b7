"""The trunk pass: each text goes once through the frozen blocks; what comes out is kept.

Texts are taken in order of length, in batches of a token budget, so that hardly anything is padding.
Identical texts pass once. Pooled features of any depths, and token states at the cut, come out of the same
pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rehead import hardware, progress
from rehead.bases.cut import Base, embed, needed_mask, normalise, run_blocks
from rehead.bases.ragged import Ragged, offsets_of
from rehead.heads import pool, resolved, width

# Large enough for matrix products at full speed, small enough to stay in the CPU's caches: measured between
# 512 and 8,192 on two cores, 1,024 to 2,048 were the fastest.
TOKEN_BUDGET = 2048


@dataclass(frozen=True)
class Features:
    """What the trunk pass keeps of n texts.

    Attributes:
        pooled: (n, n_depths, width) float32, behind the final norm; the depths are those asked for.
        tokens: n sequences of states that enter block `cut`, or None where no tail needs them.
        forward_flops: floating-point operations of the matrix products in the blocks.
    """

    pooled: Tensor
    tokens: Ragged | None
    forward_flops: float


def trunk_pass(
    base: Base,
    ids: Ragged,
    *,
    depths: Sequence[int],
    pooling: str,
    cut: int | None = None,
    label: str = "trunk pass",
) -> Features:
    """Runs texts through blocks [0, max(depths)) in evaluation mode, without gradients.

    Args:
        base: its matrix products run in the type that its weights have (see `Base.with_products_in`).
        ids: token ids of n texts.
        depths: after how many blocks to pool, in rising order; may be empty where only `cut` is wanted.
        pooling: how to pool, see `rehead.heads.pool`.
        cut: keep all token states after this many blocks.
        label: what the progress bar says.
    """
    how = resolved(pooling, base.family.causal)
    unique, inverse = _unique(ids)
    lengths = ids.lengths[unique]
    pooled = torch.empty(len(unique), len(depths), width(base.hidden_size, pooling))
    tokens = None
    if cut is not None:
        offsets = offsets_of(lengths)
        dtype = _product_dtype(base)
        tokens = Ragged(torch.empty(int(offsets[-1]), base.hidden_size, dtype=dtype), offsets)
    stop = max([*depths, cut or 0])
    device = hardware.device()
    base.model.to(device)
    base.model.eval()
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=_product_dtype(base) == torch.bfloat16)
    with torch.inference_mode(), autocast, progress.bar(label, int(lengths.sum())) as advance:
        for rows in batches(lengths, TOKEN_BUDGET):
            batch, mask = ids.padded(unique[rows], fill=base.tokenizer.pad_token_id)
            needed = needed_mask(base, mask.to(device))
            hidden = embed(base, batch.to(device), needed)
            done = 0
            for depth in sorted({*depths, *([] if cut is None else [cut])}):
                hidden = run_blocks(base, hidden, needed, done, depth)
                done = depth
                if depth == cut and tokens is not None:
                    tokens.write(rows, hidden.cpu())
                if depth in depths:
                    states = _pooled(base, hidden, mask.to(device), how)
                    pooled[rows, list(depths).index(depth)] = states.cpu()
            advance(int(lengths[rows].sum()))
    flops = forward_flops(base, int(lengths.sum()), 0, stop)
    return Features(pooled[inverse], tokens.take(inverse) if tokens else None, flops)


def batches(lengths: Tensor, token_budget: int) -> list[Tensor]:
    """Divides texts into batches of similar length: each has at most `token_budget` tokens, padding included.

    A text longer than the budget is a batch of its own.

    Args:
        lengths: (n,) int64.

    Returns:
        positions of the texts, each once.
    """
    order = torch.argsort(lengths, stable=True)
    result = []
    start = 0
    for end, length in enumerate(lengths[order].tolist()):
        if end > start and (end - start + 1) * length > token_budget:
            result.append(order[start:end])
            start = end
    if start < len(order):
        result.append(order[start:])
    return result


def forward_flops(base: Base, tokens: int, start: int, stop: int) -> float:
    """Operations of a forward pass through blocks [start, stop): 2 a weight and token (Kaplan et al. 2020, §2.1)."""
    weights = sum(weight.numel() for block in base.blocks[start:stop] for weight in block.parameters())
    return 2.0 * weights * tokens


def _pooled(base: Base, hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """Normalised and pooled; a single token is picked before the norm, which works token by token."""
    if "mean" in how:
        return pool(normalise(base, hidden).float(), mask, how)
    return normalise(base, pool(hidden, mask, how)).float()


def _unique(ids: Ragged) -> tuple[Tensor, Tensor]:
    """Positions of the first of each set of identical sequences, and for every text which of these it is."""
    values = ids.values.numpy()
    bounds = ids.offsets.tolist()
    first: dict[bytes, int] = {}
    unique: list[int] = []
    inverse = np.empty(len(ids), dtype=np.int64)
    for i in range(len(ids)):
        key = values[bounds[i] : bounds[i + 1]].tobytes()
        if key not in first:
            first[key] = len(unique)
            unique.append(i)
        inverse[i] = first[key]
    return torch.tensor(unique, dtype=torch.int64), torch.from_numpy(inverse)


def _product_dtype(base: Base) -> torch.dtype:
    """The type of the weights in the blocks' matrix products."""
    return next(weight.dtype for weight in base.blocks[0].parameters() if weight.dim() == 2)
