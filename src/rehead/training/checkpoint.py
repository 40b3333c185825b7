"""Keep the state of a fit on disk, beside its output, so that it goes on after Ctrl-C or a crash.

Of each training one safetensors file, replaced whole: weights, the best weights so far, the optimizer's moments, the
random state, and as metadata how far the run had come and the checksum of all that.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rehead.runtime import files, progress
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
        """Keep state beside the output folder, which itself appears whole or not at all.

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
    """Make the folder, and hold its lock."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(timeout=0)
    except Timeout:
        raise SettingError(f"another fit to {output} is running; wait for it, or give another `output`") from None
    except OSError as error:
        raise SettingError(f"`output={str(output)!r}`: nothing can be written beside it ({error.strerror})") from error
    with held:
        yield


@dataclass(frozen=True)
class Checkpoint:
    """Where a run keeps its state.

    Attributes:
        folder: of the run; made when something is written.
        tune: the strategy, in the file's name.
        begun_with: a digest of all that decides the run's result: settings, data, versions. It is in the file's name
            too, so that another run to the same output leaves this one's state alone.
        resume: whether to go on from what lies there, if anything does.
    """

    folder: Path
    tune: str
    begun_with: str
    resume: bool

    @property
    def file(self) -> Path:
        return self.folder / f"{self.tune}-{self.begun_with[:16]}.safetensors"

    def write(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Replace the state on disk; until the last moment the one before it stays."""
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.new_file(self.file) as partial:
            done = json.dumps(progress)
            save_file(contiguous, partial, metadata={"progress": done, "sha256": _sha256(contiguous, done)})

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and progress of the state on disk, or None where there is none, or none is wanted.

        Raises:
            SettingError: only runs that were begun with something else are there.
        """
        if not self.resume:
            return None
        if not self.file.is_file():
            if any(self.folder.glob(f"{self.tune}-*.safetensors")):
                raise SettingError(
                    f"`resume=True`: the run in {self.folder} was begun with other settings, data or versions; "
                    "give the same ones, or run without `resume=True`"
                )
            return None
        try:
            with safe_open(self.file, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
                if metadata["sha256"] != _sha256(tensors, metadata["progress"]):
                    raise ValueError("its checksum does not match")
                progress = json.loads(metadata["progress"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise SettingError(f"`resume=True`: {self.file} is damaged; run again without `resume=True`") from error
        return tensors, progress


def _sha256(tensors: Mapping[str, Tensor], progress: str) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of contiguous tensors, and of the progress."""
    digest = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
