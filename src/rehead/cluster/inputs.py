"""What is scored on a cluster: files or images, local or at an address of fsspec's, read by many tasks at once."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import fsspec

from rehead.batch import databases, sources
from rehead.batch.portions import PORTION_ROWS, Portion
from rehead.data import image_folders, images
from rehead.data.columns import Table
from rehead.data.dialects import JSON_LINES, kind_of
from rehead.data.images import ImageInput
from rehead.data.records import BadRow, read_head
from rehead.data.tables import FORMATS
from rehead.runtime.errors import DataError, SettingError, first_line

if TYPE_CHECKING:
    import pyarrow

# Rows of a part. Of a billion rows that makes 61,000 files; what a killed worker had begun is seconds of work.
PART_ROWS = 8 * PORTION_ROWS
# Images that are read, sent and scored together: some tens of megabytes.
_IMAGES = 256


@dataclass(frozen=True)
class Preview:
    """What is known of an input before it is read.

    Attributes:
        columns, schema, sample: see `rehead.batch.sources.RowSource`.
        total: of what is read, in rows or bytes.
        identity: of what is read; another one, other rows.
        may_differ: whether inputs beside it may have other columns, as JSON Lines may.
    """

    columns: list[str]
    schema: pyarrow.Schema | None
    sample: Table
    total: int
    identity: str
    may_differ: bool = False


@dataclass(frozen=True)
class Part:
    """Portions that one actor scores and writes as one part.

    Attributes:
        source, number: of which input, and which of its parts; both from 0.
        is_last: whether it is the input's last one.
        done: rows or bytes of the input that were read for it.
    """

    source: int
    number: int
    is_last: bool
    portions: list[Portion]
    done: int


@dataclass(frozen=True)
class TableFile:
    """A file of rows.

    Attributes:
        place: its path, which has to be the same on all machines, or its address.
        name: what it is called in results.
        column: the name of a column that says so; None for no such column.
    """

    place: str
    name: str
    column: str | None

    def preview(self, names: Collection[str]) -> Preview:
        """Return what it holds; see `rehead.batch.sources.rows_of` for the names."""
        with here(self.place) as path:
            rows = sources.rows_of([(path, self.name)], self.column, names)
            may_differ = kind_of(read_head(path)) == JSON_LINES
            sample = replace(rows.sample, source=self.place)
            return Preview(rows.columns, rows.schema, sample, rows.total, _stamp_of(self.place), may_differ)

    def portions(self, text_column: str, names: Collection[str], columns: list[str], n_rows: int) -> Iterator[Portion]:
        """Yield its rows, with the columns of all inputs."""
        with here(self.place) as path:
            rows = sources.rows_of([(path, self.name)], self.column, names)
            at = {name: i for i, name in enumerate(rows.columns)}
            for portion in rows.portions(text_column, n_rows):
                if rows.columns == columns:
                    yield portion
                else:
                    values = [[row[at[name]] if name in at else None for name in columns] for row in portion.rows()]
                    yield replace(portion, values=values)


@dataclass(frozen=True)
class Images:
    """Images that lie in files, with the rows that they stand in.

    Attributes:
        places: where each one lies whose content is still to be read; None where `images` says it.
    """

    rows: list[dict[str, Any]]
    images: list[ImageInput]
    places: list[str] | None = None

    def preview(self, names: Collection[str]) -> Preview:
        columns = list(self.rows[0])
        cells = [[row[name] for name in columns] for row in self.rows[:1]]
        sample = Table(self.images[0].name, columns, cells, [1])
        # None of them was looked at, so none is taken for what an earlier run has scored.
        return Preview(columns, None, sample, len(self.rows), uuid4().hex)

    def portions(self, text_column: str, names: Collection[str], columns: list[str], n_rows: int) -> Iterator[Portion]:
        usable, values, bad = [], [], []
        contents = _contents(self.places) if self.places else (image.read() for image in self.images)
        read = [ImageInput(image.name, content=content) for image, content in zip(self.images, contents, strict=True)]
        for row, image, problem in zip(self.rows, read, images.looked_at(read), strict=True):
            if problem is not None:
                bad.append(BadRow(image.name, 1, problem, ""))
            else:
                usable.append(image)
                values.append(list(row.values()))
        # A predictor of images takes them where one of texts takes texts.
        yield Portion(usable, values, bad, 0, None, len(self.rows))  # type: ignore[arg-type]


# A part of INPUT that one task reads.
Input: TypeAlias = TableFile | Images


def inputs_of(source: str, output: str, *, takes: str, text_column: str | None = None) -> Sequence[Input]:
    """Return what INPUT stands for, in the order of its names.

    Args:
        output: where results go; in a folder of tables it is not one of them.
        takes: `texts` or `images`.

    Raises:
        DataError: there is nothing there, or it cannot be reached.
        SettingError: it is a database, which one machine reads.
    """
    if databases.is_database(source):
        raise SettingError("the rows of a database are read by one machine; leave `on` out, or give files")
    is_far = "://" in source
    if takes == "images":
        return _images_at(source) if is_far else _local_images(source, text_column)
    files = (
        _tables_at(source) if is_far else [(str(file), name) for file, name in sources.files_of(source, Path(output))]
    )
    column = sources.FILE_COLUMN if len(files) > 1 else None
    return [TableFile(place, name, column) for place, name in files]


def parts_of(
    number: int, one: Input, text_column: str, names: Collection[str], columns: list[str], n_rows: int
) -> Iterator[Part]:
    """Yield an input in parts. Where one ends depends on the input alone, so that whoever reads it again, in the
    place of a worker that was lost, makes the same ones.
    """
    waiting: list[Portion] = []
    rows = done = n = 0
    for portion in one.portions(text_column, names, columns, min(n_rows, PORTION_ROWS)):
        if rows >= n_rows:
            yield Part(number, n, False, waiting, waiting[-1].done - done)
            done, n, waiting, rows = waiting[-1].done, n + 1, [], 0
        waiting.append(portion)
        rows += len(portion.texts) + len(portion.bad)
    yield Part(number, n, True, waiting, waiting[-1].done - done if waiting else 0)


def _tables_at(address: str) -> list[tuple[str, str]]:
    """Return the addresses of the tables in a folder, of a pattern or of a file, and what each is called."""
    found = _listed(address)
    if not glob.has_magic(address):
        found = [one for one in found if one == address or PurePosixPath(one).suffix.lower() in FORMATS]
    names = [(place, PurePosixPath(place).name) for place in found]
    if not names:
        raise DataError(f"{address}: no table lies there; give one with {', '.join(FORMATS)} files")
    return names


def _images_at(address: str) -> list[Images]:
    found = [one for one in _listed(address, deep=True) if PurePosixPath(one).suffix.lower() in images.FORMATS]
    if not found:
        raise DataError(f"{address}: no image lies there; give a folder with {', '.join(images.FORMATS)} files")
    start = address.rstrip("/") + "/"
    named = [
        ImageInput(place.removeprefix(start) if place != address else PurePosixPath(place).name) for place in found
    ]
    return [
        Images(
            [{"image": image.name} for image in named[i : i + _IMAGES]], named[i : i + _IMAGES], found[i : i + _IMAGES]
        )
        for i in range(0, len(found), _IMAGES)
    ]


def _local_images(source: str, column: str | None) -> list[Images]:
    rows, found = image_folders.unlabelled(source, column)
    if not found:
        raise DataError(f"{source}: no image lies there; check the path")
    return [Images(rows[i : i + _IMAGES], found[i : i + _IMAGES]) for i in range(0, len(found), _IMAGES)]


def _listed(address: str, deep: bool = False) -> list[str]:
    """Return the addresses of the files in a folder, or of a pattern, by name; a file's own where it is one."""
    with reaching(address):
        system, path = fsspec.core.url_to_fs(address)
        if glob.has_magic(path):
            found = system.glob(path)
        elif system.isdir(path):
            found = system.find(path) if deep else [one for one in system.ls(path, detail=False) if system.isfile(one)]
        else:
            return [address]
        return sorted(system.unstrip_protocol(one) for one in found)


@contextmanager
def here(place: str, *, is_folder: bool = False) -> Iterator[Path]:
    """Yield a file or folder of this machine with what lies at a place; of what is far a copy, while the block runs."""
    if "://" not in place:
        yield Path(place)
        return
    with TemporaryDirectory(prefix="rehead-") as folder:
        copy = Path(folder) if is_folder else Path(folder) / PurePosixPath(place).name
        with reaching(place):
            system, path = fsspec.core.url_to_fs(place)
            if is_folder:
                system.get(path.rstrip("/") + "/", f"{folder}/", recursive=True)
            else:
                system.get_file(path, str(copy))
        yield copy


def _stamp_of(place: str) -> str:
    """Return what changes when a file does."""
    with reaching(place):
        system, path = fsspec.core.url_to_fs(place)
        return f"{place} {system.ukey(path)}"


def _contents(places: list[str]) -> Iterator[bytes]:
    for place in places:
        with reaching(place), fsspec.open(place, "rb") as file:
            yield file.read()


@contextmanager
def reaching(place: str) -> Iterator[None]:
    """Raise what the user can mend where an address cannot be reached.

    Raises:
        DataError: nothing answers there, or not to this user.
        SettingError: the package for such addresses is missing.
    """
    try:
        yield
    except ImportError as error:
        raise SettingError(f"{place}: {first_line(error)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{place} cannot be reached ({first_line(error)}); check the address") from error
