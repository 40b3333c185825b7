"""What a command is given to classify or explain: a text, lines of stdin, a table, an image, a folder of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rehead.runtime import progress
from rehead.runtime.errors import DataError

if TYPE_CHECKING:
    from rehead.data.pictures import Picture


def read_input(
    given: str, text_column: str | None, model: Path
) -> tuple[list[dict[str, Any]], list[str] | list[Picture], str]:
    """Rows with their original columns, the texts or images among them, and the text column's name."""
    path = Path(given)
    if is_of_images(given, text_column):
        return _read_images(given, text_column)
    if given == "-":
        lines = [line.rstrip("\r\n") for line in sys.stdin]
        return [{"text": line} for line in lines], lines, "text"
    if _is_path(given):
        from rehead.data import tables

        table = tables.read(path, unlabelled=True)
        column = tables.text_column_of(table, text_column, _trained_text_column(model))
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        texts = [row[column] or "" for row in rows]
        empty = [line for line, text in zip(table.lines, texts, strict=True) if not text.strip()]
        if empty:
            progress.warn(f"{len(empty):,} rows have no text and are classified as empty (row {empty[0]}, ...)")
        return rows, texts, column
    return [{"text": given}], [given], "text"


def is_of_images(given: str, column: str | None = None) -> bool:
    from rehead.data import galleries
    from rehead.data.pictures import FORMATS

    if not given.strip() or given == "-":
        return False
    try:
        if Path(given).suffix.lower() in FORMATS:
            # A text may end with the name of an image.
            return Path(given).exists() or not any(character.isspace() for character in given)
        return galleries.holds_images(given, column)
    except OSError:  # too long for a file's name, so it is a text
        return False


def _read_images(source: str, column: str | None = None) -> tuple[list[dict[str, Any]], list[Picture], str]:
    """Rows with their original columns, and the images; those that cannot be used are named and left out."""
    from rehead.data import galleries
    from rehead.data.pictures import looked_at

    if source != galleries.DIGITS and not Path(source).exists():
        raise DataError(f"{source}: no such file; check the path")
    rows, pictures = galleries.unlabelled(source, column)
    problems = looked_at(pictures)
    for picture, problem in zip(pictures, problems, strict=True):
        if problem is not None:
            progress.warn(f"{picture.name} {problem}: it is not classified")
    usable = [i for i, problem in enumerate(problems) if problem is None]
    if not usable:
        raise DataError(f"{source}: no image there can be used; see the lines above")
    kept = [pictures[i] for i in usable]
    name = next((name for name, value in rows[usable[0]].items() if value == kept[0].name), "image")
    return [rows[i] for i in usable], kept, name


def _is_path(given: str) -> bool:
    """A file that is there, or what can only be meant as one: a data file's name without spaces."""
    from rehead.data.writing import FORMATS

    try:
        if given and Path(given).exists():
            return True
    except OSError:  # too long for a file's name, so it is a text
        return False
    return Path(given).suffix in (*FORMATS, ".txt", ".json") and not any(character.isspace() for character in given)


def _trained_text_column(model: Path) -> str | None:
    try:
        column: str | None = json.loads((model / "rehead.json").read_text(encoding="utf-8")).get("text_column")
    except (OSError, ValueError):
        return None  # loading the model will say what is wrong with it
    return column
