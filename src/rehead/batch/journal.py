"""What is kept of a run beside its output, so that whatever ends it, the same command goes on.

A folder with the results so far, the rows that could not be read, and `state.json`, which says up to where both are
whole. That is replaced only after they are on the disk; what stands behind is cut off when the run goes on. All have
checksums: what is not as it was written is not gone on from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from rehead.batch.sinks import Sink
from rehead.batch.sources import bad_rows_file
from rehead.runtime import files, progress
from rehead.runtime.errors import DataError, Interrupted, RheadError, SettingError
from rehead.runtime.interrupts import deferred

# To be counted up when what is kept changes, so that no run goes on from what it cannot read.
_FORMAT = 3
_STATE, _RESULTS, _BAD, _WHOLE = "state.json", "results", "bad.jsonl", "whole"


@dataclass(frozen=True)
class Counts:
    """Rows of a portion, or of several: those of two add up.

    Attributes:
        rows: that were scored.
        bad: that could not be read.
        empty: without a text; the first of them is in `first_empty`.
        cut: with more tokens than the model takes.
        abstained: without a label.
    """

    rows: int = 0
    bad: int = 0
    empty: int = 0
    first_empty: str | None = None
    cut: int = 0
    abstained: int = 0

    def __add__(self, later: Counts) -> Counts:
        numbers = ("rows", "bad", "empty", "cut", "abstained")
        sums = {name: getattr(self, name) + getattr(later, name) for name in numbers}
        return Counts(**sums, first_empty=self.first_empty or later.first_empty)


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        identity: digests of what the results depend on, by name.
        portions: how many are kept.
        results_bytes, bad_bytes: what of the two files belongs to these.
        results_sha256, bad_sha256: of that, in hexadecimal.
        digest: of the rows in them; empty where rows cannot change.
        complete: whether these are all.
    """

    identity: dict[str, str]
    portions: int = 0
    results_bytes: int = 0
    bad_bytes: int = 0
    results_sha256: str = ""
    bad_sha256: str = ""
    digest: str = ""
    counts: Counts = field(default_factory=Counts)
    complete: bool = False


def identity_of(decisive: dict[str, str]) -> dict[str, str]:
    """Return digests of what the results of a run depend on, for `Journal.beside`."""
    return {name: hashlib.sha256(f"{_FORMAT} {value}".encode()).hexdigest() for name, value in decisive.items()}


class Journal:
    """The state of one run, and the files that it speaks of."""

    def __init__(self, folder: Path, output: Path, sink: Sink, state: RunState) -> None:
        self._folder, self._output, self._sink = folder, output, sink
        # What gets the output's name in the end.
        self._final = folder / (_RESULTS if sink.assemble is None else _WHOLE)
        self.state = state
        # Of what belongs to the state, by the file's name.
        self._sha256: dict[str, hashlib._Hash] = {}

    @classmethod
    @contextmanager
    def beside(cls, output: Path, identity: dict[str, str], sink: Sink) -> Iterator[Journal]:
        """Yield the journal of the run to an output; goes on with an interrupted one that had the same identity.

        Raises:
            SettingError: another run to the same output is going on.
            DataError: nothing can be written beside it.
            Interrupted: for a Ctrl-C inside the `with` statement.
        """
        output = output.resolve()
        folder = output.with_name(f".{output.name}.rehead-run")
        lock = FileLock(folder / "lock")
        try:
            folder.mkdir(exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise SettingError(f"another run writes to {output}; wait for it, or give another file with -o") from None
        except OSError as error:
            raise _unwritable(output, error) from error
        journal = cls(folder, output, sink, RunState(identity))
        try:
            journal._go_on(identity)
            yield journal
        except (KeyboardInterrupt, RheadError) as error:
            if not journal.state.portions:
                shutil.rmtree(folder, ignore_errors=True)
            if not isinstance(error, KeyboardInterrupt):
                raise
            rows = f"{journal.state.counts.rows:,} rows are kept, and the same command goes on from there"
            raise Interrupted(f"interrupted; {rows if journal.state.portions else 'nothing was written'}") from None
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()

    def _go_on(self, identity: dict[str, str]) -> None:
        """Take up what is there, if that is of the same run."""
        try:
            saved = files.read_with_checksum(self._folder / _STATE)
            state = RunState(**saved | {"counts": Counts(**saved["counts"])})
        except FileNotFoundError:
            self.begin_anew()
            return
        except (OSError, ValueError, TypeError, KeyError):
            self.begin_anew("its state cannot be read")
            return
        others = [name for name in identity if state.identity.get(name) != identity[name]]
        if others:
            self.begin_anew(f"its {others[0]} was another")
        elif not self._is_there(state):
            self.begin_anew("its results are gone or damaged")
        else:
            self.state = state
            progress.say(f"an interrupted run to {self._output} goes on behind {state.counts.rows:,} rows")

    def _is_there(self, state: RunState) -> bool:
        """Return whether all that a state speaks of is as it was written; what was written after it is cut off."""
        if state.complete and not (self._folder / _RESULTS).is_file():
            return self._output.is_file()
        for name, size, sha256 in (
            (_RESULTS, state.results_bytes, state.results_sha256),
            (_BAD, state.bad_bytes, state.bad_sha256),
        ):
            path = self._folder / name
            if not path.is_file() and name == _BAD and state.complete:
                continue  # it has its own name already
            if not path.is_file() or path.stat().st_size < size:
                return False
            os.truncate(path, size)
            with path.open("rb") as file:
                self._sha256[name] = hashlib.file_digest(file, "sha256")
            if self._sha256[name].hexdigest() != sha256:
                return False
        return True

    def begin_anew(self, why: str | None = None) -> None:
        """Forget all that is kept; says why, if there was anything."""
        if why:
            progress.warn(f"an interrupted run to {self._output} begins anew: {why}")
        with self._writing():
            (self._folder / _STATE).unlink(missing_ok=True)
            (self._folder / _RESULTS).write_bytes(self._sink.beginning)
            (self._folder / _BAD).write_bytes(b"")
        self._sha256 = {_RESULTS: hashlib.sha256(self._sink.beginning), _BAD: hashlib.sha256()}
        self.state = RunState(self.state.identity, results_bytes=len(self._sink.beginning))

    def keep(self, results: bytes, bad: bytes, counts: Counts, digest: str) -> None:
        """Append a portion with its counts; when this returns it is on the disk."""
        with self._writing(), deferred():
            for name, content in ((_RESULTS, results), (_BAD, bad)):
                if content:
                    with (self._folder / name).open("ab") as file:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                    self._sha256[name].update(content)
            self._set(
                replace(
                    self.state,
                    portions=self.state.portions + 1,
                    results_bytes=self.state.results_bytes + len(results),
                    bad_bytes=self.state.bad_bytes + len(bad),
                    results_sha256=self._sha256[_RESULTS].hexdigest(),
                    bad_sha256=self._sha256[_BAD].hexdigest(),
                    digest=digest,
                    counts=self.state.counts + counts,
                )
            )

    def finish(self) -> None:
        """Give the output its name, and that of the rows that could not be read; removes an older one of these."""
        with self._writing(), deferred():
            # A file that a run which was cut off here has assembled already has no checksum, and is made again.
            if self._sink.assemble is not None and (self._folder / _RESULTS).exists():
                self._sink.assemble(self._folder / _RESULTS, self._final)
                with self._final.open("rb+") as file:
                    os.fsync(file.fileno())
            if not self.state.complete:
                self._set(replace(self.state, complete=True))
            # A run that was cut off here may have moved either of them already.
            beside = bad_rows_file(self._output)
            if not self.state.bad_bytes:
                beside.unlink(missing_ok=True)
            elif (self._folder / _BAD).exists():
                (self._folder / _BAD).replace(beside)
            if self._final.exists():
                self._final.replace(self._output)

    def _set(self, state: RunState) -> None:
        files.write_with_checksum(self._folder / _STATE, asdict(state))
        self.state = state

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _unwritable(self._output, error) from error


def _unwritable(output: Path, error: OSError) -> DataError:
    return DataError(f"cannot write {output} ({error.strerror or error}); free some space or give another file with -o")
