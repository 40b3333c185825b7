"""What to tune and how, as the user asked for it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from rehead import progress
from rehead.errors import SettingError
from rehead.tuning import lora
from rehead.tuning.loop import Recipe

# Seconds that `auto` may take in all, unless told otherwise.
BUDGET = 60.0
_LEARNING_RATE = 5e-5


@dataclass(frozen=True)
class Settings:
    """One training run.

    Attributes:
        base: see `rehead.bases.loading.locate`.
        tune: `head`, `last-K` with K blocks, `lora`, `full`, or `auto`.
        depth: number of blocks to keep, or "auto".
        pool: one of `rehead.heads.POOLINGS`, or "auto".
        max_length: longest text in tokens.
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
        folder: belongs to this run alone; made when there is something to keep.
        resume: whether to go on from what is there.
    """

    folder: Path
    resume: bool

    @classmethod
    def beside(cls, output: Path, resume: bool) -> Resumption:
        """State beside the output folder, which itself appears whole or not at all.

        Raises:
            SettingError: there is nothing to resume.
        """
        output = output.resolve()
        folder = output.with_name(f".{output.name}.rehead-run")
        if resume and not folder.is_dir():
            raise SettingError(f"--resume: no interrupted fit to {output} is there; run without --resume")
        if folder.is_dir() and not resume:
            progress.warn(f"an interrupted fit to {output} begins anew; --resume would have gone on with it")
            shutil.rmtree(folder)
        return cls(folder, resume)

    def forget(self) -> None:
        """Removes the state: the run is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
