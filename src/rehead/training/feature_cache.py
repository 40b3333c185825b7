"""The feature cache: what frozen blocks computed for a text, kept for the next fit that needs it.

A shelf holds features that are comparable with each other. On disk it is a folder of segments, each written once and
never changed, so readers and writers need no locks. Texts are known by keys of 16 bytes and features by names; what
these stand for is the caller's matter. How much room all shelves may take is `cache_room`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from rehead.models.sequences import Ragged
from rehead.runtime import files, progress
from rehead.runtime.errors import first_line
from rehead.training import cache_room
from rehead.training.cache_segment import Segment, open_segment

# Rows that are copied out of a segment at a time.
_GATHERED = 8192


def open_shelf(key: str, about: Mapping[str, Any]) -> Shelf:
    """The shelf for features that `key` stands for; nothing is written before something is added.

    Args:
        key: hexadecimal. Everything that changes a feature belongs into what it is a digest of; a name has one dtype
            and one width throughout a shelf.
        about: what `rehead cache` tells of the shelf, such as {"base": "smollm2", "arithmetic": "bfloat16"}.

    Raises:
        SettingError: $REHEAD_CACHE_LIMIT is not a size; found out here, before anything is computed.
    """
    cache_room.limit()
    return Shelf(cache_room.folder() / key, about)


@dataclass(frozen=True)
class Pieces:
    """n sequences that lie in several segments; of those in files nothing is in memory until `packed` reads it.

    Attributes:
        values: (total length, width), of each segment.
        sources: (n,) int64, in which of them a sequence lies.
        starts: (n,) int64, where it begins there.
        lengths: (n,) int64.
    """

    values: tuple[Tensor, ...]
    sources: Tensor
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, rows: Tensor) -> Pieces:
        """The given sequences, in that order."""
        return Pieces(self.values, self.sources[rows], self.starts[rows], self.lengths[rows])

    def packed(self, rows: Tensor) -> Tensor:
        """The given sequences end to end, read now: (sum of their lengths, width)."""
        places = zip(*(part[rows].tolist() for part in (self.sources, self.starts, self.lengths)), strict=True)
        parts = [self.values[source][start : start + length] for source, start, length in places]
        return torch.cat(parts or [self.values[0][:0]])


class MemoryShelf:
    """Features of any number of texts, by key and name, for as long as this object lives.

    Attributes:
        on_disk: whether features are meant to outlive the process.
    """

    on_disk = False

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._indexes: dict[tuple[int, ...], _Index] = {}

    def add(self, keys: NDArray[np.uint8], dense: Mapping[str, Tensor], ragged: Mapping[str, Ragged]) -> bool:
        """Keeps features of n texts. They are not copied, so they must not be changed afterwards.

        Args:
            keys: (n, 16) uint8.
            dense: (n, width) each.
            ragged: n sequences of (length, width) each.

        Returns:
            Whether they outlive this process.
        """
        self._append(Segment(keys, dense, ragged))
        return False

    def forget(self, name: str) -> None:
        """Lets go of sequences of that name that are in memory alone."""
        for segment in self._segments:
            if segment.path is None:
                segment.ragged = {other: values for other, values in segment.ragged.items() if other != name}

    def missing(self, keys: NDArray[np.uint8], names: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) bool: True where the text of that key (n, 16) lacks at least one of the names."""
        self._refresh()
        missing = np.zeros(len(keys), np.bool_)
        for holders in {self._holders(name) for name in names}:
            missing |= self._index(holders).find(keys)[0] < 0
        return missing

    def dense(self, keys: NDArray[np.uint8], name: str, out: Tensor | None = None) -> Tensor:
        """(n, width), a copy, in the order of the keys (n, 16), which may repeat.

        Args:
            out: (n, width), to write them into; a new tensor if None.

        Raises:
            KeyError: `missing` would have said that some are not there.
        """
        sources, rows = self._find(keys, name)
        held = {number: self._segments[number].dense[name] for number in np.unique(sources).tolist()}
        if out is None:
            like = next(iter(held.values()), torch.empty(0, 0))
            out = torch.empty(len(keys), like.shape[1], dtype=like.dtype)
        for number, values in held.items():
            for here in torch.from_numpy(np.flatnonzero(sources == number)).split(_GATHERED):
                out[here] = values[torch.from_numpy(rows)[here]]
        return out

    def ragged(self, keys: NDArray[np.uint8], name: str) -> Pieces:
        """One sequence for each of the keys (n, 16), which may repeat; they are read when they are packed.

        Raises:
            KeyError: `missing` would have said that some are not there.
        """
        sources, rows = self._find(keys, name)
        numbers, which = np.unique(sources, return_inverse=True)
        held = [self._segments[number].ragged[name] for number in numbers.tolist()]
        starts, lengths = np.empty_like(rows), np.empty_like(rows)
        for number, sequences in enumerate(held):
            here = which == number
            starts[here] = sequences.offsets.numpy()[rows[here]]
            lengths[here] = sequences.lengths.numpy()[rows[here]]
        values = tuple(sequences.values for sequences in held) or (torch.empty(0, 0),)
        return Pieces(values, torch.from_numpy(which), torch.from_numpy(starts), torch.from_numpy(lengths))

    def _refresh(self) -> None:
        """Looks for what others have added."""

    def _used(self, segment: Segment) -> None:
        """Is told of each segment that is read."""

    def _append(self, segment: Segment) -> None:
        self._segments.append(segment)
        self._indexes.clear()  # those of fewer segments will hardly be asked for again

    def _find(self, keys: NDArray[np.uint8], name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which segment each text is in, and in which of its rows."""
        self._refresh()
        sources, rows = self._index(self._holders(name)).find(keys)
        if lacking := int((sources < 0).sum()):
            raise KeyError(f"{lacking} of {len(keys)} texts have no {name!r}; ask `missing` and add them first")
        for number in np.unique(sources).tolist():
            self._used(self._segments[number])
        return sources, rows

    def _holders(self, name: str) -> tuple[int, ...]:
        return tuple(number for number, segment in enumerate(self._segments) if name in segment)

    def _index(self, holders: tuple[int, ...]) -> _Index:
        # By the segments and not by the name: the names of one pass share an index.
        if holders not in self._indexes:
            self._indexes[holders] = _Index.of({number: self._segments[number].keys for number in holders})
        return self._indexes[holders]


class Shelf(MemoryShelf):
    """Features of any number of texts, by key and name, in files that any process may read and add to.

    What `missing` has said is there, and what `add` was given, stays readable through the same object, whoever removes
    the files meanwhile: they are mapped already. Of two files with the same features the one written first is read.
    """

    on_disk = True

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        super().__init__()
        self._folder = folder
        self._about = dict(about)
        self._tried: set[Path] = set()
        self._renewed: set[Path] = set()
        self._takes_more = True

    def add(self, keys: NDArray[np.uint8], dense: Mapping[str, Tensor], ragged: Mapping[str, Ragged]) -> bool:
        """Writes features of n texts, all of them or none; least recently used features go where room is needed.

        Features that exceed the limit, or that cannot be written, are kept in memory instead. This is said once (unless
        the limit is 0), and nothing more is written through this object. Arguments are those of `MemoryShelf.add`.

        Returns:
            Whether they were written.

        Raises:
            SettingError: $REHEAD_CACHE_LIMIT is not a size.
        """
        segment = Segment(keys, dense, ragged)
        path = cache_room.new_segment_in(self._folder)
        self._takes_more = self._takes_more and self._has_room(segment.nbytes) and self._write(segment, path)
        written = self._takes_more and self._open(path)
        if not written:
            self._append(segment)
        return written

    def _refresh(self) -> None:
        for path in cache_room.segments_in(self._folder):
            if path not in self._tried:
                self._open(path)

    def _used(self, segment: Segment) -> None:
        if segment.path and segment.path not in self._renewed:
            self._renewed.add(segment.path)  # once is enough for the life of a shelf
            segment.renew()

    def _open(self, path: Path) -> bool:
        self._tried.add(path)
        segment = open_segment(path)
        if segment:
            self._append(segment)
        return segment is not None

    def _has_room(self, n_bytes: int) -> bool:
        allowed = cache_room.limit()
        if cache_room.room_for(n_bytes):
            return True
        if allowed:
            progress.warn(
                f"features are not cached: {cache_room.megabytes(n_bytes)} are more than may be kept, which is "
                f"{cache_room.megabytes(allowed)} and at most half of what is free in {cache_room.folder()}; "
                "free some space or set REHEAD_CACHE_LIMIT to more"
            )
        return False

    def _write(self, segment: Segment, path: Path) -> bool:
        try:
            # Anew for each segment: another process may have cleared the cache.
            self._folder.mkdir(parents=True, exist_ok=True)
            if not (self._folder / cache_room.ABOUT).exists():
                files.write_file(self._folder / cache_room.ABOUT, json.dumps(self._about).encode())
            cache_room.trim(cache_room.limit() - segment.nbytes)
            segment.write(path)
        except (OSError, SafetensorError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
            progress.warn(
                f"features are not cached: cannot write to {self._folder} ({reason}); "
                "free some space or set REHEAD_CACHE to a folder that can be written to"
            )
            return False
        return True


class _Index(NamedTuple):
    """Where texts are: keys in rising order, the number of the segment, the row in it."""

    keys: NDArray[np.bytes_]
    sources: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, segments: Mapping[int, NDArray[np.uint8]]) -> _Index:
        """From the keys (n, 16) of each segment."""
        keys = np.concatenate([np.empty(0, "S16"), *map(_as_strings, segments.values())])
        sources = [np.full(len(part), number) for number, part in segments.items()]
        rows = [np.arange(len(part)) for part in segments.values()]
        none = np.empty(0, np.int64)
        order = np.argsort(keys, kind="stable")  # stable: of two copies the earlier segment's comes first
        return cls(keys[order], np.concatenate([none, *sources])[order], np.concatenate([none, *rows])[order])

    def find(self, keys: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Segment and row of each key (n, 16), both -1 where it is not there."""
        wanted = _as_strings(keys)
        places = np.searchsorted(self.keys, wanted)
        found = places < len(self.keys)
        found[found] = self.keys[places[found]] == wanted[found]
        sources, rows = np.full(len(keys), -1), np.full(len(keys), -1)
        sources[found], rows[found] = self.sources[places[found]], self.rows[places[found]]
        return sources, rows


def _as_strings(keys: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """(n, 16) uint8 as (n,) strings: NumPy sorts them fast, and at equal lengths its rules for zero bytes agree."""
    return np.ascontiguousarray(keys).view("S16").reshape(-1)
