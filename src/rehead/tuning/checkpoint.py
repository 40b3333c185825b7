"""The state of a training run on disk, so that one that was killed goes on where it stood.

One safetensors file, replaced whole: weights, the best weights so far, the optimizer's moments, the random state,
and as metadata how far the run had come and what it was begun with.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rehead import files
from rehead.errors import SettingError


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its state.

    Attributes:
        file: its folder is made when something is written.
        begun_with: a digest of all that decides the run's result: settings, data, versions.
        resume: whether to go on from what lies there, if anything does.
    """

    file: Path
    begun_with: str
    resume: bool

    def write(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Replaces the state on disk; until the last moment the one before it stays."""
        told = {"begun_with": self.begun_with, "progress": json.dumps(progress)}
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with files.new_file(self.file) as partial:
            save_file(contiguous, partial, metadata=told)

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and progress of the state on disk, or None where there is none, or none is wanted.

        Raises:
            SettingError: the run on disk was begun with something else.
        """
        if not self.resume or not self.file.is_file():
            return None
        try:
            with safe_open(self.file, framework="pt") as file:
                told = file.metadata()
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
                progress = json.loads(told["progress"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise SettingError(f"--resume: {self.file} is damaged; run again without --resume") from error
        if told["begun_with"] != self.begun_with:
            raise SettingError(
                f"--resume: the run in {self.file.parent} was begun with other settings, data or versions; "
                "give the same ones, or run without --resume"
            )
        return tensors, progress


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
