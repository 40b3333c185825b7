"""The trunk pass: each text goes once through the frozen blocks; what comes out is kept.

Texts are taken in order of length and packed end to end, a token budget at a time, so that nothing is padding.
Identical texts pass once, and texts whose features are in the cache already do not pass at all. Pooled features
of any depths, and token states at the cut, come out of the same pass and go to the cache in pieces, so that
memory is bounded by the budget and not by the data.
"""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor

from rehead.models import prepacked
from rehead.models.backbone import Base
from rehead.models.heads import halves
from rehead.models.loading import fingerprint
from rehead.models.packing import Packing
from rehead.models.ragged import Ragged, Sequences
from rehead.runtime import hardware, progress
from rehead.training.feature_cache import MemoryShelf, Pieces, Shelf, open_shelf

# Large enough for matrix products at full speed, small enough to stay in the CPU's caches: of 512 to 8,192, this was
# the fastest on two cores.
TOKEN_BUDGET = 2048
# On CUDA, values in a batch's states (tokens times width): 58,000 tokens of SmolLM2, whose trunk pass is 9 to 15 times
# as fast with them as with 2,048, and within a seventh of what any number reaches (H200). They take 1.3 GB; so many
# values of a wider model take about as much.
_STATES_ON_CUDA = 2**25
# So much is computed before it is written to the cache as one segment; writing takes as much again.
_SEGMENT_BYTES = 32 * 2**20
# After so many batches, each of other shapes, what they have freed lies in pieces too small for those of the next pass.
_MANY_PORTIONS = 32
# To be counted up when what is computed changes, so that features from before are not used.
_FORMAT = 4
# Several threads may pass texts through one base: it is moved by one of them.
_PREPARING = threading.Lock()


@dataclass(frozen=True)
class Features:
    """What the trunk pass keeps of n texts.

    Attributes:
        pooled: for each of the depths asked for (n, width of that depth) float32, behind the final norm.
        tokens: n sequences of states that enter block `cut`, or None where no tail needs them.
        cut: where they are; None where there are none.
        forward_flops: floating-point operations of the matrix products in the blocks; none for what was cached.
        seconds: that the blocks took.
    """

    pooled: list[Tensor]
    tokens: Pieces | None
    forward_flops: float
    seconds: float
    cut: int | None = None

    @property
    def seen(self) -> Tensor:
        """(n, sum of the widths): what a head sees that reads all of the depths."""
        return torch.cat(self.pooled, dim=1)


def trunk_pass(
    base: Base,
    ids: Sequences,
    *,
    depths: Sequence[int],
    pooling: str,
    cut: int | None = None,
    shelf: Shelf | MemoryShelf | None = None,
    label: str | None = "trunk pass",
) -> Features:
    """Runs texts through blocks [0, max(depths)) in evaluation mode, without gradients.

    Args:
        base: its matrix products run in the type that its weights have (see `Base.with_products_in`).
        ids: token ids of n texts, or n images.
        depths: after how many blocks to pool, in rising order; may be empty where only `cut` is wanted.
        pooling: see `rehead.models.heads`.
        cut: keep all token states after this many blocks, unless the cache cannot be written to and they would take
            more than a quarter of the free memory.
        shelf: of the cache, made for this base; None keeps everything in memory.
        label: what the progress bar says; None for no bar.
    """
    _prepare(base)
    parts = halves(pooling, base.whole)
    shelf = MemoryShelf() if shelf is None else shelf
    unique, inverse, keys = _unique(ids)
    names = [f"{part}.{depth}" for depth in depths for part in parts]
    wanted = [*names, *([] if cut is None else [_at_cut(cut)])]
    missing = torch.from_numpy(np.flatnonzero(shelf.missing(keys, wanted)))
    lengths = ids.lengths[unique]
    order = missing[torch.argsort(lengths[missing], stable=True)]
    portions = batches(lengths[order], token_budget(base))
    widths = [base.width_at(depth) for depth in depths for _ in parts]
    n_rows = max([_SEGMENT_BYTES // (4 * max(1, sum(widths))), *map(len, portions)])
    reading = _Reading(list(depths), parts, cut)
    run = _Pass(base, reading, _buffers(names, widths, min(n_rows, len(order))))
    start = time.perf_counter()
    with hardware.exact_convolutions(), progress.bar(label, int(lengths[order].sum())) as advance:
        for rows, values in zip(portions, _ahead(ids, unique[order], portions), strict=True):
            if not run.has_room_for(len(rows)):
                run.flush(shelf, keys)
            run.add(order[rows], values, lengths[order[rows]])
            advance(int(lengths[order[rows]].sum()))
        run.flush(shelf, keys)
    cut = run.reading.cut
    seconds = time.perf_counter() - start
    run.dense.clear()
    hardware.give_back_freed_memory()
    wide = keys[inverse]
    pooled = [torch.empty(len(ids), len(parts) * base.width_at(depth)) for depth in depths]
    for depth, whole in zip(depths, pooled, strict=True):
        for part, columns in zip(parts, whole.chunk(len(parts), dim=-1), strict=True):
            shelf.dense(wide, f"{part}.{depth}", out=columns)
    tokens = None if cut is None else shelf.ragged(wide, _at_cut(cut))
    stop = max([*depths, cut or 0])
    return Features(pooled, tokens, forward_flops(base, int(lengths[order].sum()), 0, stop), seconds, cut)


def pooled_features(
    base: Base, ids: Sequences, *, depths: Sequence[int], pooling: str, label: str | None = None
) -> tuple[Tensor, int]:
    """As `trunk_pass`, where nothing is kept for another time: `Features.seen`, and how many tokens passed."""
    _prepare(base)
    unique, inverse, _ = _unique(ids)
    lengths = ids.lengths[unique]
    order = torch.argsort(lengths, stable=True)
    reading = _Reading(list(depths), halves(pooling, base.whole), None)
    portions = batches(lengths[order], token_budget(base))
    pooled = torch.empty(len(unique), sum(base.width_at(depth) for depth in depths) * len(reading.parts))
    with hardware.exact_convolutions(), progress.bar(label, int(lengths.sum())) as advance:
        for rows, values in zip(portions, _ahead(ids, unique[order], portions), strict=True):
            pooled[order[rows]] = torch.cat(reading.read(base, values, lengths[order[rows]])[0], dim=1).cpu()
            advance(int(lengths[order[rows]].sum()))
    if len(portions) > _MANY_PORTIONS:
        hardware.give_back_freed_memory()
    return pooled[torch.from_numpy(inverse)], int(lengths.sum())


def are_kept(ids: Sequences, cut: int, shelf: MemoryShelf) -> bool:
    """Whether a shelf has the token states of all n texts at the cut."""
    return not shelf.missing(_unique(ids)[2], [_at_cut(cut)]).any()


def _ahead(ids: Sequences, rows: Tensor, portions: list[Tensor]) -> Iterator[Tensor]:
    """The values of each portion of the rows; while one is computed with, the next is made: images take time."""
    if len(portions) == 1:
        yield _values(ids, rows)
        return
    coming: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(1) as worker:
        for portion in portions:
            coming.append(worker.submit(_values, ids, rows[portion]))
            if len(coming) > 1:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _values(ids: Sequences, rows: Tensor) -> Tensor:
    return ids.take(rows).values


def shelf_for(base: Base) -> Shelf:
    """The cache's shelf for features of this base in its arithmetic, with the libraries that are installed."""
    arithmetic = "bfloat16" if base.products_in_bf16 else "float32"
    decides = [
        fingerprint(base.folder),
        arithmetic,
        hardware.device().type,
        prepacked.available(),
        torch.__version__,
        transformers.__version__,
        _FORMAT,
    ]
    key = hashlib.sha256("\n".join(map(str, decides)).encode()).hexdigest()[:32]
    return open_shelf(key, {"base": base.name, "arithmetic": arithmetic})


def token_budget(base: Base) -> int:
    """How many tokens a batch may have where nothing is trained."""
    if hardware.device().type != "cuda":
        return TOKEN_BUDGET
    return max(TOKEN_BUDGET, _STATES_ON_CUDA // base.hidden_size)


def batches(lengths: Tensor, budget: int) -> list[Tensor]:
    """Divides texts into consecutive batches of at most `budget` tokens; a longer text is one of its own.

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


def forward_flops(base: Base, tokens: int, start: int, stop: int) -> float:
    """Operations of a forward pass of so many tokens through blocks [start, stop)."""
    return base.flops_a_token(start, stop) * tokens


def training_flops(base: Base, tokens: int, cut: int, depth: int, *, kept: bool) -> float:
    """Operations of training blocks [cut, depth) on so many tokens: the backward pass costs two forward passes.

    Args:
        kept: the states at the cut are read; otherwise the blocks below compute them, forwards alone.
    """
    return 3 * forward_flops(base, tokens, cut, depth) + (0 if kept else forward_flops(base, tokens, 0, cut))


def _prepare(base: Base) -> None:
    """Brings a base to where it is computed with, without dropout. Looked at first: a server asks for a few texts."""
    hardware.keep_freed_memory()
    device = hardware.device()
    with _PREPARING:
        if base.model.training or next(base.model.parameters()).device.type != device.type:
            base.model.to(device).eval()


@dataclass(frozen=True)
class _Reading:
    """What is read of texts on their way through the trunk.

    Attributes:
        depths, cut: see `trunk_pass`.
        parts: the poolings at each of the depths.
    """

    depths: list[int]
    parts: list[str]
    cut: int | None

    def __post_init__(self) -> None:
        assert self.depths == sorted(set(self.depths))  # what is read comes in the order of the blocks

    @property
    def only(self) -> str | None:
        """One token of each text is enough in the last block, where nothing else is pooled or kept."""
        alone = self.parts in (["last"], ["cls"]) and self.depths and max(self.depths) > (self.cut or 0)
        return self.parts[0] if alone else None

    def read(self, base: Base, inputs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Ragged | None]:
        """Of a batch of n texts what is pooled, (n, width) float32 for each part of each depth, and the states at the
        cut.
        """
        device = hardware.device()
        packing = Packing(lengths.to(device))
        stops = sorted({*self.depths, *([] if self.cut is None else [self.cut])})
        in_bf16 = base.products_in_bf16
        pooled, at_cut = [], None
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            hidden, packing = base.filled(base.embed(inputs.to(device), packing), packing)
            done = 0
            for stop in stops:
                only = self.only if stop == stops[-1] else None
                hidden = base.run_blocks(hidden, packing, done, stop, only=only)
                done = stop
                if stop == self.cut:
                    states = packing.unfilled(hidden).to(torch.bfloat16 if in_bf16 else torch.float32).cpu()
                    at_cut = Ragged.of(states, base.lengths_of(hidden, packing).cpu())
                if stop in self.depths:
                    normed = base.normalise(hidden).float()
                    pooled += [normed if only else base.pooled(normed, packing, part) for part in self.parts]
        return pooled, at_cut


@dataclass
class _Pass:
    """Computes batches and collects what the cache shall keep of them.

    Pooled features go into buffers that are there from the beginning. Were they kept as they come, each would be a
    small piece cut out of the memory that a batch's states have left, where the next batch's would no longer fit: the
    trunk pass over long texts held ten times the memory that it needs.

    Attributes:
        dense: by name (capacity, width), in the order in which they are read; the first `n` rows are filled.
    """

    base: Base
    reading: _Reading
    dense: dict[str, Tensor]
    rows: list[Tensor] = field(default_factory=list)
    n: int = 0
    tokens: list[Ragged] = field(default_factory=list)
    token_bytes: int = 0
    tokens_in_memory: int = 0

    def has_room_for(self, n: int) -> bool:
        """Whether so many texts more fit before they are written."""
        capacity = min((len(values) for values in self.dense.values()), default=self.n + n)
        return self.n + n <= capacity and self.token_bytes <= _SEGMENT_BYTES

    def add(self, rows: Tensor, inputs: Tensor, lengths: Tensor) -> None:
        pooled, at_cut = self.reading.read(self.base, inputs, lengths)
        for values, of_batch in zip(self.dense.values(), pooled, strict=True):
            values[self.n : self.n + len(rows)] = of_batch
        if at_cut is not None:
            self.tokens.append(at_cut)
            self.token_bytes += at_cut.values.nbytes
        self.rows.append(rows)
        self.n += len(rows)

    def flush(self, shelf: Shelf | MemoryShelf, keys: npt.NDArray[np.uint8]) -> None:
        if not self.rows:
            return
        dense = {name: values[: self.n] for name, values in self.dense.items()}
        ragged = {}
        cut = self.reading.cut
        if cut is not None:
            ragged[_at_cut(cut)] = Ragged.concatenate(self.tokens)
        written = shelf.add(keys[torch.cat(self.rows).numpy()], dense, ragged)
        if shelf.on_disk and cut is not None and not written:
            self.tokens_in_memory += sum(states.values.nbytes for states in self.tokens)
            if self.tokens_in_memory > hardware.free_memory() / 4:
                shelf.forget(_at_cut(cut))
                self.reading = replace(self.reading, cut=None)
        # A shelf in memory holds what it was given.
        self.dense = {name: torch.empty_like(values) for name, values in self.dense.items()}
        self.rows, self.n, self.tokens, self.token_bytes = [], 0, [], 0


def _buffers(names: list[str], widths: list[int], n_rows: int) -> dict[str, Tensor]:
    return {name: torch.empty(n_rows, width) for name, width in zip(names, widths, strict=True)}


def _at_cut(cut: int) -> str:
    return f"tokens.{cut}"


def _unique(ids: Sequences) -> tuple[Tensor, npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Of n inputs: positions of the first of each set of identical ones (m,); for every input which of these it is
    (n,); and what the cache knows each of them by, (m, 16).
    """
    digests = ids.digests()
    _, first, inverse = np.unique(digests.view("V16").ravel(), return_index=True, return_inverse=True)
    # In the order in which they come.
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    first = first[order].astype(np.int64)
    return torch.from_numpy(first), rank[inverse.ravel()].astype(np.int64), digests[first]
