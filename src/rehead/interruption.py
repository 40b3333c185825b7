"""Ctrl-C where it must not tear a step in two, or be taken for another error."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C inside the block sets the event that is yielded, so that a step is not torn; a second one breaks off.

    A process that ignores Ctrl-C, as a shell's background jobs do, goes on ignoring it.
    """
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def deferred() -> Iterator[None]:
    """Ctrl-C inside the block is raised at its end.

    For calls into compiled code that turn a KeyboardInterrupt from within into an error of their own, which reads as if
    the file were damaged.

    Raises:
        KeyboardInterrupt: at the end of the block.
    """
    with interruptible() as asked:
        try:
            yield
        finally:
            if asked.is_set():
                raise KeyboardInterrupt
