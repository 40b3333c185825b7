"""What a command is to classify or explain: a text, lines of stdin, a table, an image, a folder of them."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rehead.runtime import progress
from rehead.runtime.errors import DataError

if TYPE_CHECKING:
    from rehead.data.images import ImageInput
    from rehead.data.preparation import DataConfig


def sources_of(options: argparse.Namespace) -> DataConfig:
    """Return the labelled data that options name, once it is clear that they are there.

    Raises:
        DataError: one of them is not.
    """
    from rehead.data.samples import require_source

    for name in ("data", "validation", "test"):
        if source := getattr(options, name, None):
            require_source(source)
    from rehead.data.preparation import DataConfig

    names = {one.name for one in fields(DataConfig)}
    return DataConfig(**{name: value for name, value in vars(options).items() if name in names})


def read_input(
    source: str, text_column: str | None, model: Path
) -> tuple[list[dict[str, Any]], list[str] | list[ImageInput], str]:
    """Return rows with their original columns, the texts or images among them, and the text column's name."""
    if is_of_images(source, text_column):
        return _read_images(source, text_column)
    if source == "-":
        texts = _lines_of_stdin()
        return [{"text": line} for line in texts], texts, "text"
    if _is_table(source):
        return _read_table(source, text_column, model)
    return [{"text": source}], [_checked(source, "the text")], "text"


def is_of_images(source: str, column: str | None = None) -> bool:
    from rehead.data import image_folders
    from rehead.data.images import FORMATS

    if not source.strip() or source == "-":
        return False
    try:
        if Path(source).suffix.lower() in FORMATS:
            # A text may end with the name of an image.
            return Path(source).exists() or not any(character.isspace() for character in source)
        return image_folders.holds_images(source, column)
    except OSError:  # too long for a file's name, so it is a text
        return False


def _read_images(source: str, column: str | None) -> tuple[list[dict[str, Any]], list[ImageInput], str]:
    """Return rows with their original columns, and the images; those that cannot be used are named and left out."""
    from rehead.data import image_folders
    from rehead.data.images import warn_of_unusable

    if source != image_folders.DIGITS and not Path(source).exists():
        raise DataError(f"{source}: no such file; check the path")
    rows, images = image_folders.unlabelled(source, column)
    usable = warn_of_unusable(images, "it is not classified")
    if not usable:
        raise DataError(f"{source}: no image there can be used; see the lines above")
    kept = [images[i] for i in usable]
    name = next((name for name, value in rows[usable[0]].items() if value == kept[0].name), "image")
    return [rows[i] for i in usable], kept, name


def _lines_of_stdin() -> list[str]:
    """Return the lines of stdin, whatever encoding the terminal has: they are UTF-8."""
    stream = getattr(sys.stdin, "buffer", None)
    # Without a buffer it is text that was put in its place.
    text = sys.stdin.read() if stream is None else stream.read().decode("utf-8-sig", "surrogateescape")
    if not text:
        return []
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    return [_checked(line, f"stdin line {number}") for number, line in enumerate(lines, start=1)]


def _checked(text: str, where: str) -> str:
    """Return the text; raise DataError where a byte of it is not UTF-8, or none of a text at all."""
    from rehead.data.columns import SURROGATE
    from rehead.data.records import UNDECODED

    if not text.isascii() and (found := SURROGATE.search(text)):
        byte = ord(found[0]) - UNDECODED
        what = f"byte 0x{byte:02x} is not UTF-8" if 0 <= byte < 256 else "it holds half a surrogate pair"
        raise DataError(f"{where}: {what}; convert it to UTF-8")
    if "\0" in text:
        raise DataError(f"{where}: a zero byte, which no text holds; remove it, or convert UTF-16 to UTF-8")
    return text


def is_file(source: str) -> bool:
    """Return whether a file or folder of this name is there."""
    try:
        return bool(source) and Path(source).exists()
    except (OSError, ValueError):  # too long for a file's name, or with a zero byte in it, so it is a text
        return False


def _is_table(source: str) -> bool:
    """Return whether it is a file or sample that is there, or can only be meant as one: a data file's name."""
    from rehead.data.samples import PREFIX
    from rehead.data.tables import is_named_as_table

    if is_file(source):
        return True
    return is_named_as_table(source) or (source.startswith(PREFIX) and not any(map(str.isspace, source)))


def _read_table(
    source: str, text_column: str | None, model: Path
) -> tuple[list[dict[str, Any]], list[str] | list[ImageInput], str]:
    from rehead.data.columns import text_column_of
    from rehead.data.samples import read_any

    trained = _manifest_of(model)
    known = trained.get("text_column")
    names = [name for name in (text_column, known, trained.get("label_column")) if name]
    table = read_any(source, unlabelled=True, names=names)
    column = text_column_of(table, text_column, known)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    texts = [row[column] or "" for row in rows]
    empty = [line for line, text in zip(table.lines, texts, strict=True) if not text.strip()]
    if empty:
        progress.warn(f"{len(empty):,} rows have no text and are classified as empty (row {empty[0]}, ...)")
    return rows, texts, column


def _manifest_of(model: Path) -> dict[str, Any]:
    """Return what a saved classifier says of itself, unchecked; loading it will say what is wrong with it."""
    try:
        saved = json.loads((model / "rehead.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return saved if isinstance(saved, dict) else {}
