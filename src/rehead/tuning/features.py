"""The trunk pass: each text goes once through the frozen blocks; what comes out is kept.

Texts are taken in order of length and packed end to end, a token budget at a time, so that nothing is padding.
Identical texts pass once, and texts whose features are in the cache already do not pass at all. Pooled features
of any depths, and token states at the cut, come out of the same pass and go to the cache in pieces, so that
memory is bounded by the budget and not by the data.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor

from rehead import hardware, progress
from rehead.bases.cut import Base, embed, normalise, run_blocks
from rehead.bases.loading import fingerprint
from rehead.bases.packing import Packing
from rehead.bases.ragged import Ragged
from rehead.heads import halves
from rehead.tuning.feature_cache import MemoryShelf, Pieces, Shelf, open_shelf

# Large enough for matrix products at full speed, small enough to stay in the CPU's caches: of 512 to 8,192, this was
# the fastest on two cores.
TOKEN_BUDGET = 2048
# So much is computed before it is written to the cache as one segment; writing takes as much again, twice.
_SEGMENT_BYTES = 32 * 2**20
# To be counted up when what is computed changes, so that features from before are not used.
_FORMAT = 2


@dataclass(frozen=True)
class Features:
    """What the trunk pass keeps of n texts.

    Attributes:
        pooled: (n, n_depths, width) float32, behind the final norm; the depths are those asked for. With `flatten(1)`
            what a head sees that reads all of them.
        tokens: n sequences of states that enter block `cut`, or None where no tail needs them.
        forward_flops: floating-point operations of the matrix products in the blocks; none for what was cached.
        seconds: that the blocks took.
    """

    pooled: Tensor
    tokens: Pieces | None
    forward_flops: float
    seconds: float


def trunk_pass(
    base: Base,
    ids: Ragged,
    *,
    depths: Sequence[int],
    pooling: str,
    cut: int | None = None,
    shelf: Shelf | MemoryShelf | None = None,
    label: str = "trunk pass",
) -> Features:
    """Runs texts through blocks [0, max(depths)) in evaluation mode, without gradients.

    Args:
        base: its matrix products run in the type that its weights have (see `Base.with_products_in`).
        ids: token ids of n texts.
        depths: after how many blocks to pool, in rising order; may be empty where only `cut` is wanted.
        pooling: see `rehead.heads`.
        cut: keep all token states after this many blocks, unless the cache cannot be written to and they would take
            more than a quarter of the free memory.
        shelf: of the cache, made for this base; None keeps everything in memory.
        label: what the progress bar says.
    """
    hardware.keep_freed_memory()
    parts = halves(pooling, base.family.causal)
    shelf = MemoryShelf() if shelf is None else shelf
    unique, inverse = _unique(ids)
    keys = _keys(ids, unique)
    names = [f"{part}.{depth}" for depth in depths for part in parts]
    wanted = [*names, *([] if cut is None else [_at_cut(cut)])]
    missing = torch.from_numpy(np.flatnonzero(shelf.missing(keys, wanted)))
    lengths = ids.lengths[unique]
    order = missing[torch.argsort(lengths[missing], stable=True)]
    # One token of each text is enough in the last block, where nothing else is pooled or kept.
    only = parts[0] if parts in (["last"], ["cls"]) and depths and max(depths) > (cut or 0) else None
    portions = batches(lengths[order], TOKEN_BUDGET)
    n_rows = max([_SEGMENT_BYTES // (4 * base.hidden_size * max(1, len(names))), *map(len, portions)])
    run = _Pass(base, list(depths), parts, cut, only, _buffers(names, min(n_rows, len(order)), base.hidden_size))
    start = time.perf_counter()
    with progress.bar(label, int(lengths[order].sum())) as advance:
        for rows in portions:
            if not run.has_room_for(len(rows)):
                run.flush(shelf, keys)
            run.add(order[rows], ids.take(unique[order[rows]]))
            advance(int(lengths[order[rows]].sum()))
        run.flush(shelf, keys)
    cut = run.cut
    seconds = time.perf_counter() - start
    wide = keys[inverse]
    pooled = torch.empty(len(ids), len(depths), len(parts) * base.hidden_size)
    for i, depth in enumerate(depths):
        for part, columns in zip(parts, pooled[:, i].chunk(len(parts), dim=-1), strict=True):
            shelf.dense(wide, f"{part}.{depth}", out=columns)
    tokens = None if cut is None else shelf.ragged(wide, _at_cut(cut))
    stop = max([*depths, cut or 0])
    return Features(pooled, tokens, forward_flops(base, int(lengths[order].sum()), 0, stop), seconds)


def are_kept(ids: Ragged, cut: int, shelf: MemoryShelf) -> bool:
    """Whether a shelf has the token states of all n texts at the cut."""
    unique, _ = _unique(ids)
    return not shelf.missing(_keys(ids, unique), [_at_cut(cut)]).any()


def shelf_for(base: Base) -> Shelf:
    """The cache's shelf for features of this base in its arithmetic, with the libraries that are installed."""
    arithmetic = "bfloat16" if products_in_bf16(base) else "float32"
    decides = [
        fingerprint(base.folder),
        arithmetic,
        hardware.device().type,
        torch.__version__,
        transformers.__version__,
        _FORMAT,
    ]
    key = hashlib.sha256("\n".join(map(str, decides)).encode()).hexdigest()[:32]
    return open_shelf(key, {"base": base.name, "arithmetic": arithmetic})


def batches(lengths: Tensor, token_budget: int) -> list[Tensor]:
    """Divides texts into consecutive batches of at most `token_budget` tokens; a longer text is one of its own.

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
        if end > start and tokens + length > token_budget:
            result.append(torch.arange(start, end))
            start, tokens = end, 0
        tokens += length
    if start < len(lengths):
        result.append(torch.arange(start, len(lengths)))
    return result


def forward_flops(base: Base, tokens: int, start: int, stop: int) -> float:
    """Operations of a forward pass through blocks [start, stop): 2 a weight and token (Kaplan et al. 2020, §2.1)."""
    weights = sum(weight.numel() for block in base.blocks[start:stop] for weight in block.parameters())
    return 2.0 * weights * tokens


def training_flops(base: Base, tokens: int, cut: int, depth: int, *, kept: bool) -> float:
    """Operations of training blocks [cut, depth) on so many tokens: the backward pass costs two forward passes.

    Args:
        kept: the states at the cut are read; otherwise the blocks below compute them, forwards alone.
    """
    return 3 * forward_flops(base, tokens, cut, depth) + (0 if kept else forward_flops(base, tokens, 0, cut))


def products_in_bf16(base: Base) -> bool:
    """Whether the weights of the blocks' matrix products are bfloat16."""
    return next(weight.dtype for weight in base.blocks[0].parameters() if weight.dim() == 2) == torch.bfloat16


@dataclass
class _Pass:
    """Computes batches and collects what the cache shall keep of them.

    Pooled features go into buffers that are there from the beginning. Were they kept as they come, each would be a
    small piece cut out of the memory that a batch's states have left, where the next batch's would no longer fit: the
    trunk pass over long texts held ten times the memory that it needs.

    Attributes:
        dense: by name (capacity, hidden_size), the first `n` rows of which are filled.
    """

    base: Base
    depths: list[int]
    parts: list[str]
    cut: int | None
    only: str | None
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

    def add(self, rows: Tensor, ids: Ragged) -> None:
        base, device = self.base, hardware.device()
        base.model.to(device).eval()
        packing = Packing(ids.lengths.to(device))
        stops = sorted({*self.depths, *([] if self.cut is None else [self.cut])})
        in_bf16 = products_in_bf16(base)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=in_bf16):
            hidden = embed(base, ids.values.to(device), packing)
            done = 0
            for stop in stops:
                only = self.only if stop == stops[-1] else None
                hidden = run_blocks(base, hidden, packing, done, stop, only=only)
                done = stop
                if stop == self.cut:
                    self._keep_tokens(hidden.to(torch.bfloat16 if in_bf16 else torch.float32).cpu(), ids.lengths)
                if stop in self.depths:
                    normed = normalise(base, hidden).float()
                    for part in self.parts:
                        pooled = normed if only else packing.pooled(normed, part)
                        self.dense[f"{part}.{stop}"][self.n : self.n + len(rows)] = pooled
        self.rows.append(rows)
        self.n += len(rows)

    def _keep_tokens(self, values: Tensor, lengths: Tensor) -> None:
        self.tokens.append(Ragged.of(values, lengths))
        self.token_bytes += values.nbytes

    def flush(self, shelf: Shelf | MemoryShelf, keys: npt.NDArray[np.uint8]) -> None:
        if not self.rows:
            return
        dense = {name: values[: self.n].clone() for name, values in self.dense.items()}
        ragged = {}
        if self.cut is not None:
            ragged[_at_cut(self.cut)] = Ragged.concatenate(self.tokens)
        written = shelf.add(keys[torch.cat(self.rows).numpy()], dense, ragged)
        if shelf.on_disk and self.cut is not None and not written:
            self.tokens_in_memory += sum(states.values.nbytes for states in self.tokens)
            if self.tokens_in_memory > hardware.free_memory() / 4:
                shelf.forget(_at_cut(self.cut))
                self.cut = None
        self.rows, self.n, self.tokens, self.token_bytes = [], 0, [], 0


def _buffers(names: list[str], n_rows: int, width: int) -> dict[str, Tensor]:
    return {name: torch.empty(n_rows, width) for name in names}


def _at_cut(cut: int) -> str:
    return f"tokens.{cut}"


def _unique(ids: Ragged) -> tuple[Tensor, npt.NDArray[np.int64]]:
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
    return torch.tensor(unique, dtype=torch.int64), inverse


def _keys(ids: Ragged, rows: Tensor) -> npt.NDArray[np.uint8]:
    """(n, 16): what the cache knows each text by, a digest of its token ids."""
    values = ids.values.numpy()
    bounds = ids.offsets.tolist()
    digests = [
        hashlib.blake2b(values[bounds[row] : bounds[row + 1]].tobytes(), digest_size=16).digest()
        for row in rows.tolist()
    ]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
