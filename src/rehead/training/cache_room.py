"""Room for the feature cache: what lies in it, how much it may take, and what goes when there is no more.

Sees shelves (folders) of segments (files), and of what is in these the keys of the texts alone; the rest is read and
written in `cache_segment`. Does without torch, so that `rehead cache` answers at once.
"""

import json
import os
import re
import secrets
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from rehead.runtime import files
from rehead.runtime.errors import RheadError, SettingError

ABOUT = "about.json"
_SEGMENTS = "segment-*.safetensors"
_LEFTOVERS = f"{files.PARTIAL}*"

# Of SmolLM2, in bfloat16: 30 depths of 289,000 texts, pooled in float32; or the states of 17 million tokens at a cut.
_DEFAULT_LIMIT = 20_000_000_000

# Nobody takes an hour between two writes to one file: whoever left a temporary that old was killed.
_LEFT_BEHIND_SECONDS = 3600

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", re.IGNORECASE | re.ASCII)
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


@dataclass(frozen=True)
class ShelfSummary:
    """What is told of one shelf.

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


@dataclass(frozen=True, order=True)
class _Segment:
    last_used_ns: int
    path: Path
    bytes: int


def folder() -> Path:
    """Where the shelves are."""
    return files.cache_folder() / "features"


def limit() -> int:
    """How many bytes the features may take.

    $REHEAD_CACHE_LIMIT, or 20 GB; without the former never more than half of what would be free on the disk if there
    were no features.

    Raises:
        SettingError: $REHEAD_CACHE_LIMIT is not a size.
    """
    given = os.environ.get("REHEAD_CACHE_LIMIT", "").strip()
    if not given:
        return min(_DEFAULT_LIMIT, (_free() + held()) // 2)
    if given == "0":
        return 0
    size = _SIZE.fullmatch(given)
    if size is None:
        raise SettingError(f"REHEAD_CACHE_LIMIT is {given!r}; set it to a size such as 20GB or 500MB, or to 0")
    return int(Decimal(size[1]) * _UNITS[size[2].upper()])


def held() -> int:
    """How many bytes the features take."""
    return sum(segment.bytes for segment in _segments())


def room_for(n_bytes: int) -> bool:
    """Whether features of this size can be kept, once `trim` has made room for them.

    They must be within the limit, and leave as much free on the disk as they take: the fit that computed them has yet
    to be saved.
    """
    allowed, taken = limit(), held()
    trimmed = min(taken, max(0, taken + n_bytes - allowed))
    return n_bytes <= allowed and 2 * n_bytes <= _free() + trimmed


def trim(limit_bytes: int | None = None) -> int:
    """Removes the least recently used segments until the rest are within the limit, and what killed processes left.

    Whoever has a segment open keeps it: the system frees a mapped file's space once nobody reads it.

    Args:
        limit_bytes: instead of `limit()`.

    Returns:
        The number of bytes freed.
    """
    excess = held() - (limit() if limit_bytes is None else limit_bytes)
    freed = 0
    for segment in _segments():
        if freed >= excess:
            break
        freed += _remove(segment.path)
    return freed + sum(_remove(path) for path in _in_any_shelf(_LEFTOVERS) if _is_left_behind(path))


def shelves() -> list[ShelfSummary]:
    """What the cache holds, most recently used first; shelves from which everything was trimmed are left out."""
    by_shelf: dict[Path, list[_Segment]] = {}
    for segment in _segments():
        by_shelf.setdefault(segment.path.parent, []).append(segment)
    summaries = [
        ShelfSummary(
            key=shelf.name,
            about=_about(shelf),
            texts=len(np.unique(np.concatenate([_keys(segment.path) for segment in segments]), axis=0)),
            bytes=sum(segment.bytes for segment in segments),
            last_used=max(segment.last_used_ns for segment in segments) / 1e9,
        )
        for shelf, segments in by_shelf.items()
    ]
    return sorted(summaries, key=lambda summary: summary.last_used, reverse=True)


def overview() -> dict[str, Any]:
    """What `rehead cache` tells: the shelves, and the sizes of what else is in the cache folder.

    Raises:
        SettingError: $REHEAD_CACHE_LIMIT is not a size.
    """
    return {
        "folder": str(folder()),
        "limit_bytes": limit(),
        "bytes": held(),
        "entries": [asdict(shelf) for shelf in shelves()],
        "fetched_bytes": size_of(files.cache_folder() / "packages"),
        "converted_bytes": size_of(files.cache_folder() / "converted"),
    }


def megabytes(n_bytes: int) -> str:
    """A size as it is told."""
    return f"{n_bytes / 1e6:,.1f} MB"


def clear() -> int:
    """Removes all features; returns the number of bytes freed.

    Raises:
        RheadError: some are still there.
    """
    # By name, so that nothing of the user's goes where $REHEAD_CACHE was set to a folder with other things in it.
    freed = sum(_remove(path) for name in (_SEGMENTS, _LEFTOVERS, ABOUT) for path in _in_any_shelf(name))
    for shelf in _listed(folder(), "*"):
        with suppress(OSError):
            shelf.rmdir()
    if left := held():
        raise RheadError(
            f"{megabytes(left)} of features are still in {folder()}: you may not remove them, or another rehead "
            "writes them at this moment; try again as their owner"
        )
    return freed


def segments_in(shelf: Path) -> list[Path]:
    """In the order in which they were written."""
    return _listed(shelf, _SEGMENTS)


def new_segment_in(shelf: Path) -> Path:
    """A name for a segment that no other process will choose."""
    return shelf / f"segment-{time.time_ns():020d}-{secrets.token_hex(4)}.safetensors"


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files below a folder; 0 where there is nothing."""
    total = 0
    for file in [path, *(Path(parent) / name for parent, _, names in os.walk(path) for name in names)]:
        with suppress(OSError):
            facts = file.lstat()
            total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total


def _free() -> int:
    """Bytes free on the disk that the features are on, or would be."""
    for above in (folder().absolute(), *folder().absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(above).free
    return 0


def _segments() -> list[_Segment]:
    """Least recently used first."""
    found = []
    for path in _in_any_shelf(_SEGMENTS):
        with suppress(OSError):  # another process has just removed it
            facts = path.stat()
            found.append(_Segment(facts.st_mtime_ns, path, facts.st_size))
    return sorted(found)


def _in_any_shelf(name: str) -> list[Path]:
    return [path for shelf in _listed(folder(), "*") for path in _listed(shelf, name)]


def _listed(parent: Path, name: str) -> list[Path]:
    """What is called so in a folder; nothing where the folder is not there, or not any more."""
    try:
        return sorted(path for path in parent.iterdir() if path.match(name))
    except OSError:
        return []


def _remove(path: Path) -> int:
    """Removes a file or a folder as far as it can be; returns the number of bytes freed."""
    before = size_of(path)
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return before - size_of(path)


def _is_left_behind(path: Path) -> bool:
    times = []
    for file in [path, *_listed(path, "*")]:
        with suppress(OSError):
            times.append(file.lstat().st_mtime)
    return max(times, default=0) < time.time() - _LEFT_BEHIND_SECONDS


def _about(shelf: Path) -> dict[str, Any]:
    try:
        about = json.loads((shelf / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _keys(segment: Path) -> NDArray[np.uint8]:
    """(n, 16) uint8; none where the segment is damaged or gone."""
    with suppress(OSError, SafetensorError), safe_open(segment, "numpy") as file:
        keys: NDArray[np.uint8] = file.get_tensor("keys")
        if keys.ndim == 2 and keys.shape[1] == 16:
            return keys
    return np.empty((0, 16), np.uint8)
