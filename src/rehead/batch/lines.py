"""The lines of a text file, one at a time, and its beginning, from which it is told how it is written down.

What cannot be decoded does not end the file: each such byte becomes a character that no text has, so that its line can
be set aside and shown as it is.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

from rehead.batch.portions import UNDECODED
from rehead.data import tables
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# So much of a file is looked at to tell how it is written down.
HEAD_BYTES = 4 * 2**20
# The name of the way in which bytes that cannot be decoded are kept.
KEPT = "rehead.kept"


def _keep(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(UNDECODED + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEPT, _keep)


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Attributes:
        content: the bytes; all there are, or `HEAD_BYTES`.
        whole: whether that is all of the file.
        encoding: None for Parquet.
        text: decoded, with line ends as they are; empty for Parquet.
    """

    path: Path
    content: bytes
    whole: bool
    encoding: str | None
    text: str

    @property
    def is_parquet(self) -> bool:
        return self.encoding is None and bool(self.content)

    @property
    def is_empty(self) -> bool:
        return not self.is_parquet and not self.text.strip()


def read_head(path: Path) -> Head:
    """Reads the beginning of a file.

    Raises:
        DataError: the file cannot be read, or holds no text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(HEAD_BYTES)
            more = file.read(HEAD_BYTES)
            whole = not more
            # What is ASCII does not tell the encoding: the first piece that is not does.
            while content.isascii() and more and more.isascii():
                more = file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if content[:4] == b"PAR1" or not content.strip():
        return Head(path, content if content[:4] == b"PAR1" else b"", whole, None, "")
    encoding = _encoding(content, more if content.isascii() else b"", path)
    text = codecs.getincrementaldecoder(encoding)(KEPT).decode(content, final=whole)
    return Head(path, content, whole, encoding, text)


def _encoding(content: bytes, later: bytes, path: Path) -> str:
    """Decided as `rehead.data.tables.decode` does it for a whole file.

    Args:
        later: of a file that begins with ASCII alone, a piece with more.
    """
    *_, last = candidates = tables.encodings(content, path)
    for encoding in candidates:
        text = codecs.getincrementaldecoder(encoding)(KEPT).decode(content + later)
        damaged = not text.isascii() and tables.SURROGATE.search(text)
        if damaged and encoding != last and not tables.is_damaged_utf8(content + later):
            continue
        if tables.is_text(text):
            if encoding == "cp1252":
                progress.warn(f"{path} is not UTF-8 and is read as Windows-1252")
            return encoding
    raise DataError(f"{path} is neither UTF-8 nor Windows-1252 text; convert it to UTF-8")


def stamp_of(path: Path) -> str:
    """What changes when a file does: where it lies, its size, and when it was written."""
    told = path.stat()
    return f"{path.resolve()} {told.st_size} {told.st_mtime_ns}\n"


class Line(NamedTuple):
    """A line, with its end.

    Attributes:
        number: from 1.
        text: of one that is too long, the beginning.
        problem: why it cannot be read; None if it can.
        too_long: whether that is its length.
    """

    number: int
    text: str
    problem: str | None
    too_long: bool = False


def lines_of(file: TextIO, longest: int) -> Iterator[Line]:
    """The lines of a file that was opened with `errors=KEPT`; of those with more characters only the beginning."""
    number = 0
    while text := file.readline(longest + 1):
        number += 1
        if len(text) > longest and text[-1] != "\n":
            length = len(text)
            while rest := file.readline(longest):
                length += len(rest.removesuffix("\n"))
                if rest[-1] == "\n":
                    break
            yield Line(number, text, f"a line of {length:,} characters, the limit is {longest:,}", too_long=True)
            continue
        undecoded = None if text.isascii() else tables.SURROGATE.search(text)
        yield Line(number, text, f"byte 0x{ord(undecoded[0]) - UNDECODED:02x} cannot be decoded" if undecoded else None)
