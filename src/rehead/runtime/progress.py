"""Messages, warnings and progress bars: the library logs, and the command line shows.

Messages and warnings are records of Python's `logging`, of the logger `rehead`. Whoever uses the library from Python
sees its warnings there, and nothing else unless it is asked for, by the level of that logger or by `show(True)`. The
command line shows all of it on stderr, so that stdout holds results only.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from rehead.runtime.wording import escaped

if TYPE_CHECKING:
    from rich.console import Console

Input = TypeVar("Input")
Output = TypeVar("Output")

_logger = logging.getLogger("rehead")


def say(message: str) -> None:
    """Log a message: what is being done, or a choice that was made."""
    _logger.info(message)


def warn(message: str) -> None:
    """Log a warning: something was lost, guessed or left out."""
    _logger.warning(message)


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing inside the block: what is done there is done again, or is of no interest to anybody."""

    def none(record: logging.LogRecord) -> bool:
        return False

    _logger.addFilter(none)
    try:
        yield
    finally:
        _logger.removeFilter(none)


@contextmanager
def heard() -> Iterator[list[str]]:
    """Yield a list to which each warning of the block is added."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    _logger.addHandler(handler)
    try:
        yield warnings
    finally:
        _logger.removeHandler(handler)


def show(on: bool, words: Callable[[str], str] = str, level: int = logging.INFO) -> None:
    """Show messages, warnings and progress bars of this process on stderr, or leave them to `logging`.

    Args:
        on: whether they are shown.
        level: of logging, from which on messages are; bars are shown whatever it is.
        words: rewrites each message for whoever reads it; see `rehead.runtime.errors` for what is rewritten.
    """
    _shown.words = words
    _logger.removeHandler(_shown)
    if on:
        _logger.addHandler(_shown)
    _logger.setLevel(level if on else logging.NOTSET)
    # Some libraries give the root logger a handler when they first log, which would say each line again.
    _logger.propagate = not on


@contextmanager
def shown(verbose: int) -> Iterator[None]:
    """Show what happens inside the block, unless it is shown already.

    Args:
        verbose: 0 for nothing, 1 for progress bars and warnings, 2 for messages, too.
    """
    if not verbose or _shown in _logger.handlers:
        yield
        return
    level = _logger.level
    show(True, level=logging.INFO if verbose > 1 else logging.WARNING)
    try:
        yield
    finally:
        show(False)
        _logger.setLevel(level)


class _ShownOnStderr(logging.Handler):
    """A handler that prints a line for each record, above the progress bar where there is one."""

    words: Callable[[str], str] = str

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message, a warning's in yellow."""
        message = escaped(self.words(record.getMessage()))
        if record.levelno < logging.WARNING:
            _console().print(message, markup=False, soft_wrap=True)
        else:
            text = f"{record.levelname.lower()}: {message}"
            _console().print(text, markup=False, soft_wrap=True, style="yellow")


_shown = _ShownOnStderr()


@cache
def _console() -> Console:
    """Return the one console on stderr, which keeps lines and a bar from overwriting each other."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


# Whether a bar is being drawn: there is one at a time.
_drawn = False


@contextmanager
def bar(label: str | None, total: int) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`; meanwhile draw the label, the share done and an estimate of the time left.

    The bar goes when the block ends. Inside another bar, and where stderr is neither a terminal nor a notebook with
    widgets, none is drawn.

    Args:
        label: what is being worked on, in a few words; None draws nothing.
        total: the number of steps, tokens or bytes that make up the whole.
    """
    global _drawn
    if label is None or _drawn or _shown not in _logger.handlers or not (sys.stderr.isatty() or _draws_in_notebook()):
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    _drawn = True
    try:
        with Progress(*columns, console=_console(), transient=True) as progress:
            task = progress.add_task(label, total=total)
            yield lambda steps: progress.advance(task, steps)
    finally:
        _drawn = False


def mapped(work: Callable[[Input], Output], items: Sequence[Input], label: str) -> list[Output]:
    """Return what the work makes of each item, in order, several at a time; draw a bar meanwhile, see `bar`."""
    from concurrent.futures import ThreadPoolExecutor  # here, because every command imports this module

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, bar(label, len(items)) as advance:
        results = []
        for result in pool.map(work, items):
            results.append(result)
            advance(1)
    return results


def _draws_in_notebook() -> bool:
    return "ipykernel" in sys.modules and find_spec("ipywidgets") is not None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep Transformers, where something has imported it, from drawing bars and reports of its own inside the block."""
    if "transformers" not in sys.modules:
        yield
        return
    from transformers.utils import logging as theirs

    verbosity, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if bars:
            theirs.enable_progress_bar()
