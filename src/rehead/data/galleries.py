"""Labelled images from all their sources: a folder with a sub-folder a class, a zip file of one, a table that names
image files, a Parquet file that holds them.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from PIL import Image

from rehead.data import tables
from rehead.data.examples import Table
from rehead.data.pictures import FORMATS, Picture, shown
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# Sub-folders with these names are parts of the data, if a training part is among them.
PARTS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
# A column names image files if so many of its cells do.
_MOSTLY = 0.9
# Bytes of a table that are looked at for names of images.
_BEGINNING = 65536
# What the files of all formats begin with; and so many rows of a Parquet file are looked at.
_BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_LOOKED_AT = 32
# Pixels that a digit of 8 × 8 points becomes.
_DIGIT_SIDE = 64


@dataclass(frozen=True)
class Gallery:
    """Images with the table that they stand in, or that their folders make.

    Attributes:
        table: the names of the images and their labels, and what else is told of them.
        image_column, label_column: which of its columns these are.
        pictures: the image of each of its rows.
    """

    table: Table
    image_column: str
    label_column: str
    pictures: list[Picture]

    def picture_at(self) -> dict[int, Picture]:
        """By line of the table."""
        return dict(zip(self.table.lines, self.pictures, strict=True))


# Images that come with scikit-learn, so that there is something to try without any file.
DIGITS = "sample:digits"


def holds_images(data: str, column: str | None = None) -> bool:
    """Whether DATA is one of images; looks at names, column types and the first bytes of cells only.

    Args:
        column: of a table: whether it is this one that holds them, if it is there; any column if None.
    """
    if data == DIGITS:
        return True
    path = Path(data)
    if path.is_dir():
        images, others = _files_of(path)
        return len(images) > len(others)  # a folder of texts may hold a picture, too
    if not path.is_file():
        return False
    if path.suffix.lower() == ".zip":
        return bool(_members_of(path)[0])
    if path.suffix.lower() == ".parquet":
        return _column_of_bytes(path, column) is not None
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl") and _mentions_images(path):
        table = _read_table(path)
        judged = [column] if column in table.columns else table.columns
        return any(_names_images(table.column(name)) for name in judged)
    return False


def parts_of(data: str) -> dict[str, str]:
    """Which of a folder's sub-folders are its parts: `train`, `validation`, `test` → folder; empty if it has none.

    They are parts only if all that hold images are: one of several classes may be called train.
    """
    path = Path(data)
    if not path.is_dir():
        return {}
    children = {child.name.lower(): child for child in path.iterdir() if child.is_dir()}
    if not children.keys() & set(PARTS["train"]):
        return {}  # most folders; what they hold need not be looked at
    there = {name: child for name, child in children.items() if _files_of(child)[0]}
    found = {part: there[name] for part, names in PARTS.items() for name in names if name in there}
    if "train" not in found or len(found) < len(there):
        return {}
    nested = any(len(file.relative_to(found["train"]).parts) > 1 for file in _files_of(found["train"])[0])
    return {part: str(folder) for part, folder in found.items()} if nested else {}


def read(
    data: str,
    image_column: str | None = None,
    label_column: str | None = None,
    known: tuple[str | None, str | None] = (None, None),
) -> Gallery:
    """Reads what `holds_images` has found to be images; none of them is opened yet.

    Args:
        known: names of the two columns that are preferred where they are there.

    Raises:
        DataError: there are no classes, or a column is missing.
    """
    if data == DIGITS:
        return _digits()
    path = Path(data)
    if path.is_dir():
        if parts := parts_of(data):
            raise DataError(f"{data} has the parts {', '.join(parts)}; give one of them, such as {parts['train']}")
        return _by_folder(data, _pictures_in(path))
    if path.suffix.lower() == ".zip":
        return _by_folder(data, _pictures_in(path))
    table, image_column, pictures = _from_table_or_parquet(path, image_column, known[0])
    if label_column is None and known[1] in table.columns:
        label_column = known[1]
    _require_columns(table, label_column)
    return Gallery(table, image_column, label_column or _label_among(table, image_column), pictures)


def unlabelled(data: str, image_column: str | None = None) -> tuple[list[dict[str, Any]], list[Picture]]:
    """The images of a file or folder, in the order of their names, whatever folders they lie in; with each the row
    that it stands in, or its name.
    """
    path = Path(data)
    if data != DIGITS and (path.is_dir() or path.suffix.lower() == ".zip"):
        pictures = _pictures_in(path)
    elif path.suffix.lower() in FORMATS:
        pictures = [Picture(shown(path.name), path)]
    elif data == DIGITS:
        pictures = _digits().pictures
    else:
        table, _, pictures = _from_table_or_parquet(path, image_column, None)
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows], pictures
    return [{"image": picture.name} for picture in pictures], pictures


def _pictures_in(path: Path) -> list[Picture]:
    """The images of a folder or an archive; says what else is there."""
    if path.is_dir():
        images, others = _files_of(path)
        pictures = [Picture(shown(file.relative_to(path).as_posix()), file) for file in images]
        names = [file.name for file in others]
    else:
        members, names = _members_of(path)
        pictures = [Picture(shown(name), path, member) for name, member in members]
    if names:
        endings = Counter(PurePosixPath(name).suffix.lower() or "none" for name in names)
        told = ", ".join(f"{n:,} {ending}" for ending, n in endings.most_common(5))
        progress.warn(
            f"{path}: {len(names):,} files are not used, because they are not named as images are ({told}); convert "
            f"those that are images to one of {', '.join(FORMATS)}"
        )
    return pictures


def _files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """Images in a folder and below, links included, and other files, in the order of their paths; no hidden ones."""
    found: list[Path] = []
    visited: set[Path] = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        here = Path(name)
        if here.resolve() in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(here.resolve())
        folders[:] = [each for each in folders if not each.startswith(".")]
        found += [here / each for each in files if not each.startswith(".")]
    found.sort()
    images = [file for file in found if file.suffix.lower() in FORMATS and file.is_file()]
    return images, [file for file in found if file.suffix.lower() not in FORMATS]


def _members_of(archive: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Names below the folder that all of an archive is in, and names in the archive, of the images, in order; and the
    names of what else is in it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} is not a zip file ({error}); make it anew") from error
    names = [
        name for name in names if not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    ]
    images = sorted(name for name in names if PurePosixPath(name).suffix.lower() in FORMATS)
    others = [name for name in names if PurePosixPath(name).suffix.lower() not in FORMATS]
    tops = {PurePosixPath(name).parts[0] for name in images}
    nested = len(tops) == 1 and all(len(PurePosixPath(name).parts) > 2 for name in images)
    return [("/".join(PurePosixPath(name).parts[1:]) if nested else name, name) for name in images], others


def _by_folder(source: str, files: list[Picture]) -> Gallery:
    """Labelled by the first folder of each name."""
    rows: list[list[str | None]] = [
        [picture.name, picture.name.split("/")[0] if "/" in picture.name else None] for picture in files
    ]
    labels = {label for _, label in rows if label}
    if labels and labels <= {name for names in PARTS.values() for name in names}:
        raise DataError(f"{source}: its folders are parts ({', '.join(sorted(labels))}); unpack it and give the folder")
    if not labels:
        raise DataError(f"{source}: images but no sub-folders; put the images of each class into a folder of its own")
    table = Table(source, ["image", "label"], rows, list(range(1, len(rows) + 1)))
    return Gallery(table, "image", "label", files)


def _digits() -> Gallery:
    """1,797 handwritten digits of 8 × 8 points (Alpaydin and Kaynak, 1998; CC BY 4.0), enlarged."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pictures: list[Picture] = []
    rows: list[list[str | None]] = []
    for number, (shades, label) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True), start=1):
        points = Image.fromarray((255 * (1 - shades / 16)).astype(np.uint8))
        content = io.BytesIO()
        points.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC).save(content, "PNG")
        pictures.append(Picture(f"digit {number}", content=content.getvalue()))
        rows.append([f"digit {number}", str(label)])
    return Gallery(Table(DIGITS, ["image", "label"], rows, list(range(1, len(rows) + 1))), "image", "label", pictures)


def _from_table_or_parquet(path: Path, column: str | None, known: str | None) -> tuple[Table, str, list[Picture]]:
    """The table, which of its columns has the images' names, and the images.

    Args:
        column: it is this one; an error if it is not there.
        known: it is this one, if it is there.
    """
    if path.suffix.lower() == ".parquet":
        return _from_parquet(path, column)
    table = _read_table(path)
    _require_columns(table, column)
    found = next((name for name in table.columns if _names_images(table.column(name))), None)
    chosen = column or (known if known in table.columns else found)
    assert chosen is not None  # `holds_images` has found one
    names = table.column(chosen)
    return table, chosen, [Picture(shown(name or ""), path.parent / (name or "")) for name in names]


def _from_parquet(path: Path, image_column: str | None) -> tuple[Table, str, list[Picture]]:
    content = parquet.read_table(path)
    image_column = str(_column_of_bytes(path, image_column))
    others = [name for name in content.column_names if name != image_column]
    pictures = []
    for number, cell in enumerate(content.column(image_column).to_pylist(), start=1):
        data, told = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        pictures.append(Picture(shown(told or f"row {number}"), content=data or b""))
    columns = [[None if value is None else str(value) for value in content.column(name).to_pylist()] for name in others]
    rows = [[picture.name, *cells] for picture, *cells in zip(pictures, *columns, strict=True)]
    table = Table(str(path), [image_column, *others], rows, list(range(1, len(rows) + 1)))
    return table, image_column, pictures


def _require_columns(table: Table, *names: str | None) -> None:
    for name in names:
        if name is not None and name not in table.columns:
            raise DataError(f"{table.source} has no column {name!r}; its columns are {', '.join(table.columns)}")


def _column_of_bytes(path: Path, column: str | None) -> str | None:
    """The column that holds images: their bytes begin as those of images do."""
    try:
        schema = parquet.read_schema(path)
        first = next(iter(parquet.ParquetFile(path).iter_batches(batch_size=_LOOKED_AT)), None)
    except (OSError, arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        return None

    def is_bytes(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    def begins_as_image(cell: Any) -> bool:
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        return isinstance(content, bytes) and content.startswith(_BEGINNINGS)

    names = [field.name for field in schema if is_bytes(field.type) and column in (None, field.name)]
    if first is None:
        return None
    return next((name for name in names if any(map(begins_as_image, first.column(name).to_pylist()))), None)


def _label_among(table: Table, image_column: str) -> str:
    names = [name for name in table.columns if name != image_column]
    known = [name for name in names if name.lower() in ("label", "labels", "class", "category", "target", "species")]
    if len(names) == 1 or known:
        return (known or names)[0]
    raise DataError(f"{table.source}: which column has the labels? Say it with `label_column`: {', '.join(names)}")


def _mentions_images(path: Path) -> bool:
    """Whether the beginning of a file holds the name of an image, so that most tables of texts are read once only."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING).lower()
    return any(ending.encode() in beginning for ending in FORMATS)


def _read_table(path: Path) -> Table:
    """A table with or without labels; its first row names the columns where it stands above names of images."""
    table = tables.read(path, unlabelled=True)
    first, rest = table.rows[0], table.rows[1:]
    if table.lines[0] > 1 or not rest:
        return table
    above = any(
        Path(cell or "").suffix.lower() not in FORMATS and _names_images([row[i] for row in rest])
        for i, cell in enumerate(first)
    )
    names = [cell or "" for cell in first]
    return Table(table.source, names, rest, table.lines[1:]) if above else table


def _names_images(cells: list[str | None]) -> bool:
    return sum(Path(cell or "").suffix.lower() in FORMATS for cell in cells) >= _MOSTLY * max(1, len(cells))
