"""Ctrl-C where it must not tear a step in two, or be taken for another error."""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Copied = TypeVar("_Copied")


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Ctrl-C inside the block sets the event that is yielded, so that a step is not torn; a second one breaks off.

    A process that ignores Ctrl-C, as a shell's background jobs do, goes on ignoring it.

    Raises:
        KeyboardInterrupt: at the end of a block that raised nothing itself, as where it came after the block had looked
            at the event for the last time.
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
    if asked.is_set():
        raise KeyboardInterrupt


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
        except Exception:
            if asked.is_set():
                raise KeyboardInterrupt from None
            raise


def deepcopy(original: _Copied, known: dict[int, Any] | None = None) -> _Copied:
    """`copy.deepcopy`, which Ctrl-C interrupts only at its end: within, copyreg ignores whatever is raised.

    Args:
        known: what `copy.deepcopy` calls memo: by the id of an object, what to take as its copy.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile.
    """
    with deferred():
        return copy.deepcopy(original, known)
