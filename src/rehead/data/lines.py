"""The beginning of a file, from which it is found out how it is written down, and the lines of one with text in it.

What cannot be decoded does not end the file: each such byte becomes a character that no text has, so that its line can
be set aside and shown as it is.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from rehead.data import packing
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# The longest field that can be a text to classify; a longer one is a binary or a file without line breaks.
MAX_FIELD_CHARACTERS = 1_000_000
# So much of a file is looked at to find out how it is written down.
HEAD_BYTES = 4 * 2**20
# JSON can spell half a character, which no encoding can write.
SURROGATE = re.compile("[\ud800-\udfff]")
# What stands for a byte that could not be decoded: its number from here on.
UNDECODED = 0xDC00
# The name of the handler that keeps bytes that cannot be decoded.
KEPT = "rehead.kept"
# What most letters of most texts are.
_PRINTED = b"\t\r\n" + bytes(range(32, 127))
# Lines, tabs, form feeds and separators are no sign of a binary file.
_HARMLESS = "\t\n\r\f\v\x1c\x1d\x1e\x1f"
_CONTROLS = "".join(chr(code) for code in range(32) if chr(code) not in _HARMLESS)
_MOST_CONTROLS = 1 / 200
# How files begin that hold tables and are not read, and what to do with them.
_NOT_READ = {
    b"SQLite format 3": "is an SQLite database; write the rows to a CSV file, or predict with sqlite:FILE and --query",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook (.xls); save it as .xlsx or CSV",
    b"ORC": "is an ORC file; write it as Parquet",
    b"Obj\x01": "is an Avro file; write it as Parquet",
    b"FEA1": "is a Feather file of version 1; write it again with a newer pandas",
    b"\x28\xb5\x2f\xfd": "is packed with zstd; unpack it, or pack it with gzip",
    b"%PDF": "is a PDF; give a CSV, TSV, JSON Lines or Parquet file",
    b"\x89HDF": "is an HDF5 file; write it as Parquet",
    b"\x93NUMPY": "is a NumPy array; write texts and labels as CSV or Parquet",
    b"\x80\x03": "is a pickle, which can run code when it is read; write it with DataFrame.to_parquet",
    b"\x80\x04": "is a pickle, which can run code when it is read; write it with DataFrame.to_parquet",
    b"\x80\x05": "is a pickle, which can run code when it is read; write it with DataFrame.to_parquet",
}
_CURE = "give a CSV, TSV, JSON Lines or Parquet file"


def _keep(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(UNDECODED + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEPT, _keep)


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Attributes:
        content: the unpacked bytes; all there are, or `HEAD_BYTES`.
        whole: whether that is all of the file.
        packed: whether the file is packed.
        encoding: None where it holds no text.
        text: decoded, with line ends as they are; empty where it holds no text.
    """

    path: Path
    content: bytes
    whole: bool
    packed: bool
    encoding: str | None
    text: str

    @property
    def is_empty(self) -> bool:
        return not self.content.strip() or (self.encoding is not None and not self.text.strip())


def read_head(path: Path) -> Head:
    """Read the beginning of a file.

    Raises:
        DataError: the file cannot be read, or holds no table.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; {_CURE}")
    with packing.opened(path) as (raw, file):
        packed = raw is not file
        content = file.read(HEAD_BYTES)
        more = file.read(HEAD_BYTES)
        whole = not more
        # What is ASCII does not settle the encoding: the first piece that is not does.
        while content.isascii() and more and more.isascii():
            more = file.read(HEAD_BYTES)
    if not content.strip() or is_binary_table(content):
        return Head(path, content, whole, packed, None, "")
    encoding = _encoding(content, more if content.isascii() else b"", path)
    text = codecs.getincrementaldecoder(encoding)(KEPT).decode(content, final=whole)
    return Head(path, content, whole, packed, encoding, text)


def is_binary_table(content: bytes) -> bool:
    """Return whether a file that begins so is Parquet, Arrow (Feather) or a workbook."""
    return content.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"PK\x03\x04"))


def decode(content: bytes, path: Path) -> str:
    """Decode a whole file: UTF-8, UTF-16 where a byte order mark says so, or Windows-1252 as old files have it.

    Raises:
        DataError: it is no text, or a row cannot be decoded.
    """
    encoding = _encoding(content, b"", path)
    text = content.decode(encoding, KEPT)
    if not text.isascii() and (undecoded := SURROGATE.search(text)):
        number = text[: undecoded.start()].count("\n") + 1
        raise DataError(f"{path} row {number}: {_undecoded(undecoded, encoding)}; correct that row")
    return text


def _undecoded(found: re.Match[str], encoding: str) -> str:
    return f"byte 0x{ord(found[0]) - UNDECODED:02x} is not {encoding.removesuffix('-sig').upper()}"


def _encoding(content: bytes, later: bytes, path: Path) -> str:
    """Return the encoding of a file that begins with `content`.

    Args:
        later: of a file that begins with ASCII alone, a piece with more.
    """
    *_, last = candidates = _encodings(content, path)
    for encoding in candidates:
        text = codecs.getincrementaldecoder(encoding)(KEPT).decode(content + later)
        damaged = not text.isascii() and SURROGATE.search(text)
        if damaged and encoding != last and not _is_damaged_utf8(content + later):
            continue
        controls = sum(map(text.count, _CONTROLS))
        if controls <= len(text) * _MOST_CONTROLS:
            if encoding == "cp1252":
                progress.warn(f"{path} is not UTF-8 and is read as Windows-1252")
            return encoding
        if not damaged and controls < len(text) / 10:
            control = re.search(f"[{re.escape(_CONTROLS)}]", text)
            assert control is not None
            number = text[: control.start()].count("\n") + 1
            raise DataError(
                f"{path} row {number}: control character 0x{ord(control[0]):02x}, one of too many for a text; remove "
                "them, such as colours that a terminal was to show"
            )
    raise DataError(f"{path} is neither UTF-8 nor Windows-1252 text; convert it to UTF-8")


def _encodings(content: bytes, path: Path) -> list[str]:
    """Return the encodings that a file that begins so may have, the likeliest first."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return ["utf-16"]
    for magic, what in _NOT_READ.items():
        if content.startswith(magic):
            raise DataError(f"{path} {what}")
    if at := content.find(b"\0") + 1:
        number = content[:at].count(b"\n") + 1
        for offset, name in ((1, "UTF-16-LE"), (0, "UTF-16-BE")):
            zeros, others = content[offset:4000:2], content[1 - offset : 4000 : 2]
            if zeros.count(0) > 0.7 * len(zeros) and sum(map(others.count, _PRINTED)) > 0.9 * len(others):
                raise DataError(f"{path} is {name} without a byte order mark; convert it to UTF-8")
        if content.count(b"\0") <= len(content) * _MOST_CONTROLS and not _lacks_text(content):
            raise DataError(f"{path} row {number}: a zero byte, which no text holds; remove it")
        raise DataError(f"{path} is binary; {_CURE}")
    return ["utf-8-sig", "cp1252"]


def _lacks_text(content: bytes) -> bool:
    text = content.decode("utf-8", "replace")
    return text.count("\ufffd") + sum(map(text.count, _CONTROLS)) > len(text) / 20


def _is_damaged_utf8(content: bytes) -> bool:
    """Return whether it is UTF-8 with a few bad bytes, which Windows-1252 would turn into nonsense."""
    replaced = content.decode("utf-8-sig", errors="replace")
    bad = replaced.count("\ufffd")
    return sum(ord(character) > 127 for character in replaced) - bad > bad


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


@contextmanager
def opened(path: Path, encoding: str, longest: int, newline: str | None) -> Iterator[tuple[BinaryIO, Iterator[Line]]]:
    """Yield a file, whose position says how much of it has been read, and its lines.

    Args:
        longest: characters of a line.
        newline: where lines end; None for any line end, which becomes a line feed.
    """
    with (
        packing.opened(path) as (raw, content),
        io.TextIOWrapper(content, encoding=encoding, errors=KEPT, newline=newline) as text,
    ):
        yield raw, lines_of(text, longest)


def lines_of(file: TextIO, longest: int) -> Iterator[Line]:
    """Yield the lines of a file that was opened with `errors=KEPT`; of longer ones only the beginning."""
    number = 0
    encoding = file.encoding or "utf-8"
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
        undecoded = None if text.isascii() else SURROGATE.search(text)
        yield Line(number, text, _undecoded(undecoded, encoding) if undecoded else None)
