"""Ctrl-C where it must not tear a step in two, or be taken for another error.

The rule for a command of several trainings: the first Ctrl-C inside a training ends that one, and what it has learned
is kept where the command can use it; Ctrl-C anywhere else, and every later one, ends the command.
"""

from __future__ import annotations

import copy
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Copied = TypeVar("_Copied")
# Set once a block has acted upon Ctrl-C; None outside `first_ctrl_c_only`.
_acted_upon: threading.Event | None = None


@contextmanager
def first_ctrl_c_only() -> Iterator[None]:
    """Let blocks inside this one act upon the first Ctrl-C only; a later one is a KeyboardInterrupt wherever it comes.

    It can decorate a function.
    """
    global _acted_upon
    before, _acted_upon = _acted_upon, _acted_upon or threading.Event()
    try:
        yield
    finally:
        _acted_upon = before


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Set the event that is yielded at Ctrl-C inside the block, so that no step is torn; a second one ends the block.

    A process that ignores Ctrl-C, as a shell's background jobs do, goes on ignoring it.

    Raises:
        KeyboardInterrupt: at the end of a block that raised nothing itself, as where Ctrl-C came after the block had
            looked at the event for the last time.
    """
    if _acted_upon is not None and _acted_upon.is_set():
        yield threading.Event()
        return
    with _asked() as asked:
        try:
            yield asked
        finally:
            if _acted_upon is not None and asked.is_set():
                _acted_upon.set()


@contextmanager
def deferred() -> Iterator[None]:
    """Raise a Ctrl-C inside the block at its end.

    For calls into compiled code that turn a KeyboardInterrupt from within into an error of their own, which reads as if
    the file were damaged.

    Raises:
        KeyboardInterrupt: at the end of the block.
    """
    with _asked() as asked:
        try:
            yield
        except Exception:
            if asked.is_set():
                raise KeyboardInterrupt from None
            raise


def deepcopy(original: _Copied, known: dict[int, Any] | None = None) -> _Copied:
    """Copy as `copy.deepcopy` does, but let Ctrl-C end it only afterwards: within, copyreg ignores what is raised.

    Args:
        known: the memo of `copy.deepcopy`: by the id of an object, what to take as its copy.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed meanwhile.
    """
    with deferred():
        return copy.deepcopy(original, known)


@contextmanager
def _asked() -> Iterator[threading.Event]:
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
