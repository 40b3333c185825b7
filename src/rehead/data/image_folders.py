"""Labelled images from all their sources: a folder with a sub-folder a class, a zip file of one, a table that names
image files, a Parquet file that holds them.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
from PIL import Image

from rehead.data import tables
from rehead.data.columns import TEXT_NAMES, Table, require_column, require_different
from rehead.data.images import FORMATS, ImageInput, shown
from rehead.data.splits import part_named
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# Endings of images that are not read: those that mean to give them should hear of it.
UNREAD = frozenset((".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".ico", ".ppm", ".pgm", ".tga", ".psd", ".dng"))
# Tables beside images that name them, as the datasets library of Hugging Face has it, and the column of the names.
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_NAME = "file_name"
# Folders that other programs leave behind.
_NOT_OURS = frozenset(
    (
        *("__MACOSX", "@eaDir", "__pycache__", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *("Thumbs.db", "desktop.ini"),
    )
)
# Of a kind, these are named in a message at most.
_NAMED = 5
_CONVERT = f"convert those that are images to one of {', '.join(FORMATS)}"
# A column names image files if this share of its cells does.
_MOSTLY = 0.9
# Bytes of a table that are looked at for names of images.
_BEGINNING = 65536
# What the files of all formats begin with; and the rows of a Parquet file that are looked at.
_BEGINNINGS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_LOOKED_AT = 32
# Pixels that a digit of 8 × 8 points becomes.
_DIGIT_SIDE = 64


@dataclass(frozen=True)
class ImageTable:
    """Images with the table that they stand in, or that their folders make.

    Attributes:
        table: the names of the images and their labels, and what else is known of them.
        image_column, label_column: which of its columns these are.
        images: the image of each of its rows.
    """

    table: Table
    image_column: str
    label_column: str
    images: list[ImageInput]


# Images that come with scikit-learn, so that there is something to try without any file.
DIGITS = "sample:digits"


def holds_images(data: str, column: str | None = None) -> bool:
    """Return whether DATA is one of images; looks at names, column types and the first bytes of cells only.

    Args:
        column: of a table: whether it is this one that holds them, if it is there; any column if None.
    """
    if data == DIGITS:
        return True
    path = Path(data)
    if path.is_dir():
        listed = _files_of(path)
        unread = sum(file.suffix.lower() in UNREAD for file in listed.others)
        # A folder of texts may hold an image, too.
        return _metadata_of(path) is not None or len(listed.images) + 2 * unread > len(listed.others)
    if not path.is_file():
        return False
    if path.suffix.lower() == ".zip":
        return bool(_members_of(path)[0])
    if path.suffix.lower() == ".parquet":
        return _column_of_bytes(path, column) is not None or _column_of_names(path, column) is not None
    if path.suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        return False
    if _mentions_images(path):
        with progress.quiet():  # it is read again for its rows
            table = tables.read(path, unlabelled=True, names=[column or _FILE_NAME])
        judged = [column] if column in table.columns else table.columns
        return any(_names_images(table.column(name)) for name in judged)
    _require_endings(path)
    return False


def parts_of(data: str) -> dict[str, str]:
    """Return which of a folder's sub-folders are its parts: `train`, `validation`, `test` → folder, or none.

    They are parts only if all that hold images are: one of several classes may be called train.
    """
    if not Path(data).is_dir():
        return {}
    path = _unwrapped(Path(data))
    children = {child.name: child for child in sorted(path.iterdir()) if child.is_dir() and _is_ours(child.name)}
    if "train" not in map(_part_within, children):
        return {}  # most folders; what they hold need not be looked at
    there = {name: child for name, child in children.items() if _files_of(child).images}
    named = {part: child for name, child in there.items() if (part := part_named(name))}
    if len(named) < len(there) and len({_classes_in(child) for child in there.values()}) == 1:
        named = {part: child for name, child in there.items() if (part := _part_within(name))}
    found = {part: named[part] for part in ("train", "validation", "test") if part in named}
    if "train" not in found or len(found) < len(there) or not _are_labelled(found["train"]):
        return {}
    for part, folder in found.items():
        if not _are_labelled(folder):
            progress.warn(
                f"{folder} has no sub-folders and no {_METADATA[0]}, so its images have no labels; it is not used as "
                f"the {part} part"
            )
    return {part: str(folder) for part, folder in found.items() if _are_labelled(folder)}


def _part_within(name: str) -> str | None:
    """Return which part a name such as `seg_train` or `01_test` may stand for."""
    found = {part_named(name), *map(part_named, re.split(r"[\W\d_]+", name))} - {None}
    return found.pop() if len(found) == 1 else None


def _classes_in(folder: Path) -> tuple[str, ...]:
    """Return the names of the sub-folders that hold images."""
    children = [child for child in _unwrapped(folder).iterdir() if child.is_dir() and _is_ours(child.name)]
    return tuple(sorted(child.name for child in children if _files_of(child).images))


def _are_labelled(folder: Path) -> bool:
    """Return whether images lie in sub-folders, or are named by a table."""
    images = _files_of(folder).images
    return _metadata_of(folder) is not None or any(len(file.relative_to(folder).parts) > 1 for file in images)


def _metadata_of(folder: Path) -> Path | None:
    """Return the table that names the images of a folder."""
    return next((folder / name for name in _METADATA if (folder / name).is_file()), None)


def _unwrapped(folder: Path) -> Path:
    """Return the folder that the classes or parts lie in: archives often have one more around it, or several."""
    while True:
        inner = [child for child in folder.iterdir() if child.is_dir() and _is_ours(child.name)]
        beside = [file for file in folder.iterdir() if file.is_file() and file.suffix.lower() in FORMATS]
        if len(inner) != 1 or beside or _metadata_of(folder):
            return folder
        if not any(child.is_dir() and _files_of(child).images for child in inner[0].iterdir()):
            return folder if _metadata_of(inner[0]) is None else inner[0]
        folder = inner[0]


def _is_ours(name: str) -> bool:
    return not name.startswith(".") and name not in _NOT_OURS


def read(
    data: str,
    image_column: str | None = None,
    label_column: str | None = None,
    known: tuple[str | None, str | None] = (None, None),
) -> ImageTable:
    """Read what `holds_images` has found to be images; none of them is opened yet.

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
        path = _unwrapped(path)
        metadata = _metadata_of(path)
        if metadata is None:
            return _by_folder(data, _images_in(path))
        path, image_column, known = metadata, image_column or _FILE_NAME, (None, known[1])
    elif path.suffix.lower() == ".zip":
        return _by_folder(data, _images_in(path))
    table, chosen, images = _from_table_or_parquet(path, image_column, known[0])
    require_column(table, label_column, "`label_column`")
    if label_column is None and known[1] in table.columns:
        label_column = known[1]
    label = label_column or _label_among(table, chosen)
    texts = [name for name in table.columns if name.lower() in TEXT_NAMES and name not in (chosen, label)]
    if texts and image_column is None and known[0] is None:
        progress.warn(f"{path}: images are taken from {chosen!r}; if {texts[0]!r} is meant, name it with `text_column`")
    return ImageTable(table, chosen, label, images)


def unlabelled(data: str, image_column: str | None = None) -> tuple[list[dict[str, str | None]], list[ImageInput]]:
    """Return the images of a file or folder, in the order of their names, whatever folders they lie in; and before
    them the row that each stands in, or its name.
    """
    path = Path(data)
    if data != DIGITS and (path.is_dir() or path.suffix.lower() == ".zip"):
        images = _images_in(path)
    elif path.suffix.lower() in FORMATS:
        images = [ImageInput(shown(path.name), path)]
    elif data == DIGITS:
        images = _digits().images
    else:
        table, _, images = _from_table_or_parquet(path, image_column, None)
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows], images
    return [{"image": image.name} for image in images], images


def _images_in(path: Path) -> list[ImageInput]:
    """Return the images of a folder or an archive; says what else is there."""
    if path.is_dir():
        listed = _files_of(path)
        images = [ImageInput(shown(file.relative_to(path).as_posix()), file) for file in listed.images]
        names = [file.name for file in listed.others]
        for file in listed.broken[:_NAMED]:
            progress.warn(f"{shown(str(file))} is a link to nothing; it is not used")
        if len(listed.broken) > _NAMED:
            progress.warn(f"{path}: {len(listed.broken):,} links in all lead to nothing")
        _say_classes_without_images(path, listed)
        if not images and names:
            raise DataError(f"{path}: none of its files is an image that is read ({_endings(names)}); {_CONVERT}")
    else:
        members, names = _members_of(path)
        images = [ImageInput(shown(name), path, member) for name, member in members]
    if names:
        progress.warn(
            f"{path}: {len(names):,} files are not used, because they are not named as images are ({_endings(names)}); "
            f"{_CONVERT}"
        )
    return images


def _endings(names: Sequence[str]) -> str:
    endings = Counter(PurePosixPath(name).suffix.lower() or "none" for name in names)
    return ", ".join(f"{n:,} {ending}" for ending, n in endings.most_common(5))


def _say_classes_without_images(path: Path, listed: Files) -> None:
    """Name the sub-folders that would be classes and hold no image that is read, or hold others, too."""
    with_images = {file.relative_to(path).parts[0] for file in listed.images}
    for child in sorted(path.iterdir()):
        if not child.is_dir() or not _is_ours(child.name):
            continue
        unread = [file.name for file in listed.others if child in file.parents and file.suffix.lower() in UNREAD]
        if child.name not in with_images:
            held = [file.name for file in listed.others if child in file.parents]
            what = f"holds {_endings(held)}, and no image that is read; {_CONVERT}" if held else "is empty"
            progress.warn(f"{path}: folder {shown(child.name)!r} {what}: it is not a class")
        elif unread:
            progress.warn(f"{path}: class {shown(child.name)!r} loses {_endings(unread)}; {_CONVERT}")


@dataclass(frozen=True)
class Files:
    """Files in a folder and below, in the order of their paths: images, links to nothing, others."""

    images: list[Path]
    broken: list[Path]
    others: list[Path]


def _files_of(folder: Path) -> Files:
    """List a folder and what is below it, links included; no hidden files."""
    found: list[Path] = []
    visited: set[Path] = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        here = Path(name)
        if here.resolve() in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(here.resolve())
        folders[:] = [each for each in folders if _is_ours(each)]
        found += [here / each for each in files if _is_ours(each) and each not in _METADATA]
    named = [file for file in sorted(found) if file.suffix.lower() in FORMATS]
    broken = [file for file in sorted(found) if not file.exists()]
    others = [file for file in sorted(found) if file.suffix.lower() not in FORMATS and file.exists()]
    return Files([file for file in named if file.is_file()], broken, others)


def _members_of(archive: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the images of an archive, in order, each by its name below the folder that all of it is in and by its
    whole name; and the names of what else is there.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if not name.endswith("/")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} is not a zip file ({error}); make it anew") from error
    paths = {name: PurePosixPath(name) for name in names}
    ours = [name for name in names if not any(part.startswith((".", "__MACOSX")) for part in paths[name].parts)]
    images = sorted(name for name in ours if paths[name].suffix.lower() in FORMATS)
    others = [name for name in ours if paths[name].suffix.lower() not in FORMATS]
    outer = 0
    while len({paths[name].parts[: outer + 1] for name in images}) == 1 and all(
        len(paths[name].parts) > outer + 2 for name in images
    ):
        outer += 1
    return [("/".join(paths[name].parts[outer:]), name) for name in images], others


def _by_folder(source: str, files: list[ImageInput]) -> ImageTable:
    """Label images by the first folder of each name."""
    rows: list[list[str | None]] = [
        [image.name, image.name.split("/")[0] if "/" in image.name else None] for image in files
    ]
    labels = {label for _, label in rows if label}
    if labels and all(map(part_named, labels)):
        cure = "give one of them, or name one train" if Path(source).is_dir() else "unpack it and give the folder"
        raise DataError(f"{source}: its folders are parts ({', '.join(sorted(labels))}); {cure}")
    within = {label: part for label in sorted(labels) if (part := _part_within(label))}
    if {"train"} < set(within.values()):
        others = ", ".join(sorted(labels - within.keys())) or "other classes"
        raise DataError(
            f"{source}: its folders {', '.join(within)} are called like parts, but do not hold the same classes, or "
            f"stand beside {others}; give the one to learn from, and the one to test on with `test`"
        )
    if not labels:
        raise DataError(
            f"{source}: images but no sub-folders; put the images of each class into a folder of its own, or a "
            f"{_METADATA[0]} with the columns {_FILE_NAME} and label beside them{_table_beside(Path(source))}"
        )
    inner: dict[str, set[str]] = {label: set() for label in labels}
    for image in files:
        if len(parts := image.name.split("/")) > 2:
            inner[parts[0]].add(parts[1])
    same = next(iter(inner.values()))
    if len(labels) > 1 and len(same) > 1 and all(each == same for each in inner.values()):
        progress.warn(
            f"{source}: labels are {', '.join(sorted(labels)[:_NAMED])}, and each holds the same folders, "
            f"{', '.join(sorted(same)[:_NAMED])}; if those are the classes, name the outer ones train and test"
        )
    table = Table(source, ["image", "label"], rows, list(range(1, len(rows) + 1)))
    return ImageTable(table, "image", "label", files)


def _table_beside(folder: Path) -> str:
    """Return what to say of a table in the folder that names images, or of an archive, in which none is read."""
    if not folder.is_dir():
        return "; an archive of these has to be unpacked"
    listed = [file for file in _files_of(folder).others if file.suffix.lower() in (".csv", ".tsv", ".jsonl")]
    found = next((file for file in listed if _mentions_images(file)), None)
    return f"; or give {found}, which names images" if found else ""


def _digits() -> ImageTable:
    """Return 1,797 handwritten digits of 8 × 8 points (Alpaydin and Kaynak, 1998; CC BY 4.0), enlarged."""
    from sklearn.datasets import load_digits

    grids, labels = load_digits(return_X_y=True)
    images: list[ImageInput] = []
    rows: list[list[str | None]] = []
    for number, (shades, label) in enumerate(zip(grids.reshape(-1, 8, 8), labels, strict=True), start=1):
        points = Image.fromarray((255 * (1 - shades / 16)).astype(np.uint8))
        content = io.BytesIO()
        points.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC).save(content, "PNG")
        images.append(ImageInput(f"digit {number}", content=content.getvalue()))
        rows.append([f"digit {number}", str(label)])
    return ImageTable(Table(DIGITS, ["image", "label"], rows, list(range(1, len(rows) + 1))), "image", "label", images)


def _from_table_or_parquet(path: Path, column: str | None, known: str | None) -> tuple[Table, str, list[ImageInput]]:
    """Return the table, which of its columns has the images' names, and the images.

    Args:
        column: it is this one; an error if it is not there.
        known: it is this one, if it is there.
    """
    if path.suffix.lower() == ".parquet" and _column_of_bytes(path, column) is not None:
        return _from_parquet(path, column)
    names = [name for name in (column, known, _FILE_NAME) if name]
    table = tables.read(path, unlabelled=True, names=names)
    require_column(table, column, "`text_column`")
    found = next((name for name in table.columns if _names_images(table.column(name))), None)
    chosen = column or (known if known in table.columns else found)
    assert chosen is not None  # `holds_images` has found one
    cells = [(cell or "").strip() for cell in table.column(chosen)]
    if sum("://" in cell for cell in cells) > len(cells) / 2:
        raise DataError(
            f"{path}: column {chosen!r} holds addresses, and nothing is fetched; download the images, and write the "
            "names of their files there"
        )
    images = [
        ImageInput(shown(cell) or f"row {line}, which names none,", _located(path.parent, cell))
        for cell, line in zip(cells, table.lines, strict=True)
    ]
    return table, chosen, images


def _located(folder: Path, name: str) -> Path:
    """Return where a file lies whose name may be written as on Windows."""
    path = folder / name
    return path if "\\" not in name or path.exists() else folder / name.replace("\\", "/")


def _from_parquet(path: Path, image_column: str | None) -> tuple[Table, str, list[ImageInput]]:
    content = parquet.read_table(path)
    require_different(content.column_names, str(path))
    image_column = str(_column_of_bytes(path, image_column))
    others = [name for name in content.column_names if name != image_column]
    images = []
    for number, cell in enumerate(content.column(image_column).to_pylist(), start=1):
        data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        images.append(ImageInput(shown(name or f"row {number}"), content=data or b""))
    classes = tables.named_classes(content.schema.metadata)
    columns = [tables.as_texts(content.column(name), classes.get(name)) for name in others]
    rows = [[image.name, *cells] for image, *cells in zip(images, *columns, strict=True)]
    table = Table(str(path), [image_column, *others], rows, list(range(1, len(rows) + 1)))
    return table, image_column, images


def _column_of_bytes(path: Path, column: str | None) -> str | None:
    """Return the column that holds images: their bytes begin as those of images do."""
    first = _first_rows(path)

    def is_bytes(kind: Any) -> bool:
        if arrow.types.is_struct(kind):
            return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
        return bool(arrow.types.is_binary(kind) or arrow.types.is_large_binary(kind))

    def begins_as_image(cell: Any) -> bool:
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        return isinstance(content, bytes) and content.startswith(_BEGINNINGS)

    fields = [
        (i, each.name) for i, each in enumerate(first.schema) if is_bytes(each.type) and column in (None, each.name)
    ]
    return next((name for i, name in fields if any(map(begins_as_image, first.column(i).to_pylist()))), None)


def _first_rows(path: Path) -> arrow.RecordBatch:
    """Return the first rows of a Parquet file; none, and no columns, where there are none or it cannot be read."""
    with suppress(OSError, arrow.ArrowInvalid, arrow.ArrowNotImplementedError):
        for rows in parquet.ParquetFile(path).iter_batches(batch_size=_LOOKED_AT):
            return rows
    return arrow.record_batch({})


def _column_of_names(path: Path, column: str | None) -> str | None:
    """Return the column of a Parquet file that names images."""
    first = _first_rows(path)
    is_text = (arrow.types.is_string, arrow.types.is_large_string, arrow.types.is_dictionary)
    fields = [(i, each.name) for i, each in enumerate(first.schema) if any(kind(each.type) for kind in is_text)]
    named = [(i, name) for i, name in fields if column in (None, name)]
    return next((name for i, name in named if _names_images(tables.as_texts(first.column(i), None))), None)


def require_texts(table: Table, column: str) -> None:
    """Raise DataError where what is taken for texts are images, or names of their files."""
    cells = [cell for cell in table.column(column) if cell][:_LOOKED_AT]
    what = None
    if _names_images([*cells]):
        what = "names image files"
    elif cells and all(cell.startswith(('{"bytes": ', "\ufffd")) for cell in cells):
        what = "holds bytes, such as those of images"
    if what:
        raise DataError(
            f"{table.source}: column {column!r} {what}, which are read from Parquet files, or by their names from CSV, "
            "TSV and JSON Lines; write it as one of these"
        )


def _label_among(table: Table, image_column: str) -> str:
    names = [name for name in table.columns if name != image_column]
    known = [name for name in names if name.lower() in ("label", "labels", "class", "category", "target", "species")]
    if len(names) == 1 or known:
        return (known or names)[0]
    raise DataError(f"{table.source}: which column has the labels? Say it with `label_column`: {', '.join(names)}")


def _mentions_images(path: Path) -> bool:
    """Return whether the beginning of a file holds the name of an image; most tables of texts are read once so."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING).lower()
    return any(ending.encode() in beginning for ending in FORMATS)


def _require_endings(path: Path) -> None:
    """Raise DataError where a table names images beside it without the endings of their names."""
    with path.open("rb") as file:
        rows = file.read(_BEGINNING).decode("utf-8", "replace").split("\n")[1:3]
    for cell in (cell.strip(" \r\"'") for row in rows for cell in re.split(r"[,;\t|]", row)[:10]):
        if cell and len(cell) < 200 and "\0" not in cell:
            try:
                ending = next((ending for ending in FORMATS if (path.parent / f"{cell}{ending}").is_file()), None)
            except OSError:  # no file's name
                return
            if ending:
                raise DataError(f"{path} names images without their ending; write {cell}{ending} instead of {cell}")


def _names_images(cells: list[str | None]) -> bool:
    filled = [cell for cell in cells if cell and cell.strip()]
    return 2 * len(filled) > len(cells) and sum(
        Path(cell.strip()).suffix.lower() in FORMATS for cell in filled
    ) >= _MOSTLY * max(1, len(filled))
