"""Files as bytes: plain, or packed with gzip, bzip2, xz or zip; what they unpack to is bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from rehead.runtime.errors import DataError

# Unpacked bytes: of a few kilobytes, an archive may make terabytes.
MAX_UNPACKED_BYTES = 4 * 2**30
_ZIP = b"PK\x03\x04"
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield a file, whose position says how much of it has been read, and its content; the same one where it is plain.

    Raises:
        DataError: it cannot be opened, or is an archive of several files; later, that it is damaged or unpacks to more
            than `MAX_UNPACKED_BYTES`.
    """
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; check the path") from None
        except IsADirectoryError:
            raise DataError(f"{path} is a folder; give a CSV, TSV, JSON Lines or Parquet file") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        start = raw.read(6)
        raw.seek(0)
        packed: IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile | None = None
        if start.startswith(b"\x1f\x8b"):
            packed = stack.enter_context(gzip.GzipFile(fileobj=raw))
        elif start.startswith(b"BZh"):
            packed = stack.enter_context(bz2.BZ2File(raw))
        elif start.startswith(b"\xfd7zXZ\0"):
            packed = stack.enter_context(lzma.LZMAFile(raw))
        elif start.startswith(_ZIP):
            packed = _only_member(path, raw, stack)
        yield raw, raw if packed is None else stack.enter_context(io.BufferedReader(_Bounded(packed, path)))


def _only_member(path: Path, raw: BinaryIO, stack: ExitStack) -> IO[bytes] | None:
    """Open the one file of a zip archive; a workbook is an archive that is read as it is."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(raw))
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if "[Content_Types].xml" in names or "mimetype" in names:
            raw.seek(0)
            return None
        names = [name for name in names if not PurePosixPath(name).name.startswith(".") and "__MACOSX" not in name]
        if len(names) != 1:
            found = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise DataError(f"{path} is an archive of {len(names):,} files ({found}); give one that holds one table")
        return stack.enter_context(archive.open(names[0]))
    except _DAMAGED as error:
        raise DataError(f"{path} cannot be unpacked ({error}); pack it again") from error


class _Bounded(io.RawIOBase):
    """What an archive unpacks to, up to `MAX_UNPACKED_BYTES`."""

    def __init__(self, packed: IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile, path: Path) -> None:
        self._packed, self._path, self._read = packed, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            content = self._packed.read(len(buffer))
        except _DAMAGED as error:
            raise DataError(f"{self._path} cannot be unpacked ({error}); pack it again") from error
        self._read += len(content)
        if self._read > MAX_UNPACKED_BYTES:
            limit = f"{MAX_UNPACKED_BYTES / 2**30:.0f} GiB"
            raise DataError(f"{self._path} unpacks to more than {limit}; divide it, or unpack it yourself")
        buffer[: len(content)] = content
        return len(content)
