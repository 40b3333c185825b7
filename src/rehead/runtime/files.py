"""The one place that writes to disk: whole files and whole folders, or nothing.

A reader never sees a half-written result: content goes to a temporary name beside the destination, is
flushed to the disk, and is then renamed.
"""

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from rehead.runtime import progress

# Folders that a killed process left behind carry this prefix, so that the next one can sweep them away.
PARTIAL = ".rehead-partial-"


def cache_folder() -> Path:
    """Return where fetched and converted files live: $REHEAD_CACHE, or the platform's own cache folder."""
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


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield where to write a file that becomes `path`, whole, if the block ends without an error.

    It lies in a folder of its own, because its writer may have temporary files, too.
    """
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent))
    try:
        yield partial / path.name
        (partial / path.name).chmod(0o644)
        _flush(partial / path.name)
        (partial / path.name).replace(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block ends without an error.

    An existing `path` is replaced only then; until the rename it stays as it was.

    Raises:
        OSError: the parent cannot be written to; raised before the block runs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        for file in sorted(partial.rglob("*")):
            # A library may have made a file that only its owner can read.
            file.chmod(0o755 if file.is_dir() else 0o644)
            _flush(file)
        _flush(partial)
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{path.name}-", dir=path.parent))
            path.rename(retired / path.name)
            try:
                partial.rename(path)
            except OSError:
                (retired / path.name).rename(path)
                raise
            finally:
                shutil.rmtree(retired, ignore_errors=True)
        else:
            partial.rename(path)
        _flush(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock that guards `path` between processes; say `waiting` where another holds it."""
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sweep_partial(path: Path) -> None:
    """Remove what killed processes left of a folder `path`; call it only while holding the lock of `path`."""
    for leftover in path.parent.glob(f"{glob.escape(PARTIAL + path.name)}-*"):
        # mkdtemp adds no hyphen: one more belongs to a folder of a longer name, which may be in use.
        if "-" not in leftover.name.removeprefix(f"{PARTIAL}{path.name}-"):
            shutil.rmtree(leftover, ignore_errors=True)


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
