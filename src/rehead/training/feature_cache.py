"""The feature cache: what frozen layers computed for a text, kept on disk for the next fit that needs it.

A store holds features that are comparable with each other. On disk it is a folder of segments: safetensors files, each
written once and never changed, so readers and writers need no locks. Texts are known by keys of 16 bytes and features
by names; what these stand for is the caller's matter. Every chunk of a segment has a checksum, which is compared
whenever something in the chunk is read. All stores together take a limited number of bytes; what was least recently
used goes first.

torch is imported where features are read or written, and nowhere else, so that `rehead cache` answers at once.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rehead.runtime import files, interrupts, progress
from rehead.runtime.errors import RheadError, SettingError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from rehead.models.sequences import Ragged

ABOUT = "about.json"
SEGMENTS = "segment-*.safetensors"
LEFTOVERS = f"{files.PARTIAL}*"
# What the tensors in a segment are called; a name of features follows all but the first.
KEYS, _DENSE, _RAGGED, _OFFSETS, _CHECKSUMS = "keys", "dense/", "ragged/", "offsets/", "crc32/"

# Bytes that share a checksum. zlib takes 3.6 GB a second of them at this size, 1.7 at the 1.5 kB of a pooled vector. Of
# larger chunks more is read in vain around a sequence of token states.
_CHUNK = 16_384
# Rows that are copied out of a segment at a time.
_GATHERED = 8192

# Of SmolLM2, in bfloat16: 30 depths of 289,000 texts, pooled in float32; or the states of 17 million tokens at a cut.
_DEFAULT_LIMIT = 20_000_000_000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", re.IGNORECASE | re.ASCII)
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def open_store(key: str, about: Mapping[str, Any]) -> FeatureStore:
    """Open the store for features that `key` stands for; nothing is written before something is added.

    What killed processes left in any store is removed.

    Args:
        key: hexadecimal. Everything that changes a feature belongs into what it is a digest of; a name has one dtype
            and one width throughout a store.
        about: how `rehead cache` describes the store, such as {"base": "smollm2", "arithmetic": "bfloat16"}.

    Raises:
        SettingError: $REHEAD_CACHE_LIMIT is not a size; raised here, before anything is computed.
    """
    limit()
    for store in listed(folder(), "*"):
        files.sweep_all_partial(store)
    return FeatureStore(folder() / key, about)


class MemoryStore:
    """Features of any number of texts, by key and name, for as long as this object lives."""

    on_disk = False  # whether features are meant to outlive the process

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._indexes: dict[tuple[int, ...], _Index] = {}

    def add(self, keys: NDArray[np.uint8], dense: Mapping[str, Tensor], ragged: Mapping[str, Ragged]) -> bool:
        """Keep features of n texts. They are not copied, so they must not be changed afterwards.

        Args:
            keys: (n, 16) uint8.
            dense: (n, width) each.
            ragged: n sequences of (length, width) each.

        Returns:
            Whether they outlive this process.
        """
        self._append(_Segment.in_memory(keys, dense, ragged))
        return False

    def forget(self, name: str) -> None:
        """Let go of features of that name that are in memory alone."""
        for segment in self._segments:
            if segment.path is None:
                segment.features.pop(name, None)

    def missing(self, keys: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.bool_]:
        """Return (n,) bool: True where the text of that key (n, 16) lacks at least one of the names.

        What is there is compared with its checksums, once for each object. A damaged segment is removed with a warning,
        and so its texts are among those that the caller computes.
        """
        self._refresh()
        while True:
            missing, damaged = np.zeros(len(keys), np.bool_), set()
            holders_of = {name: self._holders(name) for name in names}
            for holders in set(holders_of.values()):
                held = [name for name in holders_of if holders_of[name] == holders]
                sources, rows = self._index(holders).find(keys)
                missing |= sources < 0
                for number in np.unique(sources[sources >= 0]).tolist():
                    features, here = self._segments[number].features, rows[sources == number]
                    if not all(features[name].is_sound(*features[name].bounds(here), trusted=True) for name in held):
                        damaged.add(number)
            if not damaged:
                return missing
            for number in damaged:
                self._segments[number].discard()

    def dense(self, keys: NDArray[np.uint8], name: str, out: Tensor | None = None) -> Tensor:
        """Return (n, width), a copy, in the order of the keys (n, 16), which may repeat.

        Args:
            out: (n, width), to write them into; a new tensor if None.

        Raises:
            KeyError: some are not there, as `missing` would have said.
            RheadError: some were damaged since `missing` was asked.
        """
        import torch

        sources, rows = self._find(keys, name)
        held = {number: self._segments[number].features[name] for number in np.unique(sources).tolist()}
        if out is None:
            like = next((features.values for features in held.values()), torch.empty(0, 0))
            out = torch.empty(len(keys), like.shape[1], dtype=like.dtype)
        for number, features in held.items():
            of_segment = np.flatnonzero(sources == number)
            features.require_sound(*features.bounds(rows[of_segment]))
            for here in torch.from_numpy(of_segment).split(_GATHERED):
                out[here] = features.values[torch.from_numpy(rows)[here]]
        return out

    def ragged(self, keys: NDArray[np.uint8], name: str) -> Pieces:
        """Return one sequence for each of the keys (n, 16), which may repeat; they are read when they are packed.

        Raises:
            KeyError: some are not there, as `missing` would have said.
        """
        import torch

        sources, rows = self._find(keys, name)
        numbers, which = np.unique(sources, return_inverse=True)
        held = tuple(self._segments[number].features[name] for number in numbers.tolist())
        starts, stops = np.empty_like(rows), np.empty_like(rows)
        for number, features in enumerate(held):
            here = which == number
            starts[here], stops[here] = features.bounds(rows[here])
        return Pieces(held, *map(torch.from_numpy, (which, starts, stops - starts)))

    def _refresh(self) -> None:
        """Look for what others have added."""

    def _append(self, segment: _Segment) -> None:
        self._segments.append(segment)
        self._indexes.clear()  # those of fewer segments will hardly be asked for again

    def _find(self, keys: NDArray[np.uint8], name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which segment each text is in, and in which of its rows."""
        self._refresh()
        sources, rows = self._index(self._holders(name)).find(keys)
        if lacking := int((sources < 0).sum()):
            raise KeyError(f"{lacking} of {len(keys)} texts have no {name!r}; ask `missing` and add them first")
        for number in np.unique(sources).tolist():
            self._segments[number].renew()
        return sources, rows

    def _holders(self, name: str) -> tuple[int, ...]:
        return tuple(number for number, segment in enumerate(self._segments) if name in segment.features)

    def _index(self, holders: tuple[int, ...]) -> _Index:
        # By the segments and not by the name: the names of one pass share an index.
        if holders not in self._indexes:
            self._indexes[holders] = _Index.of({number: self._segments[number].keys for number in holders})
        return self._indexes[holders]


class FeatureStore(MemoryStore):
    """Features of any number of texts, by key and name, in files that any process may read and add to.

    What `missing` has said is there, and what `add` has taken, stays readable through the same object, whoever removes
    the files meanwhile: they are mapped already. Of two files with the same features the one written first is read.
    """

    on_disk = True

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        super().__init__()
        self._folder = folder
        self._about = dict(about)
        self._tried: set[Path] = set()
        self._takes_more = True

    def add(self, keys: NDArray[np.uint8], dense: Mapping[str, Tensor], ragged: Mapping[str, Ragged]) -> bool:
        """Write features of n texts, all of them or none; least recently used features go where space is needed.

        Features that exceed the limit, or that cannot be written, are kept in memory instead. This is said once (unless
        the limit is 0), and nothing more is written through this object. Arguments are those of `MemoryStore.add`.

        Returns:
            Whether they were written.

        Raises:
            SettingError: $REHEAD_CACHE_LIMIT is not a size.
        """
        segment = _Segment.in_memory(keys, dense, ragged)
        # A name that no other process will choose; in the order of time.
        path = self._folder / f"segment-{time.time_ns():020d}-{secrets.token_hex(4)}.safetensors"
        self._takes_more = self._takes_more and self._has_space(segment.nbytes) and self._write(segment, path)
        written = self._takes_more and self._open(path)
        if not written:
            self._append(segment)
        return written

    def _refresh(self) -> None:
        for path in segments_in(self._folder):
            if path not in self._tried:
                self._open(path)

    def _open(self, path: Path) -> bool:
        self._tried.add(path)
        if segment := open_segment(path):
            self._append(segment)
        return segment is not None

    def _has_space(self, n_bytes: int) -> bool:
        if has_space_for(n_bytes):
            return True
        if allowed := limit():
            progress.warn(
                f"features are not cached: {megabytes(n_bytes)} are more than may be kept, which is "
                f"{megabytes(allowed)} and at most half of what is free in {folder()}; "
                "free some space or set REHEAD_CACHE_LIMIT to more"
            )
        return False

    def _write(self, segment: _Segment, path: Path) -> bool:
        try:
            # Anew for each segment: another process may have cleared the cache.
            self._folder.mkdir(parents=True, exist_ok=True)
            if not (self._folder / ABOUT).exists():
                files.write_file(self._folder / ABOUT, json.dumps(self._about).encode())
            trim(limit() - segment.nbytes)
            segment.write(path)
        except (OSError, SafetensorError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
            progress.warn(
                f"features are not cached: cannot write to {self._folder} ({reason}); "
                "free some space or set REHEAD_CACHE to a folder that can be written to"
            )
            return False
        return True


@dataclass(frozen=True)
class Pieces:
    """n sequences that lie in several segments; of those in files nothing is in memory until `packed` reads it.

    Attributes:
        segments: what holds the sequences.
        sources: (n,) int64, in which of them a sequence lies.
        starts: (n,) int64, where it begins there.
        lengths: (n,) int64.
    """

    segments: tuple[_Features, ...]
    sources: Tensor
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Tensor) -> Pieces:
        """Return some of the sequences, in the order of `rows`."""
        return Pieces(self.segments, self.sources[rows], self.starts[rows], self.lengths[rows])

    def packed(self, rows: Tensor) -> Tensor:
        """Read some of the sequences and return them end to end: (sum of their lengths, width).

        Raises:
            RheadError: some were damaged since `missing` was asked.
        """
        import torch

        sources, starts, lengths = (part[rows].numpy() for part in (self.sources, self.starts, self.lengths))
        stops = starts + lengths
        for number in np.unique(sources).tolist():
            here = sources == number
            self.segments[number].require_sound(starts[here], stops[here])
        places = zip(sources.tolist(), starts.tolist(), stops.tolist(), strict=True)
        parts = [self.segments[source].values[start:stop] for source, start, stop in places]
        return torch.cat(parts or [features.values[:0] for features in self.segments[:1]] or [torch.empty(0, 0)])


# Segments.


@dataclass
class _Segment:
    """Features of n texts, in memory or in a mapped file.

    Attributes:
        keys: (n, 16) uint8.
        features: by name.
        path: of the file; None in memory.
        renewed: whether `trim` knows already that the file is in use.
    """

    keys: NDArray[np.uint8]
    features: dict[str, _Features]
    path: Path | None = None
    renewed: bool = False

    @classmethod
    def in_memory(cls, keys: NDArray[np.uint8], dense: Mapping[str, Tensor], ragged: Mapping[str, Ragged]) -> _Segment:
        vectors = {name: _Features(_DENSE + name, values) for name, values in dense.items()}
        return cls(keys, vectors | {name: _Features(_RAGGED + name, r.values, r.offsets) for name, r in ragged.items()})

    @property
    def nbytes(self) -> int:
        parts = [part for features in self.features.values() for part in (features.values, features.offsets)]
        return self.keys.nbytes + sum(part.nbytes for part in parts if part is not None)

    def renew(self) -> None:
        """Set the time that `trim` goes by; once is enough for the life of a store."""
        if self.path and not self.renewed:
            self.renewed = True
            with suppress(OSError):  # not ours, or gone: what is mapped can be read all the same
                os.utime(self.path)

    def write(self, path: Path) -> None:
        """Write it whole or not at all, whatever kills this process.

        Raises:
            OSError, SafetensorError: the folder cannot be written to, or the disk is full.
        """
        import torch
        from safetensors.torch import save_file

        tensors = {KEYS: torch.from_numpy(np.array(self.keys))}
        for name, features in self.features.items():
            tensors[features.label] = features.values.contiguous()
            if features.offsets is not None:
                # Features of one pass share their offsets; safetensors refuses tensors that share memory.
                tensors[_OFFSETS + name] = features.offsets.clone()
        checksums = {_CHECKSUMS + label: torch.from_numpy(_checksums(label, part)) for label, part in tensors.items()}
        with files.new_file(path) as partial:
            save_file(tensors | checksums, partial)

    def discard(self) -> None:
        """Remove the file, whose content is not what was written, and forget what was read of it."""
        if self.path:
            _remove_damaged(self.path, "its checksums do not match")
        self.features = {}


def open_segment(path: Path) -> _Segment | None:
    """Map a file: read its header, keys, offsets and checksums, and nothing of the features themselves.

    Returns:
        None where it is gone, cannot be read, or is damaged, as by a full disk or a copy that was broken off. A damaged
        file is removed, and that is said.
    """
    try:
        with interrupts.deferred(), safe_open(path, "pt") as file:
            # On the CPU these are views of the mapped file, not copies.
            return _checked(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except (OSError, RuntimeError):  # the second is what torch raises where there is no such file any more
        return None
    except (SafetensorError, KeyError, ValueError) as error:
        _remove_damaged(path, first_line(error))
        return None


def _checked(path: Path, tensors: dict[str, Tensor]) -> _Segment:
    """Make a segment of what a file holds; KeyError or ValueError where that is not what was written."""
    labels = [label for label in tensors if not label.startswith(_CHECKSUMS)]
    checksums = {label: tensors.pop(_CHECKSUMS + label).reshape(-1).numpy() for label in labels}
    features = {}
    for label, tensor in tensors.items():
        if label.startswith(_DENSE):
            features[label.removeprefix(_DENSE)] = _Features(label, tensor, None, checksums[label], path)
        elif label.startswith(_RAGGED):
            name = label.removeprefix(_RAGGED)
            features[name] = _Features(label, tensor, tensors[_OFFSETS + name], checksums[label], path)
        elif not np.array_equal(_checksums(label, tensor), checksums[label]):  # of keys and offsets, which are small
            raise ValueError(f"the checksums of its {label} do not match")
    return _Segment(tensors[KEYS].numpy(), features, path)


def _remove_damaged(path: Path, reason: str) -> None:
    progress.warn(f"{path} is damaged ({reason}); it is removed and its features are computed again")
    with suppress(OSError):
        path.unlink()


@dataclass(eq=False)
class _Features:
    """Features of one name in one segment: a vector for each of n texts, or a sequence of vectors.

    Attributes:
        label: what the tensor is called in the file.
        values: (n, width), or (total length, width).
        offsets: (n + 1,) int64, where each sequence begins and the last one ends; None where each text has one vector.
        checksums: (number of chunks,) int64; None in memory.
        path: of the file; None in memory.
        verified: (number of chunks,) bool, which were what had been written when they were last read.
    """

    label: str
    values: Tensor
    offsets: Tensor | None = None
    checksums: NDArray[np.int64] | None = None
    path: Path | None = None
    verified: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.verified = np.zeros(0 if self.checksums is None else len(self.checksums), np.bool_)

    def bounds(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where in `values` the features of these texts begin and end."""
        if self.offsets is None:
            return rows, rows + 1
        offsets = self.offsets.numpy()
        return offsets[rows], offsets[rows + 1]

    def is_sound(self, starts: NDArray[np.int64], stops: NDArray[np.int64], *, trusted: bool) -> bool:
        """Return whether what is between these bounds is what was written; `trusted` passes over what was so before."""
        if self.checksums is None:
            return True
        n_bytes = self.values[:1].nbytes
        chunks = _covered(starts * n_bytes // _CHUNK, -(-stops * n_bytes // _CHUNK))
        if np.any(chunks >= len(self.checksums)):
            return False
        if trusted:
            chunks = chunks[~self.verified[chunks]]
        sound = np.array_equal(_checksums(self.label, self.values, chunks.tolist()), self.checksums[chunks])
        self.verified[chunks] = sound
        return sound

    def require_sound(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
        """Remove the file and raise RheadError where the chunks that are about to be read were damaged meanwhile."""
        if self.path and not self.is_sound(starts, stops, trusted=False):
            with suppress(OSError):
                self.path.unlink()
            raise RheadError(
                f"{self.path} was damaged while it was in use; it is removed: start again, and its features are "
                "computed anew"
            )


def _checksums(label: str, tensor: Tensor, chunks: Iterable[int] | None = None) -> NDArray[np.int64]:
    """Return CRC-32 of chunks of a tensor's bytes, of all where none are named.

    What the tensor is called, its dtype and its shape are part of each: the header of a file has no checksum.
    """
    import torch

    content = tensor.reshape(-1).view(torch.uint8).numpy().data
    begun = zlib.crc32(f"{label} {tensor.dtype} {tuple(tensor.shape)}".encode())
    chunks = range(len(content) // _CHUNK + 1) if chunks is None else chunks
    return np.array([zlib.crc32(content[_CHUNK * i : _CHUNK * (i + 1)], begun) for i in chunks], np.int64)


def _covered(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers that are in at least one of the ranges, each once, in rising order."""
    length = int(stops.max(initial=0)) + 1
    changes = np.bincount(starts, minlength=length) - np.bincount(stops, minlength=length)
    return np.flatnonzero(np.cumsum(changes))


class _Index(NamedTuple):
    """Where texts are: keys in rising order, the number of the segment, the row in it."""

    keys: NDArray[np.bytes_]
    sources: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, segments: Mapping[int, NDArray[np.uint8]]) -> _Index:
        """Make an index of the keys (n, 16) of each segment."""
        keys = np.concatenate([np.empty(0, "S16"), *map(_as_strings, segments.values())])
        sources = [np.full(len(part), number) for number, part in segments.items()]
        rows = [np.arange(len(part)) for part in segments.values()]
        none = np.empty(0, np.int64)
        order = np.argsort(keys, kind="stable")  # stable: of two copies the earlier segment's comes first
        return cls(keys[order], np.concatenate([none, *sources])[order], np.concatenate([none, *rows])[order])

    def find(self, keys: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return segment and row of each key (n, 16), both -1 where it is not there."""
        wanted = _as_strings(keys)
        places = np.searchsorted(self.keys, wanted)
        found = places < len(self.keys)
        found[found] = self.keys[places[found]] == wanted[found]
        sources, rows = np.full(len(keys), -1), np.full(len(keys), -1)
        sources[found], rows[found] = self.sources[places[found]], self.rows[places[found]]
        return sources, rows


def _as_strings(keys: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return (n, 16) uint8 as (n,) strings: NumPy sorts them fast, and at equal lengths its rules for zeros agree."""
    return np.ascontiguousarray(keys).view("S16").reshape(-1)


# How many bytes the segments may take, and what goes first.


def folder() -> Path:
    """Return where the stores are."""
    return files.cache_folder() / "features"


def limit() -> int:
    """Return how many bytes the features may take.

    $REHEAD_CACHE_LIMIT, or 20 GB; without the former never more than half of what would be free on the disk if there
    were no features.

    Raises:
        SettingError: $REHEAD_CACHE_LIMIT is not a size.
    """
    setting = os.environ.get("REHEAD_CACHE_LIMIT", "").strip()
    if not setting:
        return min(_DEFAULT_LIMIT, (_free() + held()) // 2)
    if setting == "0":
        return 0
    size = _SIZE.fullmatch(setting)
    if size is None:
        raise SettingError(f"REHEAD_CACHE_LIMIT is {setting!r}; set it to a size such as 20GB or 500MB, or to 0")
    return int(Decimal(size[1]) * _UNITS[size[2].upper()])


def held() -> int:
    """Return how many bytes the features take."""
    return sum(file.bytes for file in by_age())


def has_space_for(n_bytes: int) -> bool:
    """Return whether features of this size can be kept, once `trim` has removed others.

    They must be within the limit, and leave as much free on the disk as they take: the fit that computed them has yet
    to be saved.
    """
    allowed, taken = limit(), held()
    trimmed = min(taken, max(0, taken + n_bytes - allowed))
    return n_bytes <= allowed and 2 * n_bytes <= _free() + trimmed


def trim(limit_bytes: int | None = None) -> int:
    """Remove the least recently used segments until the rest are within the limit.

    Whoever has a segment open keeps it: the system frees a mapped file's space once nobody reads it.

    Args:
        limit_bytes: instead of `limit()`.

    Returns:
        The number of bytes freed.
    """
    excess = held() - (limit() if limit_bytes is None else limit_bytes)
    freed = 0
    for file in by_age():
        if freed >= excess:
            break
        freed += remove(file.path)
    return freed


def segments_in(store: Path) -> list[Path]:
    """Return the files of a store's segments, in the order in which they were written."""
    return listed(store, SEGMENTS)


class File(NamedTuple):
    last_used_ns: int
    path: Path
    bytes: int


def by_age() -> list[File]:
    """Return the files of all segments, least recently used first."""
    found = []
    for path in in_any_store(SEGMENTS):
        with suppress(OSError):  # another process has just removed it
            status = path.stat()
            found.append(File(status.st_mtime_ns, path, status.st_size))
    return sorted(found)


def _free() -> int:
    """Return how many bytes are free on the disk that the features are on, or would be."""
    for above in (folder().absolute(), *folder().absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(above).free
    return 0


def megabytes(n_bytes: int) -> str:
    """Return a size as people read it."""
    return f"{n_bytes / 1e6:,.1f} MB"


def size_of(path: Path) -> int:
    """Return the bytes in a file, or in all files below a folder; 0 where there is nothing."""
    total = 0
    for file in [path, *(Path(parent) / name for parent, _, names in os.walk(path) for name in names)]:
        with suppress(OSError):
            status = file.lstat()
            total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


def remove(path: Path) -> int:
    """Remove a file or a folder as far as it can be; return the number of bytes freed."""
    before = size_of(path)
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return before - size_of(path)


def in_any_store(name: str) -> list[Path]:
    return [path for store in listed(folder(), "*") for path in listed(store, name)]


def listed(parent: Path, name: str) -> list[Path]:
    """Return what is called so in a folder; nothing where the folder is not there, or not any more."""
    try:
        return sorted(path for path in parent.iterdir() if path.match(name))
    except OSError:
        return []
