"""The state of a training run on disk, so that one that was killed goes on where it stood.

One safetensors file, replaced whole: weights, the best weights so far, the optimizer's moments, the random state,
and as metadata how far the run had come and what it was begun with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rehead.runtime import files
from rehead.runtime.errors import SettingError


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
            save_file(contiguous, partial, metadata={"progress": json.dumps(progress)})

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
                progress = json.loads(metadata["progress"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise SettingError(f"`resume=True`: {self.file} is damaged; run again without `resume=True`") from error
        return tensors, progress
