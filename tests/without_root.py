"""What a user may not do, tried where the tests run as root too."""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Of capabilities(7): to pass by what a file's mode forbids. The other numbers are of capset(2): its version and layout.
_DAC_OVERRIDE = 1 << 1
_VERSION = 0x20080522
_EFFECTIVE = 0


@contextmanager
def without_root() -> Iterator[None]:
    """Inside the block this thread may write to nothing that is read-only, and still read what root alone may read."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before = sets[_EFFECTIVE]
    sets[_EFFECTIVE] &= ~_DAC_OVERRIDE
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[_EFFECTIVE] = before
        assert libc.capset(header, sets) == 0


@contextmanager
def folder_for_everyone() -> Iterator[Path]:
    """A folder that everyone may look into, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def make_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def make_writable(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
