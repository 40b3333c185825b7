"""What a cluster writes: a folder of parts, each written whole under a name that its rows decide, and then committed.

A part that is written twice, because a worker was lost, is written to the same name. Beside the parts, and hidden from
whoever reads the folder as a table, lies what is known of each; a part without it counts as not written.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from rehead.batch.journal import Counts
from rehead.cluster.inputs import reaching
from rehead.data.tables import FORMATS
from rehead.runtime import files
from rehead.runtime.errors import DataError, first_line

COMMIT = "_SUCCESS"
BAD = "_bad"
_RECORDS, _IDENTITY = "_records", "_run.json"


@dataclass(frozen=True)
class Record:
    """What is known of a part.

    Attributes:
        source, number, is_last, done: see `rehead.cluster.inputs.Part`.
        file: its name; None where it would have no rows.
        counts: of its rows.
        run: which run has written it.
    """

    source: int
    number: int
    is_last: bool
    done: int
    file: str | None
    counts: Counts
    run: str


@dataclass(frozen=True)
class Output:
    """The folder of parts.

    Attributes:
        place: a local folder, which gets its name when all is done, or an address, where `_SUCCESS` says so: a store
            of objects cannot rename a folder.
    """

    place: str

    @classmethod
    def at(cls, place: str) -> Output:
        """Return the folder of parts at a place.

        Raises:
            DataError: its ending is that of no format, what it is to lie in is not there, or it is there already.
        SettingError: a package for such addresses is missing.
        """
        output = cls(place)
        if output.suffix not in FORMATS:
            raise DataError(f"{place}: tables are written as {', '.join(FORMATS)}; give a name that ends so")
        with reaching(place):
            is_free = output._is_free()
        folder = output.folder
        if folder and not folder.parent.is_dir():
            raise DataError(f"{place}: the folder {folder.parent} does not exist; make it or give another")
        if not is_free:
            raise DataError(f"{place} is there already and not of this command; remove it or give another name")
        return output

    def _is_free(self) -> bool:
        """Return whether nothing lies there but what this command has written, which is replaced."""
        system, path = self._system_and_path()
        if not system.exists(path) or system.exists(f"{path}/{_IDENTITY}"):
            return True
        try:
            return "parts" in json.loads(system.cat_file(f"{path}/{COMMIT}"))
        except (OSError, ValueError):  # others have an empty file of that name
            return False

    def _system_and_path(self, name: str = "") -> tuple[AbstractFileSystem, str]:
        """Return the file system of the folder, and the path there of it or of a file in it, without a slash behind."""
        system, path = fsspec.core.url_to_fs(f"{self.place.rstrip('/')}/{name}")
        return system, path.rstrip("/")

    @property
    def suffix(self) -> str:
        return Path(self.place.rstrip("/")).suffix

    @property
    def folder(self) -> Path | None:
        """The local folder; None for an address."""
        if "://" in self.place:
            system, path = self._system_and_path()
            return Path(path) if type(system) is LocalFileSystem else None
        return Path(self.place).absolute()

    def begin(self, identity: dict[str, str]) -> bool:
        """Prepare the folder, and return whether there is something of an interrupted run to the same end.

        What lies there of another run is removed.
        """
        stored = self._read(_IDENTITY)
        if stored and json.loads(stored) == identity and self._read(COMMIT) is None:
            return True
        folder = self._working
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            system, path = self._system_and_path()
            if system.exists(path):
                system.rm(path, recursive=True)
        self.write(_IDENTITY, json.dumps(identity).encode())
        return False

    def record(self, source: int, number: int) -> Record | None:
        """Return what is known of a part; None where it is not written."""
        stored = self._read(f"{_RECORDS}/{_name(source, number)}.json")
        if stored is None:
            return None
        known = json.loads(stored)
        return Record(**known | {"counts": Counts(**known["counts"])})

    def keep(self, record: Record, part: bytes, bad: bytes) -> None:
        """Write a part, what could not be read of it, and at last that it is there."""
        if record.file:
            self.write(record.file, part)
        name = _name(record.source, record.number)
        if bad:
            self.write(f"{BAD}/{name}.jsonl", bad)
        self.write(f"{_RECORDS}/{name}.json", json.dumps(asdict(record)).encode())

    def commit(self, records: list[Record]) -> None:
        """Say that all is there, and what; the folder then has its name."""
        parts = [{"file": one.file, "rows": one.counts.rows} for one in records if one.file]
        self.write(COMMIT, json.dumps({"parts": parts}, indent=1).encode())
        working, folder = self._working, self.folder
        if working and folder:
            shutil.rmtree(working / _RECORDS, ignore_errors=True)
            (working / _IDENTITY).unlink()
            if folder.exists():
                shutil.rmtree(folder)
            working.rename(folder)
        else:
            system, path = self._system_and_path()
            system.rm(f"{path}/{_RECORDS}", recursive=True)
            system.rm(f"{path}/{_IDENTITY}")

    def part(self, source: int, number: int) -> str:
        """Return the name of a part."""
        return f"part-{_name(source, number)}{self.suffix}"

    def write(self, name: str, content: bytes) -> None:
        """Write one file, whole or not at all."""
        try:
            if folder := self._working:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                files.write_file(file, content)
            else:
                system, path = self._system_and_path(name)
                system.makedirs(system._parent(path), exist_ok=True)
                system.pipe_file(path, content)
        except OSError as error:
            raise DataError(f"cannot write {self.place} ({first_line(error)}); give another place with -o") from error

    @property
    def _working(self) -> Path | None:
        """Where parts lie until all are there; None for an address."""
        folder = self.folder
        return folder and folder.with_name(f".{folder.name}.rehead-run")

    def _read(self, name: str) -> bytes | None:
        try:
            if folder := self._working:
                return (folder / name).read_bytes()
            system, path = self._system_and_path(name)
            content: bytes = system.cat_file(path)
            return content
        except FileNotFoundError:
            return None


def _name(source: int, number: int) -> str:
    return f"{source:06}-{number:06}"
