"""The one progress bar, and the one place that says something to the person at the terminal.

Both go to stderr, so that stdout holds results only. Silent until the command line, or a user of the
Python API, asks for it with `show(True)`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rehead.runtime.wording import escaped

_shown = False
_words: Callable[[str], str] = str


def show(on: bool, words: Callable[[str], str] = str) -> None:
    """Turn progress bars and messages on or off for this process.

    Args:
        words: rewrites each message for whoever reads it; see `rehead.runtime.errors` for what is rewritten.
    """
    global _shown, _words
    _shown, _words = on, words


def say(message: str) -> None:
    """Print one line to stderr, if progress is shown."""
    _print(message)


def warn(message: str) -> None:
    """Print one warning to stderr, if progress is shown."""
    _print(f"warning: {message}", "yellow")


def _print(message: str, style: str | None = None) -> None:
    if _shown:
        from rich.console import Console

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(escaped(_words(message)), style=style, markup=False)


@contextmanager
def bar(what: str | None, total: int) -> Iterator[Callable[[int], None]]:
    """Yields `advance(n)`; draws `what`, the share done and an estimate of the time left.

    Args:
        what: what is being worked on, in a few words; None draws nothing.
        total: the number of steps, tokens or bytes that make up the whole.
    """
    if not _shown or what is None:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps Transformers from drawing bars and reports of its own inside the block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
