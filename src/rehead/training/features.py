"""The trunk pass: each text goes once through the frozen blocks; what comes out is kept.

Texts are taken in order of length and packed end to end, a token budget at a time, so that nothing is padding.
Identical texts pass once, and texts whose features are in the cache already do not pass at all. Pooled features
of any depths, and token states at the cut, come out of the same pass and go to the cache in pieces, so that
memory is bounded by the budget and not by the data.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.models import onednn_linear
from rehead.models.backbone import Backbone
from rehead.models.forward_pass import Reading, batches, prepare, token_budget, unique_inputs, values_ahead
from rehead.models.heads import halves
from rehead.models.loading import digest_of_weights
from rehead.models.sequences import Ragged, Sequences
from rehead.runtime import hardware, progress
from rehead.training.feature_cache import FeatureStore, MemoryStore, Pieces, open_store

# This much is computed before it is written to the cache as one segment; writing takes as much again.
_SEGMENT_BYTES = 32 * 2**20
# To be counted up when what is computed changes, so that features from before are not used.
_FORMAT = 6


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
        """Return (n, sum of the widths): what a head sees that reads all of the depths."""
        return self.pooled[0] if len(self.pooled) == 1 else torch.cat(self.pooled, dim=1)


def trunk_pass(
    base: Backbone,
    ids: Sequences,
    *,
    depths: Sequence[int],
    pooling: str,
    cut: int | None = None,
    store: FeatureStore | MemoryStore | None = None,
    label: str | None = "trunk pass",
) -> Features:
    """Run texts through layers [0, max(depths)) in evaluation mode, without gradients.

    Args:
        base: its matrix products run in the type that its weights have (see `Backbone.with_products_in`).
        ids: token ids of n texts, or n images.
        depths: after how many blocks to pool, in rising order; may be empty where only `cut` is wanted.
        pooling: see `rehead.models.heads`.
        cut: keep all token states after this many blocks, unless the cache cannot be written to and they would take
            more than a quarter of the free memory.
        store: of the cache, made for this base; None keeps everything in memory.
        label: what the progress bar says; None for no bar.
    """
    prepare(base)
    parts = halves(pooling, base.summary_position)
    store = MemoryStore() if store is None else store
    unique, inverse, keys = unique_inputs(ids)
    widths = {f"{part}.{depth}": base.width_at(depth) for depth in depths for part in parts}
    wanted = [*widths, *([] if cut is None else [_at_cut(cut)])]
    missing = torch.from_numpy(np.flatnonzero(store.missing(keys, wanted)))
    lengths = ids.lengths[unique]
    order = missing[torch.argsort(lengths[missing], stable=True)]
    portions = batches(lengths[order], token_budget(base))
    reading = Reading(list(depths), parts, cut)
    capacity = min(len(order), max([_SEGMENT_BYTES // (4 * max(1, sum(widths.values()))), *map(len, portions)]))
    run = _Pass(base, reading, {name: torch.empty(capacity, width) for name, width in widths.items()})
    start = time.perf_counter()
    with hardware.exact_convolutions(), progress.bar(label, int(lengths[order].sum())) as advance:
        for rows, values in zip(portions, values_ahead(ids, unique[order], portions), strict=True):
            if not run.takes(len(rows)):
                run.flush(store, keys)
            run.add(order[rows], values, lengths[order[rows]])
            advance(int(lengths[order[rows]].sum()))
        run.flush(store, keys)
    cut = run.reading.cut
    seconds = time.perf_counter() - start
    run.dense.clear()
    hardware.give_back_freed_memory()
    wide = keys[inverse]
    pooled = [torch.empty(len(ids), len(parts) * base.width_at(depth)) for depth in depths]
    for depth, whole in zip(depths, pooled, strict=True):
        for part, columns in zip(parts, whole.chunk(len(parts), dim=-1), strict=True):
            store.dense(wide, f"{part}.{depth}", out=columns)
    tokens = None if cut is None else store.ragged(wide, _at_cut(cut))
    stop = max([*depths, cut or 0])
    return Features(pooled, tokens, forward_flops(base, int(lengths[order].sum()), 0, stop), seconds, cut)


def are_kept(ids: Sequences, cut: int, store: MemoryStore) -> bool:
    """Whether a store has the token states of all n texts at the cut."""
    return not store.missing(unique_inputs(ids)[2], [_at_cut(cut)]).any()


def store_for(base: Backbone) -> FeatureStore:
    """Return the cache's store for features of this base in its arithmetic, with the libraries that are installed."""
    arithmetic = str(base.products_in).removeprefix("torch.")
    decides = [
        digest_of_weights(base.folder),
        arithmetic,
        hardware.device().type,
        onednn_linear.available(torch.bfloat16 if base.products_in_bf16 else torch.float32),
        torch.__version__,
        version("transformers"),
        _FORMAT,
    ]
    key = hashlib.sha256("\n".join(map(str, decides)).encode()).hexdigest()[:32]
    return open_store(key, {"base": base.name, "arithmetic": arithmetic})


def forward_flops(base: Backbone, tokens: int, start: int, stop: int) -> float:
    """Return the operations of a forward pass of `tokens` tokens through layers [start, stop)."""
    return base.flops_a_token(start, stop) * tokens


def training_flops(base: Backbone, tokens: int, cut: int, depth: int, *, kept: bool) -> float:
    """Return the operations of training layers [cut, depth): the backward pass costs two forward passes.

    Args:
        kept: the states at the cut are read; otherwise the blocks below compute them, forwards alone.
    """
    return 3 * forward_flops(base, tokens, cut, depth) + (0 if kept else forward_flops(base, tokens, 0, cut))


@dataclass
class _Pass:
    """Compute batches and collect what the cache shall keep of them.

    Pooled features go into buffers that are there from the beginning. Were they kept as they come, each would be a
    small piece cut out of the memory that a batch's states have left, where the next batch's would no longer fit: the
    trunk pass over long texts held ten times the memory that it needs.

    Attributes:
        dense: by name (capacity, width), in the order in which they are read; the first `n` rows are filled.
    """

    base: Backbone
    reading: Reading
    dense: dict[str, Tensor]
    rows: list[Tensor] = field(default_factory=list)
    n: int = 0
    tokens: list[Ragged] = field(default_factory=list)
    token_bytes: int = 0
    tokens_in_memory: int = 0

    def takes(self, n: int) -> bool:
        """Return whether `n` texts more fit before they are written."""
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

    def flush(self, store: FeatureStore | MemoryStore, keys: npt.NDArray[np.uint8]) -> None:
        if not self.rows:
            return
        dense = {name: values[: self.n] for name, values in self.dense.items()}
        cut = self.reading.cut
        ragged = {} if cut is None else {_at_cut(cut): Ragged.concatenate(self.tokens)}
        written = store.add(keys[torch.cat(self.rows).numpy()], dense, ragged)
        if store.on_disk and cut is not None and not written:
            self.tokens_in_memory += sum(states.values.nbytes for states in self.tokens)
            if self.tokens_in_memory > hardware.free_memory() / 4:
                store.forget(_at_cut(cut))
                self.reading = replace(self.reading, cut=None)
        # A store in memory holds what was added to it.
        self.dense = {name: torch.empty_like(values) for name, values in self.dense.items()}
        self.rows, self.n, self.tokens, self.token_bytes = [], 0, [], 0


def _at_cut(cut: int) -> str:
    return f"tokens.{cut}"
