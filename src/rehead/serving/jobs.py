"""Jobs on files: what was uploaded, how far it is, and the results. Kept on disk, so that a restart loses none.

A folder with `jobs.sqlite` and for each job a folder of its own with the upload and what becomes of it. One job runs at
a time; one that was running when the server went down goes on where it stood.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from filelock import FileLock, Timeout

from rehead.runtime import files
from rehead.runtime.errors import Interrupted, RheadError, SettingError, first_line
from rehead.serving import logs

State = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
# Of a file's name; what is in it shows from its content, and from the ending where that leaves a doubt.
ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")
# Seconds after which jobs that have ended are removed: 7 days.
_KEPT = 7 * 24 * 3600
# Seconds after which what the disk or the database has refused is tried again.
_PAUSE = 10
_NUMBER = re.compile("[0-9a-f]{24}")
_SCHEMA = """
create table if not exists jobs (
    id text primary key,
    state text not null,
    created real not null,
    ended real,
    model text not null,
    name text not null,
    text_column text,
    format text not null,
    done integer not null default 0,
    total integer not null default 0,
    facts text,
    error text,
    escape_formulas integer not null default 0
)
"""
# What a folder from before there was such a column lacks.
_ADDED = "alter table jobs add column escape_formulas integer not null default 0"
_COLUMNS = "id, state, created, ended, model, name, text_column, format, done, total, facts, error, escape_formulas"
# SQLite has no checksums, but compares what stands in a table with what stands in its indexes.
_SECOND_COPY = f"create index if not exists second_copy on jobs ({_COLUMNS})"


@dataclass(frozen=True)
class Job:
    """A file that is to be scored, or was.

    Attributes:
        created, ended: seconds since 1970.
        model: by name.
        name: of the file that was uploaded.
        format: of the result: csv, tsv, jsonl or parquet.
        done, total: of the work; in rows or in bytes.
        summary: of a job that is done: counts of its rows.
        error: of one that failed: what was wrong.
        escape_formulas: whether cells that a spreadsheet would run are made harmless in CSV and TSV.
    """

    id: str
    state: State
    created: float
    ended: float | None
    model: str
    name: str
    text_column: str | None
    format: str
    done: int
    total: int
    summary: dict[str, Any] | None
    error: str | None
    escape_formulas: bool


# Scores a job's file: (job, file, where the result goes, what is called with the progress, what says stop) → summary.
Work = Callable[[Job, Path, Path, Callable[[int, int], None], threading.Event], dict[str, Any]]


class Jobs:
    """The jobs in a folder, and the thread that does them.

    Args:
        folder: made if it is not there.
        work: what a job is.
        ended: called with the state of each job that ends.

    Raises:
        SettingError: the folder cannot be used, or another server uses it.
    """

    def __init__(self, folder: Path, work: Work, ended: Callable[[str], None]) -> None:
        self._folder, self._work, self._ended = folder.resolve(), work, ended
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self._folder / "lock", thread_local=False)
            self._lock.acquire(timeout=0)
            self._database = sqlite3.connect(self._folder / "jobs.sqlite", check_same_thread=False)
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=full")
            self._database.execute(_SCHEMA)
            with suppress(sqlite3.OperationalError):
                self._database.execute(_ADDED)
            self._database.execute(_SECOND_COPY)
            if (found := self._database.execute("pragma integrity_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(f"jobs.sqlite is damaged: {found}")
            with self._database:
                self._database.execute("update jobs set state = 'waiting' where state = 'running'")
            self._sweep()
        except Timeout:
            raise SettingError(f"`jobs={str(folder)!r}`: another server uses that folder; give another") from None
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            why = first_line(error)
            raise SettingError(f"`jobs={str(folder)!r}` cannot be used ({why}); give another folder") from error
        self._access = threading.Lock()
        self._news = threading.Condition()
        self._closing = False
        self._stop, self._running = threading.Event(), ""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def _sweep(self) -> None:
        """Remove what a server that was killed has left of uploads, and what belongs to no job."""
        known = {row[0] for row in self._database.execute("select id from jobs where state != 'cancelled'")}
        for left in self._folder.iterdir():
            if _NUMBER.fullmatch(left.name) and left.name not in known:
                shutil.rmtree(left, ignore_errors=True)

    def start(self) -> None:
        """Begin with what is waiting."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is running is kept as far as it is, and goes on when the folder is opened again."""
        with self._news:
            self._closing = True
            self._stop.set()
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join()
        with self._access:
            self._database.close()
        self._lock.release()

    def add(
        self, upload: IO[bytes], model: str, name: str, text_column: str | None, form: str, escape_formulas: bool = True
    ) -> Job:
        """Add a job for a file, which is on the disk when this returns."""
        number = secrets.token_hex(12)  # whoever does not know it cannot ask for it
        (self._folder / number).mkdir()
        try:
            with files.new_file(self._file(number, name)) as partial, partial.open("wb") as file:
                shutil.copyfileobj(upload, file)
            with self._writing() as database:
                database.execute(
                    "insert into jobs (id, state, created, model, name, text_column, format, escape_formulas) "
                    "values (?, ?, ?, ?, ?, ?, ?, ?)",
                    (number, "waiting", time.time(), model, name, text_column, form, escape_formulas),
                )
        except BaseException:
            shutil.rmtree(self._folder / number, ignore_errors=True)
            raise
        with self._news:
            self._news.notify()
        job = self.find(number)
        assert job is not None
        return job

    def find(self, number: str) -> Job | None:
        with self._access:
            row = self._database.execute(f"select {_COLUMNS} from jobs where id = ?", (number,)).fetchone()  # noqa: S608
        return None if row is None else _job(row)

    def count(self, state: str) -> int:
        """Return how many jobs are in a state."""
        with self._access:
            return int(self._database.execute("select count(*) from jobs where state = ?", (state,)).fetchone()[0])

    def _file(self, number: str, name: str) -> Path:
        ending = Path(name).suffix.lower()
        return self._folder / number / f"upload{ending if ending in ENDINGS else ''}"

    def result_of(self, job: Job) -> Path:
        return self._folder / job.id / f"result.{job.format}"

    def bad_rows_of(self, job: Job) -> Path:
        """Return the file of the rows that could not be read; it is there only if there were any."""
        return self._folder / job.id / "result.bad.jsonl"

    def cancel(self, number: str) -> None:
        """End a job, and remove its files."""
        with self._writing() as database:
            database.execute(
                "update jobs set state = 'cancelled', ended = coalesce(ended, ?) where id = ?", (time.time(), number)
            )
            # In the same breath, so that no job that has begun in between is stopped instead.
            if self._running == number:
                self._stop.set()
                return
        shutil.rmtree(self._folder / number, ignore_errors=True)

    def _run(self) -> None:
        """Do jobs until the folder is closed; a full disk or a locked database makes it wait, not end."""
        while not self._closing:
            try:
                self._forget_old()
                with self._news:
                    job = None if self._closing else self._next()
                    if job is None:
                        self._news.wait(timeout=0 if self._closing else 60)
                        continue
                self._do(job)
            except (OSError, sqlite3.Error) as fault:
                logs.fault("jobs cannot be kept; tried again in ten seconds", fault)
                with self._news:
                    self._news.wait(timeout=0 if self._closing else _PAUSE)
                self._set_back()

    def _set_back(self) -> None:
        """Let what runs by the database and not in truth wait again; what is done of it is kept."""
        self._running = ""
        with suppress(sqlite3.Error), self._writing() as database:
            database.execute("update jobs set state = 'waiting' where state = 'running'")

    def _next(self) -> Job | None:
        with self._writing() as database:
            row = database.execute(
                f"select {_COLUMNS} from jobs where state = 'waiting' order by created limit 1"  # noqa: S608
            ).fetchone()
            if row is None:
                return None
            self._stop.clear()
            self._running = row[0]
            database.execute("update jobs set state = 'running' where id = ?", (row[0],))
            return _job(row)

    def _do(self, job: Job) -> None:
        state, summary, error = "done", None, None
        file = self._file(job.id, job.name)

        def shown(message: str) -> str:
            # People see the name that they gave the file, not where it lies here.
            return message.replace(str(file), job.name).replace(f"{self._folder / job.id}{os.sep}", "")

        def keep(done: int, total: int) -> None:
            # That its progress could not be written down must not end a job.
            with suppress(sqlite3.Error), self._writing() as database:
                database.execute("update jobs set done = ?, total = ? where id = ?", (done, total, job.id))

        try:
            summary = self._work(job, file, self.result_of(job), keep, self._stop)
            if warnings := summary.get("warnings"):
                summary["warnings"] = [*map(shown, warnings)]
        except Interrupted:
            state = "waiting" if self._closing else "cancelled"
        except RheadError as refused:
            state, error = "failed", shown(str(refused))
        except Exception as fault:
            logs.fault("a job failed by a fault of rehead's own", fault, job=job.id)
            state, error = "failed", f"a fault of rehead's own: {type(fault).__name__}; the server's log has more"
        ended = None if state == "waiting" else time.time()
        stored = None if summary is None else json.dumps(summary)
        with self._writing() as database:
            self._running = ""
            database.execute(
                "update jobs set state = ?, ended = ?, facts = ?, error = ? where id = ? and state = 'running'",
                (state, ended, stored, error, job.id),
            )
            cancelled = database.execute("select state from jobs where id = ?", (job.id,)).fetchone()[0] == "cancelled"
        if cancelled:
            shutil.rmtree(self._folder / job.id, ignore_errors=True)
        if state != "waiting":
            self._ended("cancelled" if cancelled else state)
        logs.event("job", job=job.id, state=state, file=job.name, error=error)

    def _forget_old(self) -> None:
        with self._writing() as database:
            old = database.execute(
                "select id from jobs where ended < ? and state in (?, ?, ?)", (time.time() - _KEPT, *ENDED)
            ).fetchall()
        for (number,) in old:
            shutil.rmtree(self._folder / number, ignore_errors=True)
            with self._writing() as database:
                database.execute("delete from jobs where id = ?", (number,))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._access, self._database:
            yield self._database


def _job(row: tuple[Any, ...]) -> Job:
    fields = dict(zip(_COLUMNS.split(", "), row, strict=True))
    summary = fields.pop("facts")
    return Job(**fields, summary=None if summary is None else json.loads(summary))
