"""Keep a fit's state beside its output, so that it goes on after Ctrl-C or a crash."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rehead.runtime import progress
from rehead.runtime.errors import Interrupted, RheadError, SettingError


@dataclass(frozen=True)
class Resumption:
    """Where a run keeps its state, for the case that it is interrupted.

    Attributes:
        folder: belongs to fits to one output; one of them at a time.
        resume: whether to go on from what is there.
    """

    folder: Path
    resume: bool

    @classmethod
    @contextmanager
    def beside(cls, output: Path, resume: bool) -> Iterator[Resumption]:
        """State beside the output folder, which itself appears whole or not at all.

        The folder is there from the beginning, so that `resume` finds it, whatever kills the block. When the block
        ends, it goes; where an error of the user's ended it, only if it was not there before.

        Raises:
            SettingError: another fit to the same output is running, or the folder cannot be made.
            Interrupted: for a Ctrl-C inside the block.
        """
        output = output.resolve()
        folder = output.with_name(f".{output.name}.rehead-run")
        was_there = folder.is_dir()
        try:
            with _alone(folder, output):
                kept = [path for path in folder.iterdir() if path.name != "lock" and not path.name.startswith(".")]
                if resume and not kept:
                    progress.warn(f"`resume=True`: nothing is kept of an interrupted run to {output}; it begins anew")
                elif was_there and not resume:
                    progress.warn(
                        f"an interrupted fit to {output} begins anew; `resume=True` would have gone on with it"
                    )
                try:
                    yield cls(folder, resume)
                except RheadError:
                    if not was_there:
                        shutil.rmtree(folder, ignore_errors=True)
                    raise
                shutil.rmtree(folder, ignore_errors=True)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted("interrupted; run it again with `resume=True` to go on from what is kept") from None


@contextmanager
def _alone(folder: Path, output: Path) -> Iterator[None]:
    """Makes the folder, and holds its lock."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingError(f"another fit to {output} is running; wait for it, or give another `output`") from None
    except OSError as error:
        raise SettingError(f"`output={str(output)!r}`: nothing can be written beside it ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()
