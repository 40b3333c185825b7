"""The one place that writes to disk: whole files and whole folders, or nothing.

A reader never sees a half-written result: content goes to a temporary name beside the destination, is
flushed to the disk, and is then renamed.
"""

import ctypes
import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rehead.runtime import progress

# Folders that a killed process left behind carry this prefix, so that the next one can sweep them away.
PARTIAL = ".rehead-partial-"
# Where a folder lies while another takes its name, on systems that cannot exchange the two.
_RETIRED = ".rehead-retired-"
# Linux's renameat2(2): paths are as seen from the working folder, and the two names are exchanged.
_HERE, _RENAME_EXCHANGE = -100, 2


def cache_folder() -> Path:
    """Return where fetched and converted files live: $REHEAD_CACHE, or the platform's own cache folder."""
    import platformdirs

    chosen = os.environ.get("REHEAD_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("rehead", appauthor=False))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with new_file(path) as partial:
        partial.write_bytes(content)


def write_with_checksum(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, whole or not at all, with its checksum under the name `sha256`."""
    write_file(path, json.dumps({**content, "sha256": sha256_of_json(content)}).encode())


def read_with_checksum(path: Path) -> dict[str, Any]:
    """Return what `write_with_checksum` has written.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not hold what was written.
    """
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.pop("sha256", None) != sha256_of_json(content):
        raise ValueError(f"the checksum in {path} is not that of its content")
    return content


def sha256_of_json(content: Mapping[str, Any]) -> str:
    """Return the checksum of what JSON makes of `content`."""
    # JSON makes lists of tuples and strings of keys: the checksum is that of what is read again.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield where to write a file that becomes `path`, whole, if the block ends without an error.

    It lies in a folder of its own, because its writer may have temporary files, too. What killed processes left of
    earlier writing is removed first.
    """
    sweep_partial(path)
    with _partial_folder(path) as folder:
        partial = folder / path.name
        yield partial
        partial.chmod(0o644)
        _flush(partial)
        partial.replace(path)
        _flush(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block ends without an error.

    An existing `path` is replaced only then, in one step where the system can exchange two names; until then it stays
    as it was. What killed processes left of earlier writing is removed first.

    Raises:
        OSError: the parent cannot be written to; raised before the block runs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    restore(path)
    sweep_partial(path)
    with _partial_folder(path) as partial:
        yield partial
        partial.chmod(0o755)
        for file in sorted(partial.rglob("*")):
            # A library may have made a file that only its owner can read.
            file.chmod(0o755 if file.is_dir() else 0o644)
            _flush(file)
        _flush(partial)
        if not path.exists():
            partial.rename(path)
        elif not _exchange(partial, path):
            _replace_in_two_steps(partial, path)
        _flush(path.parent)


def restore(path: Path) -> None:
    """Give a folder its name back whose writer was killed between the two renames of a replacement."""
    if not path.exists():
        for kept in path.parent.glob(f"{glob.escape(_RETIRED + path.name)}-*/{glob.escape(path.name)}"):
            kept.rename(path)
            kept.parent.rmdir()
            return


@contextmanager
def _partial_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; it is removed at the end, unless it was renamed.

    It is locked meanwhile. The lock ends with the process, however that ends, so whatever is not locked is a leftover.
    """
    partial, descriptor = _new_and_locked(path)
    try:
        yield partial
    finally:
        _remove(partial)
        os.close(descriptor)


def _new_and_locked(path: Path) -> tuple[Path, int]:
    """Make a folder beside `path` and lock it; return it and the descriptor that holds the lock."""
    while True:
        partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent))
        # Until it is locked, another process may take it for a leftover and remove it; then another one is made.
        with suppress(FileNotFoundError):
            descriptor = os.open(partial, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks; nothing is swept there
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if partial.exists():
                return partial, descriptor
            os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Let two paths swap their names in one step; return False where the system or the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(libc.renameat2(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0)


def _replace_in_two_steps(partial: Path, path: Path) -> None:
    """Rename `path` away and `partial` to it; `restore` mends what a kill between the two leaves."""
    retired = Path(tempfile.mkdtemp(prefix=f"{_RETIRED}{path.name}-", dir=path.parent))
    path.rename(retired / path.name)
    try:
        partial.rename(path)
    except BaseException:
        (retired / path.name).rename(path)
        raise
    finally:
        _remove(retired)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock that guards `path` between processes; say `waiting` where another holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(f"{path}.lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        progress.say(waiting)
        held = lock.acquire()
    with held:
        yield


def sweep_partial(path: Path) -> None:
    """Remove what killed processes left of `path`; what another process is writing is left alone."""
    for prefix in (PARTIAL, _RETIRED):
        for leftover in path.parent.glob(f"{glob.escape(prefix + path.name)}-*"):
            # What mkdtemp adds has no hyphen: one more belongs to a folder of a longer name.
            if "-" not in leftover.name.removeprefix(f"{prefix}{path.name}-"):
                _remove_unlocked(leftover)


def sweep_all_partial(folder: Path) -> None:
    """Remove what killed processes left of anything in a folder; what another process is writing is left alone."""
    for leftover in folder.glob(f"{PARTIAL}*"):
        _remove_unlocked(leftover)


def _remove_unlocked(leftover: Path) -> None:
    """Remove what a process has left, unless that is alive; holds the lock so that none begins to write there."""
    with suppress(OSError):  # its writer has finished
        descriptor = os.open(leftover, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(leftover)
        finally:
            os.close(descriptor)


def _flush(path: Path) -> None:
    """Ask the system to put a file or a folder's entries on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some file systems do not sync folders; the rename is still atomic there.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)
