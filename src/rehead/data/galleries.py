"""Labelled images from all their sources: a folder with a sub-folder a class, a zip file of one, a table that names
image files, a Parquet file that holds them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from PIL import Image

from rehead.data import tables
from rehead.data.examples import Table
from rehead.data.pictures import FORMATS, Picture
from rehead.errors import DataError

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


def holds_images(data: str) -> bool:
    """Whether DATA is one of images; looks at names and column types only."""
    if data == DIGITS:
        return True
    path = Path(data)
    if path.is_dir():
        return next(_files_of(path), None) is not None
    if not path.is_file():
        return False
    if path.suffix.lower() == ".zip":
        return bool(_members_of(path))
    if path.suffix.lower() == ".parquet":
        return _column_of_bytes(path) is not None
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl") and _mentions_images(path):
        table = tables.read(path)
        return any(_names_images(table.column(name)) for name in table.columns)
    return False


def parts_of(data: str) -> dict[str, str]:
    """Which of a folder's sub-folders are its parts: `train`, `validation`, `test` → folder; empty if it has none."""
    path = Path(data)
    if not path.is_dir():
        return {}
    there = {child.name.lower(): child for child in path.iterdir() if child.is_dir()}
    found = {part: str(there[name]) for part, names in PARTS.items() for name in names if name in there}
    return found if "train" in found else {}


def read(data: str, image_column: str | None = None, label_column: str | None = None) -> Gallery:
    """Reads what `holds_images` has found to be images; none of them is opened yet.

    Raises:
        DataError: there are no classes, or a column is missing.
    """
    if data == DIGITS:
        return _digits()
    path = Path(data)
    if path.is_dir():
        return _by_folder(data, [Picture(file.relative_to(path).as_posix(), file) for file in _files_of(path)])
    if path.suffix.lower() == ".zip":
        members = _members_of(path)
        return _by_folder(data, [Picture(name, path, member) for name, member in members])
    if path.suffix.lower() == ".parquet":
        return _from_parquet(path, image_column, label_column)
    return _from_table(path, image_column, label_column)


def unlabelled(data: str) -> list[Picture]:
    """The images of a file or folder, in the order of their names, whatever folders they lie in."""
    path = Path(data)
    if path.is_dir():
        return [Picture(file.relative_to(path).as_posix(), file) for file in _files_of(path)]
    if path.suffix.lower() == ".zip":
        return [Picture(name, path, member) for name, member in _members_of(path)]
    if path.suffix.lower() in FORMATS:
        return [Picture(path.name, path)]
    return read(data).pictures


def _files_of(folder: Path) -> Iterator[Path]:
    """The image files in a folder and below, in the order of their paths; hidden ones are left out."""
    found = (
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in FORMATS and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    return iter(sorted(file for file in found if file.is_file()))


def _members_of(archive: Path) -> list[tuple[str, str]]:
    """Names below the folder that all of an archive is in, and names in the archive, of the images; in order."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} is not a zip file ({error}); make it anew") from error
    images = sorted(
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in FORMATS
        and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)
    )
    tops = {PurePosixPath(name).parts[0] for name in images}
    nested = len(tops) == 1 and all(len(PurePosixPath(name).parts) > 2 for name in images)
    return [("/".join(PurePosixPath(name).parts[1:]) if nested else name, name) for name in images]


def _by_folder(source: str, files: list[Picture]) -> Gallery:
    """Labelled by the first folder of each name."""
    rows: list[list[str | None]] = [
        [picture.name, picture.name.split("/")[0] if "/" in picture.name else None] for picture in files
    ]
    if not any(label for _, label in rows):
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


def _from_table(path: Path, image_column: str | None, label_column: str | None) -> Gallery:
    table = tables.read(path)
    image_column = image_column or next(name for name in table.columns if _names_images(table.column(name)))
    _require_columns(table, image_column, label_column)
    label_column = label_column or _label_among(table, image_column)
    pictures = [Picture(name or "", path.parent / (name or "")) for name in table.column(image_column)]
    return Gallery(table, image_column, label_column, pictures)


def _from_parquet(path: Path, image_column: str | None, label_column: str | None) -> Gallery:
    content = parquet.read_table(path)
    image_column = image_column or str(_column_of_bytes(path))
    others = [name for name in content.column_names if name != image_column]
    pictures = []
    for number, cell in enumerate(content.column(image_column).to_pylist(), start=1):
        data, told = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        pictures.append(Picture(told or f"row {number}", content=data or b""))
    columns = [[None if value is None else str(value) for value in content.column(name).to_pylist()] for name in others]
    rows = [[picture.name, *cells] for picture, *cells in zip(pictures, *columns, strict=True)]
    table = Table(str(path), [image_column, *others], rows, list(range(1, len(rows) + 1)))
    _require_columns(table, image_column, label_column)
    return Gallery(table, image_column, label_column or _label_among(table, image_column), pictures)


def _require_columns(table: Table, *names: str | None) -> None:
    for name in names:
        if name is not None and name not in table.columns:
            raise DataError(f"{table.source} has no column {name!r}; its columns are {', '.join(table.columns)}")


def _column_of_bytes(path: Path) -> str | None:
    try:
        schema = parquet.read_schema(path)
    except (OSError, arrow.ArrowInvalid):
        return None

    def is_bytes(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    return next((field.name for field in schema if is_bytes(field.type)), None)


def _label_among(table: Table, image_column: str) -> str:
    names = [name for name in table.columns if name != image_column]
    known = [name for name in names if name.lower() in ("label", "labels", "class", "category", "target", "species")]
    if len(names) == 1 or known:
        return (known or names)[0]
    raise DataError(f"{table.source}: which column has the labels? Say it with --label-column: {', '.join(names)}")


def _mentions_images(path: Path) -> bool:
    """Whether the beginning of a file holds the name of an image, so that most tables of texts are read once only."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING).lower()
    return any(ending.encode() in beginning for ending in FORMATS)


def _names_images(cells: list[str | None]) -> bool:
    there = [cell for cell in cells if cell]
    return bool(there) and sum(Path(cell).suffix.lower() in FORMATS for cell in there) >= _MOSTLY * len(there)
