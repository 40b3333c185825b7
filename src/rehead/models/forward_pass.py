"""Run inputs through a frozen backbone, a batch of similar lengths at a time, and read what a head needs.

Inputs are taken in order of length and packed end to end, a token budget at a time, so that nothing is padded.
Identical ones pass once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.models.backbone import Backbone
from rehead.models.heads import halves
from rehead.models.packing import Packing
from rehead.models.sequences import Ragged, Sequences
from rehead.runtime import hardware, progress

# Large enough for matrix products at full speed, small enough to stay in the CPU's caches: of 512 to 8,192, this was
# the fastest on two cores.
TOKEN_BUDGET = 2048
# On CUDA, values in a batch's states (tokens times width): 58,000 tokens of SmolLM2, whose trunk pass is 9 to 15 times
# as fast with them as with 2,048, and within a seventh of what any number reaches (H200). They take 1.3 GB; as many
# values of a wider model take about as much.
_STATES_ON_CUDA = 2**25
# After this many batches, each of other shapes, what they have freed lies in pieces too small for those of the next.
_MANY_PORTIONS = 32
# Several threads may pass texts through one backbone: it is moved by one of them.
_PREPARING = threading.Lock()


def pooled_features(
    backbone: Backbone, ids: Sequences, *, depths: Sequence[int], pooling: str, label: str | None = None
) -> tuple[Tensor, int]:
    """Return what a head sees of n inputs, (n, sum of the widths) float32, and how many tokens passed.

    Args:
        depths: after how many layers to pool, in rising order.
        pooling: see `rehead.models.heads`.
        label: what the progress bar says; None for no bar.
    """
    prepare(backbone)
    unique, inverse, _ = unique_inputs(ids)
    lengths = ids.lengths[unique]
    order = torch.argsort(lengths, stable=True)
    reading = Reading(list(depths), halves(pooling, backbone.summary_position), None)
    portions = batches(lengths[order], token_budget(backbone))
    pooled = torch.empty(len(unique), sum(backbone.width_at(depth) for depth in depths) * len(reading.parts))
    with hardware.exact_convolutions(), progress.bar(label, int(lengths.sum())) as advance:
        for rows, values in zip(portions, values_ahead(ids, unique[order], portions), strict=True):
            pooled[order[rows]] = torch.cat(reading.read(backbone, values, lengths[order[rows]])[0], dim=1).cpu()
            advance(int(lengths[order[rows]].sum()))
    if len(portions) > _MANY_PORTIONS:
        hardware.give_back_freed_memory()
    return pooled[torch.from_numpy(inverse)], int(lengths.sum())


@dataclass(frozen=True)
class Reading:
    """What is read of texts on their way through the trunk.

    Attributes:
        depths: after how many layers to pool, in rising order.
        cut: after how many layers to keep the states of all tokens; None where they are not wanted.
        parts: the poolings at each of the depths.
    """

    depths: list[int]
    parts: list[str]
    cut: int | None

    def __post_init__(self) -> None:
        assert self.depths == sorted(set(self.depths))  # what is read comes in the order of the layers

    @property
    def only(self) -> str | None:
        """The one token of each text that is enough in the last layer, where nothing else is pooled or kept."""
        alone = self.parts in (["last"], ["cls"]) and self.depths and max(self.depths) > (self.cut or 0)
        return self.parts[0] if alone else None

    def read(self, backbone: Backbone, inputs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Ragged | None]:
        """Return what is pooled of n inputs, (n, width) for each part of each depth, and the states at the cut."""
        device = hardware.device()
        packing = Packing(lengths.to(device))
        stops = sorted({*self.depths, *([] if self.cut is None else [self.cut])})
        in_bf16 = backbone.products_in_bf16
        pooled, at_cut = [], None
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            hidden, packing = backbone.filled(backbone.embed(inputs.to(device), packing), packing)
            done = 0
            for stop in stops:
                only = self.only if stop == stops[-1] else None
                hidden = backbone.run_layers(hidden, packing, done, stop, only=only)
                done = stop
                if stop == self.cut:
                    states = packing.unfilled(hidden).to(torch.bfloat16 if in_bf16 else torch.float32).cpu()
                    at_cut = Ragged.of(states, backbone.lengths_of(hidden, packing).cpu())
                if stop in self.depths:
                    normed = backbone.normalise(hidden).float()
                    pooled += [normed if only else backbone.pooled(normed, packing, part) for part in self.parts]
        return pooled, at_cut


def token_budget(backbone: Backbone) -> int:
    """Return how many tokens a batch may have where nothing is trained."""
    if hardware.device().type != "cuda":
        return TOKEN_BUDGET
    return max(TOKEN_BUDGET, _STATES_ON_CUDA // backbone.hidden_size)


def batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Divide texts into consecutive batches of at most `budget` tokens; a longer text is one of its own.

    Each batch depends on where it begins alone: a pass that goes on after an interruption, from texts sorted the
    same way, makes the same batches and so the same numbers, bit for bit.

    Args:
        lengths: (n,) int64.

    Returns:
        positions of the texts, each once, in order.
    """
    result = []
    start = tokens = 0
    for end, length in enumerate(lengths.tolist()):
        if end > start and tokens + length > budget:
            result.append(torch.arange(start, end))
            start, tokens = end, 0
        tokens += length
    if start < len(lengths):
        result.append(torch.arange(start, len(lengths)))
    return result


def values_ahead(ids: Sequences, rows: Tensor, portions: list[Tensor]) -> Iterator[Tensor]:
    """Yield the values of each portion of the rows; while one is computed with, the next is made: images take time."""
    if len(portions) == 1:
        yield ids.take(rows).values
        return
    coming: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1) as worker:
        for portion in portions:
            coming.append(worker.submit(lambda some: ids.take(some).values, rows[portion]))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def prepare(backbone: Backbone) -> None:
    """Bring a backbone to where it is computed with, without dropout; looked at first, which takes less time."""
    hardware.keep_freed_memory()
    device = hardware.device()
    with _PREPARING:
        if backbone.model.training or next(backbone.model.parameters()).device.type != device.type:
            backbone.model.to(device).eval()


def unique_inputs(ids: Sequences) -> tuple[Tensor, npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return positions of the first of each set of identical inputs (m,); for every input which of these it is (n,);
    and what the cache knows each of them by, (m, 16).
    """
    digests = ids.digests()
    _, first, inverse = np.unique(digests.view("V16").ravel(), return_index=True, return_inverse=True)
    # In the order in which they come.
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first = first[order].astype(np.int64)
    return torch.from_numpy(first), rank[inverse.ravel()].astype(np.int64), digests[first]
