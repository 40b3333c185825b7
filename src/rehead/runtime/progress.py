"""The one progress bar, and the one place that says something to the person at the terminal.

Both go to stderr, so that stdout holds results only. Silent until the command line, or a user of the
Python API, asks for it with `show(True)`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_shown = False


def show(on: bool) -> None:
    """Turns progress bars and messages on or off for this process."""
    global _shown
    _shown = on


def say(message: str) -> None:
    """Prints one line to stderr, if progress is shown."""
    if _shown:
        from rich.console import Console

        Console(stderr=True, highlight=False, soft_wrap=True).print(message, markup=False)


def warn(message: str) -> None:
    """Prints one warning to stderr, if progress is shown."""
    if _shown:
        from rich.console import Console

        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(f"warning: {message}", style="yellow", markup=False)


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
