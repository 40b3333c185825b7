"""What to tune and how, as the user asked for it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rehead import progress
from rehead.errors import Interrupted, RheadError, SettingError
from rehead.training import lora
from rehead.training.loop import Recipe

# Seconds that `auto` may take in all, unless told otherwise.
BUDGET = 60.0
# Five times as much, the Trainer's default, spoils a solved head: see the decision on training from one.
_LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Settings:
    """One training run.

    Attributes:
        base: see `rehead.bases.loading.locate`.
        tune: `head`, `last-K` with K blocks, `lora`, `full`, or `auto`.
        depth: number of blocks to keep, or "auto".
        pool: one of `rehead.heads.POOLINGS`, or "auto".
        max_length: longest text, or window of one, in tokens.
        long: what becomes of longer texts; see `rehead.bases.tokens.encode`.
        views: of each training image, how many are learned from; see `rehead.bases.pixels.Transform.pixels`.
        average_views: whether as many views of an image are averaged in validation and prediction, too.
        recipe: of the blocks' training; its learning rate is overridden by `learning_rate`.
        learning_rate: None for what suits the way of tuning.
        budget: seconds from the start of the fit; with `auto` no way of tuning begins that would take longer.
        seed: for everything random.
    """

    base: str
    tune: str
    depth: int | str
    pool: str
    max_length: int
    long: str
    views: int
    average_views: bool
    recipe: Recipe
    learning_rate: float | None
    budget: float
    seed: int

    def rate_for(self, way: str) -> float:
        """The learning rate for a way of tuning."""
        if self.learning_rate is not None:
            return self.learning_rate
        return lora.LEARNING_RATE if way == "lora" else _LEARNING_RATE


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

        The folder is there from the beginning, so that --resume finds it, whatever kills the block. When the block
        ends, it goes; where an error of the user's ended it, only if it was not there before.

        Raises:
            SettingError: there is nothing to resume, another fit to the same output is running, or the folder cannot be
                made.
            Interrupted: for a Ctrl-C inside the block.
        """
        output = output.resolve()
        folder = output.with_name(f".{output.name}.rehead-run")
        was_there = folder.is_dir()
        if resume and not was_there:
            raise SettingError(f"--resume: no interrupted fit to {output} is there; run without --resume")
        try:
            with _alone(folder, output):
                if was_there and not resume:
                    progress.warn(f"an interrupted fit to {output} begins anew; --resume would have gone on with it")
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
            raise Interrupted("interrupted; the same command with --resume goes on from what is kept") from None


@contextmanager
def _alone(folder: Path, output: Path) -> Iterator[None]:
    """Makes the folder, and holds its lock."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise SettingError(f"another fit to {output} is running; wait for it, or give another --output") from None
    except OSError as error:
        raise SettingError(f"--output {output}: nothing can be written beside it ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def trained_blocks(tune: str, depth: int) -> int:
    """How many of `depth` blocks are trained: 0 for `head`, K for `last-K`, all for `lora` and `full`."""
    if tune in ("head", "auto"):
        return 0
    if tune in ("lora", "full"):
        return depth
    return int(tune.removeprefix("last-"))


def check_tune(tune: str) -> None:
    """Raises SettingError where there is no such way of tuning."""
    if tune not in ("auto", "head", "lora", "full") and not re.fullmatch(r"last-[1-9]\d{0,3}", tune):
        raise SettingError(
            f"--tune must be auto, head, lora, full or last-K with a number for K (last-1, last-2, ...), not {tune!r}"
        )


def least_depth(tune: str) -> int:
    """How many blocks have to be kept at least."""
    return max(1, trained_blocks(tune, 1))
