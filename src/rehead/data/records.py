"""Text files, plain or packed: from bytes to lines, from lines to rows of delimited fields, a text or an object each.

A row that is broken is set aside, and reading goes on with the line behind its first. What cannot be decoded does not
end the file: each such byte becomes a character that no text has, so that its line can be shown as it is.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import math
import re
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple, TextIO

from rehead.data.columns import MAX_FIELD_CHARACTERS, SURROGATE, as_text
from rehead.runtime import progress
from rehead.runtime.errors import DataError, first_line

QUOTED, PLAIN, LINES, JSON = "quoted", "plain", "lines", "json"
# The delimiter of a table of one column: a character that stands in no text, as Unicode has it.
NO_DELIMITER = "\uffff"
# A line of JSON may hold several fields, and spell a character in twelve of its own.
LONGEST_JSON = 16 * MAX_FIELD_CHARACTERS
# A row may hold several long fields, too.
_LONGEST_RECORD, _MOST_LINES = 4 * MAX_FIELD_CHARACTERS, 100_000


def _finite(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else str(number)


def key_twice(record: dict[str, Any], pairs: list[tuple[str, Any]]) -> str | None:
    """Return a key that comes twice in what an object is made of, of which Python keeps the last value; or None."""
    return Counter(key for key, _ in pairs).most_common(1)[0][0] if len(record) < len(pairs) else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if (twice := key_twice(record, pairs)) is not None:
        raise ValueError(f"the key {twice!r:.40} comes twice, with the last value {record[twice]!r:.40}")
    return record


# What stands for numbers that JSON does not have.
_CONSTANTS = {"NaN": None, "Infinity": "inf", "-Infinity": "-inf"}
# Made once: json.loads would make one for each line.
DECODER = json.JSONDecoder(parse_constant=_CONSTANTS.get, parse_float=_finite, object_pairs_hook=_unique)
# What stands before a value of an array.
_BEFORE_VALUE = re.compile(r"\s*[\[,]\s*")
# How JSON spells half a character; two of them in a row may well spell a whole one.
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
# So much of a row that cannot be read is kept.
_SHOWN = 2000


class BadRow(NamedTuple):
    """A row that cannot be read, and why.

    Attributes:
        source: the file that it stands in.
        number: the line at which it begins, or which row it is; from 1.
        content: what stands there, or the beginning of it.
    """

    source: str
    number: int
    reason: str
    content: str

    def to_json(self) -> str:
        content = SURROGATE.sub(_as_byte, self.content[:_SHOWN])
        row = {"source": self.source, "row": self.number, "reason": self.reason, "content": content}
        return json.dumps(row, ensure_ascii=False) + "\n"


def _as_byte(undecoded: re.Match[str]) -> str:
    number = ord(undecoded[0]) - UNDECODED
    return f"\\x{number:02x}" if 0 <= number < 256 else "\ufffd"


@dataclass(frozen=True)
class Form:
    """How the lines of a file are to be read.

    Attributes:
        how: QUOTED or PLAIN for delimited fields; LINES for a text a line, JSON for an object a line.
        delimiter: between fields.
        spaced: whether spaces between a delimiter and a field are no part of the field.
        skipped: lines before the first row.
    """

    encoding: str
    how: str
    delimiter: str = ""
    spaced: bool = False
    skipped: int = 0


# The line at which a row begins, and its cells.
Cells = tuple[int, list[str]]


def rows(lines: Iterator[Line], form: Form, source: str) -> Iterator[Cells | BadRow]:
    """Yield the rows of a delimited file, its header among them, however many cells they have."""
    lines = islice(lines, form.skipped, None)
    return (_quoted if form.how == QUOTED else _plain)(lines, form, source)


def objects(lines: Iterator[Line], source: str) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """Yield the objects of JSON Lines. Numbers that JSON does not have are None or text, as in a table of cells."""
    for number, text, problem, _ in lines:
        if not text.strip():
            continue
        record: Any = None
        if problem is None:
            try:
                record = DECODER.decode(text)
            except (ValueError, RecursionError) as error:
                several = "more than one value in a line; write one object a line, and nothing between them"
                problem = several if str(error).startswith("Extra data") else problem_of_json(error)
            else:
                problem = _problem_of_object(record, text)
        yield BadRow(source, number, problem, text.removesuffix("\n")) if problem else (number, record)


def problem_of_json(error: ValueError | RecursionError) -> str:
    """Return why `DECODER` has refused a text."""
    return first_line(error) if type(error) is ValueError else f"not JSON ({first_line(error)})"


def row_of_problem(array: str) -> int:
    """Return which value of an array, from 1, `DECODER` refuses."""
    number, at = 1, 0
    with suppress(ValueError, RecursionError):
        while found := _BEFORE_VALUE.match(array, at):
            at = DECODER.raw_decode(array, found.end())[1]
            number += 1
    return number


def _problem_of_object(record: Any, text: str) -> str | None:
    if not isinstance(record, dict):
        return "not a JSON object"
    # What a line holds has hardly more characters than the line.
    if len(text) > MAX_FIELD_CHARACTERS:
        for name, value in record.items():
            if problem := problem_of_length(name, len(as_text(value) or "")):
                return problem
    if _HALF.search(text) and SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        return "half a surrogate pair"
    return None


def problem_of_length(name: str, length: int) -> str | None:
    """Return what is wrong with a cell of that many characters."""
    if length <= MAX_FIELD_CHARACTERS:
        return None
    return f"column {name!r} holds {length:,} characters, the limit is {MAX_FIELD_CHARACTERS:,}"


def _plain(lines: Iterator[Line], form: Form, source: str) -> Iterator[Cells | BadRow]:
    """Yield rows that are lines; where each is a text, so is an empty one."""
    for number, text, problem, _ in lines:
        content = text.removesuffix("\n")
        if problem is not None:
            yield BadRow(source, number, problem, content)
        elif form.how == LINES:
            yield number, [content]
        elif form.delimiter in content or content.strip():
            yield number, content.split(form.delimiter)


class _BrokenError(Exception):
    """A record that does not end as it should."""


def _quoted(lines: Iterator[Line], form: Form, source: str) -> Iterator[Cells | BadRow]:
    """Yield rows whose fields may be enclosed in quotation marks, and then hold line ends.

    A mark that is never closed would swallow what follows. So only the first line of a broken row is set aside, and the
    lines behind it are read again; of these, one with a mark inside a field that is not enclosed may be the rest of the
    broken row and is set aside, too, until a row is found that is whole.
    """
    delimiter, spaced = form.delimiter, form.spaced
    again: deque[Line] = deque()
    after_broken = False
    while line := again.popleft() if again else next(lines, None):
        if '"' not in line.text and line.problem is None:
            content = line.text.removesuffix("\n")
            if content.strip() or delimiter in content or (content and delimiter == NO_DELIMITER):
                cells = content.split(delimiter)
                yield line.number, [cell.lstrip(" ") for cell in cells] if spaced else cells
                after_broken = False
            continue
        read = [line]
        try:
            cells = _record(read, again, lines, form)
            if after_broken and rows_of_rfc_4180("".join(each.text for each in read), delimiter) is None:
                raise _BrokenError("what may be the rest of a row with a quotation mark too many")
        except (csv.Error, _BrokenError) as error:
            again.extendleft(reversed(read[1:]))
            yield BadRow(source, line.number, str(error), line.text.removesuffix("\n"))
            after_broken = True
            continue
        lengths = (problem_of_length(f"column {i + 1}", len(cell)) for i, cell in enumerate(cells))
        if problem := next(filter(None, (*(each.problem for each in read), *lengths)), None):
            content = "".join(each.text for each in read).removesuffix("\n")
            yield BadRow(source, line.number, problem, content)
        else:  # an empty text that is enclosed is a row, and a blank line is none
            yield line.number, cells
        after_broken = False


def _record(read: list[Line], again: deque[Line], lines: Iterator[Line], form: Form) -> list[str]:
    """Return the fields of the record that begins with the line in `read`; the others that it takes are added to it."""

    def coming() -> Iterator[str]:
        characters = 0
        yield _whole(read[0])
        while line := again.popleft() if again else next(lines, None):
            read.append(line)
            characters += len(line.text)
            if characters > _LONGEST_RECORD or len(read) > _MOST_LINES:
                raise _BrokenError("a quotation mark that is never closed, or fields that are too long")
            yield _whole(line)

    reader = csv.reader(coming(), delimiter=form.delimiter, skipinitialspace=form.spaced, strict=True)
    return next(reader)


def _whole(line: Line) -> str:
    if line.too_long:
        raise _BrokenError(str(line.problem))
    return line.text


def rows_of_rfc_4180(text: str, delimiter: str) -> list[list[str]] | None:
    """Return the fields as they are written, with their marks; None where a mark is bare or never closed."""
    end = re.escape(delimiter)
    field = re.compile(rf'("(?:[^"]|"")*"|[^"{end}\n]*)({end}|\n|\Z)')
    rows: list[list[str]] = [[]]
    at = 0
    while at < len(text):
        found = field.match(text, at)
        if found is None:
            return None
        rows[-1].append(found[1])
        at = found.end()
        if found[2] == "\n":
            rows.append([])
    return [row for row in rows if row not in ([], [""])]


# Lines


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
def opened(path: Path, form: Form) -> Iterator[tuple[BinaryIO, Iterator[Line]]]:
    """Yield a file, whose position says how much of it has been read, and its lines."""
    # JSON's lines end with a line feed alone; any other line end becomes one.
    newline, longest = ("\n", LONGEST_JSON) if form.how == JSON else (None, MAX_FIELD_CHARACTERS)
    with (
        unpacked(path) as (raw, content),
        io.TextIOWrapper(content, encoding=form.encoding, errors=KEPT, newline=newline) as text,
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


# The beginning of a file, from which it is found out how it is written down

# So much of a file is looked at to find out how it is written down.
HEAD_BYTES = 4 * 2**20
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
# Fewer letters with accents may be of a few words.
_MOST_ACCENTS = 100
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
    b"PARE": "is an encrypted Parquet file; write it without encryption",
    **dict.fromkeys((b"7z\xbc\xaf", b"Rar!", b"\x04\x22\x4d\x18"), "is packed with 7-Zip, RAR or LZ4; unpack it"),
    b"\x1f\x8b": "is packed twice; unpack it",
    b"__label__": "is in fastText's format; write it as CSV, with the label and the text in columns of their own",
    **dict.fromkeys((b"@relation", b"@RELATION"), "is an ARFF file; write it as CSV"),
    b"<?xml": "is an XML file; write it as CSV",
    b"\x93NUMPY": "is a NumPy array; write texts and labels as CSV or Parquet",
    **dict.fromkeys(
        (b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "is a pickle, which can run code when it is read; write it with DataFrame.to_parquet",
    ),
}
_CURE = "give a CSV, TSV, JSON Lines or Parquet file"


def _keep(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(chr(UNDECODED + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(KEPT, _keep)


@dataclass(frozen=True)
class FileHead:
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


def read_head(path: Path) -> FileHead:
    """Read the beginning of a file.

    Raises:
        DataError: the file cannot be read, or holds no table.
    """
    with unpacked(path) as (raw, file):
        packed = raw is not file
        content = file.read(HEAD_BYTES)
        more = file.read(HEAD_BYTES)
        whole = not more
        # What is ASCII does not settle the encoding: the first piece that is not does.
        while content.isascii() and more and more.isascii():
            more = file.read(HEAD_BYTES)
    # Parquet, Arrow (Feather), or a workbook.
    if not content.strip() or content.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", _ZIP)):
        return FileHead(path, content, whole, packed, None, "")
    encoding = _encoding(content, more if content.isascii() else b"", path)
    text = codecs.getincrementaldecoder(encoding)(KEPT).decode(content, final=whole)
    return FileHead(path, content, whole, packed, encoding, text)


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
    if encoding == "cp1252":
        return f"byte 0x{ord(found[0]) - UNDECODED:02x} is neither UTF-8 nor Windows-1252"
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
                _require_western(text, path)
                progress.warn(
                    f"{path} is not UTF-8 and is read as Windows-1252; if letters look wrong, convert it to UTF-8"
                )
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


def _require_western(text: str, path: Path) -> None:
    """Raise DataError where most letters have accents, which no language that Windows-1252 is for has."""
    letters = Counter(character.isascii() for character in text if character.isalpha())
    if letters[False] > max(_MOST_ACCENTS, letters[True]):
        raise DataError(
            f"{path} is not UTF-8, and its letters are none of Windows-1252, but likely Cyrillic, Greek, Chinese or "
            "others in an encoding of their own; convert it to UTF-8, such as with iconv -t UTF-8"
        )


def _encodings(content: bytes, path: Path) -> list[str]:
    """Return the encodings that a file that begins so may have, the likeliest first."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return ["utf-16"]
    for magic, what in _NOT_READ.items():
        if content.startswith(magic):
            raise DataError(f"{path} {what}")
    if content[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive; unpack it, and give the file that holds the table")
    if at := content.find(b"\0") + 1:
        number = content[:at].count(b"\n") + 1
        for offset, name in ((1, "UTF-16-LE"), (0, "UTF-16-BE")):
            zeros, others = content[offset:4000:2], content[1 - offset : 4000 : 2]
            if zeros.count(0) > 0.7 * len(zeros) and sum(map(others.count, _PRINTED)) > 0.9 * len(others):
                raise DataError(f"{path} is {name} without a byte order mark; convert it to UTF-8")
        text = content.decode("utf-8", "replace")
        lacks_text = text.count("\ufffd") + sum(map(text.count, _CONTROLS)) > len(text) / 20
        if content.count(b"\0") <= len(content) * _MOST_CONTROLS and not lacks_text:
            raise DataError(f"{path} row {number}: a zero byte, which no text holds; remove it")
        raise DataError(f"{path} is binary; {_CURE}")
    return ["utf-8-sig", "cp1252"]


def _is_damaged_utf8(content: bytes) -> bool:
    """Return whether it is UTF-8 with a few bad bytes, which Windows-1252 would turn into nonsense."""
    replaced = content.decode("utf-8-sig", errors="replace")
    bad = replaced.count("\ufffd")
    return sum(ord(character) > 127 for character in replaced) - bad > bad


# Files as bytes: plain, or packed with gzip, bzip2, xz or zip; what they unpack to is bounded

# Unpacked bytes: of a few kilobytes, an archive may make terabytes.
MAX_UNPACKED_BYTES = 4 * 2**30
_ZIP = b"PK\x03\x04"
_UNPACKING: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError, NotImplementedError)


@contextmanager
def unpacked(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield a file, whose position says how much of it has been read, and its content; the same one where it is plain.

    Raises:
        DataError: it cannot be opened, or is an archive of several files; later, that it is damaged or unpacks to more
            than `MAX_UNPACKED_BYTES`.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; {_CURE}")
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is a pipe or a device, which can be read once; write what it holds into a file")
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            raise DataError(f"{path}: no such file; check the path") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
        start = raw.read(6)
        raw.seek(0)
        packed: IO[bytes] | None = _only_member(path, raw, stack) if start.startswith(_ZIP) else None
        for magic, unpack in _UNPACKING.items():
            if start.startswith(magic):
                packed = stack.enter_context(unpack(raw))
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

    def __init__(self, packed: IO[bytes], path: Path) -> None:
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
