"""What the feature cache holds, as `rehead cache` shows it, and how all of it is removed."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rehead.runtime import files
from rehead.runtime.errors import RheadError
from rehead.runtime.results import Result
from rehead.training.feature_cache import (
    ABOUT,
    KEYS,
    LEFTOVERS,
    SEGMENTS,
    File,
    by_age,
    folder,
    held,
    in_any_store,
    limit,
    listed,
    megabytes,
    remove,
    size_of,
)


@dataclass(frozen=True)
class StoreSummary:
    """What a store holds.

    Attributes:
        key: the folder's name.
        about: what its writer said of it; empty where that cannot be read.
        texts: how many different texts have features in it.
        bytes: size of its segments.
        last_used: when one of them was last read or written, in seconds since 1970.
    """

    key: str
    about: dict[str, Any]
    texts: int
    bytes: int
    last_used: float


@dataclass(frozen=True)
class CacheOverview(Result):
    """What the cache folder holds, as `rehead cache` shows it.

    Attributes:
        folder: where the features lie.
        limit_bytes: what they may take; beyond it the least recently used go.
        bytes: what they take.
        entries: the stores.
        fetched_bytes: of packages from the package index.
        converted_bytes: of pretrained models that were converted from other forms.
    """

    folder: str
    limit_bytes: int
    bytes: int
    entries: list[StoreSummary]
    fetched_bytes: int
    converted_bytes: int


@dataclass(frozen=True)
class ClearedCache(Result):
    """What `rehead cache --clear` has done.

    Attributes:
        freed_bytes: what the features took.
    """

    freed_bytes: int


def overview() -> CacheOverview:
    """Return what the cache folder holds.

    Raises:
        SettingError: $REHEAD_CACHE_LIMIT is not a size.
    """
    return CacheOverview(
        folder=str(folder()),
        limit_bytes=limit(),
        bytes=held(),
        entries=stores(),
        fetched_bytes=size_of(files.cache_folder() / "packages"),
        converted_bytes=size_of(files.cache_folder() / "converted"),
    )


def stores() -> list[StoreSummary]:
    """Describe the stores, most recently used first; those from which everything was trimmed are left out."""
    by_store: dict[Path, list[File]] = {}
    for file in by_age():
        by_store.setdefault(file.path.parent, []).append(file)
    summaries = [
        StoreSummary(
            key=store.name,
            about=_about(store),
            texts=len(np.unique(np.concatenate([_keys(file.path) for file in segments]), axis=0)),
            bytes=sum(file.bytes for file in segments),
            last_used=segments[-1].last_used_ns / 1e9,
        )
        for store, segments in by_store.items()
    ]
    return sorted(summaries, key=lambda summary: summary.last_used, reverse=True)


def clear() -> int:
    """Remove all features; return the number of bytes freed.

    Raises:
        RheadError: some are still there.
    """
    # By name, so that nothing of the user's goes where $REHEAD_CACHE was set to a folder with other things in it.
    freed = sum(remove(path) for name in (SEGMENTS, LEFTOVERS, ABOUT) for path in in_any_store(name))
    for store in listed(folder(), "*"):
        with suppress(OSError):
            store.rmdir()
    if left := held():
        raise RheadError(
            f"{megabytes(left)} of features are still in {folder()}: you may not remove them, or another rehead "
            "writes them at this moment; try again as their owner"
        )
    return freed


def _about(store: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        about = json.loads((store / ABOUT).read_text(encoding="utf-8"))
        return about if isinstance(about, dict) else {}
    return {}


def _keys(segment: Path) -> NDArray[np.uint8]:
    """Return (n, 16) uint8; none where the segment is damaged or gone."""
    with suppress(OSError, SafetensorError, ValueError), safe_open(segment, "numpy") as file:
        return np.asarray(file.get_tensor(KEYS), np.uint8).reshape(-1, 16)
    return np.empty((0, 16), np.uint8)
