"""Write a classifier's folder, prove that what was written scores as what is in memory, and only then name it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import save_file

from rehead.artifact.artifact import REFERENCE, Artifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import MANIFEST, require_unchanged, write_manifest
from rehead.runtime import files
from rehead.runtime.errors import ArtifactError, first_line

if TYPE_CHECKING:
    from rehead.data.images import ImageInput

# Memory and disk hold the same float32 numbers and go through the same operations; what is left is rounding.
_TOLERANCE = 1e-5


class Sidecar(Protocol):
    """What lies beside a classifier in its folder, and is read by others than prediction."""

    def save(self, folder: Path) -> None:
        """Write its files."""
        ...


def save_artifact(
    artifact: Artifact,
    folder: Path,
    documents: Mapping[str, str],
    sample: Sequence[str] | Sequence[ImageInput],
    sidecars: Sequence[Sidecar] = (),
) -> None:
    """Write the folder, load it again, compare scores, and only then give it its name.

    Args:
        documents: further text files by name (README.md, report.html).
        sample: texts or images on which the scores are compared.
        sidecars: what else is written into the folder. A loaded classifier's are copied with it.

    Raises:
        ArtifactError: the folder must not or cannot be written, or the reloaded scores differ.
    """
    folder = folder.resolve()
    require_replaceable(folder)
    expected = artifact.scores(sample).probabilities
    with new_folder(folder) as partial:
        if artifact.folder is None:
            artifact.write(partial)
            if artifact.reference:
                save_file(artifact.reference_arrays, partial / REFERENCE)
        else:  # all that lies in the folder that it was loaded from is copied, as it was saved there
            require_unchanged(artifact.folder, artifact.manifest.weights_sha256, artifact.manifest.files)
            shutil.copytree(artifact.folder, partial, dirs_exist_ok=True)
        for sidecar in sidecars:
            sidecar.save(partial)
        write_documents(partial, documents)
        if not (card := partial / "README.md").exists():  # as of what was not tested
            from rehead.evaluation.model_card import render_model_card

            content = {"what": artifact.takes, **artifact.entries, **(artifact.manifest.metrics or {})}
            card.write_text(render_model_card(content, artifact.transformers_class), encoding="utf-8")
        write_manifest(partial, artifact.manifest.to_json())
        _verify(partial, sample, expected)


def require_replaceable(folder: Path, mark: str = MANIFEST, what: str = "not a rehead model") -> None:
    """Check that something may be saved as `folder`: it is new, empty or an older one of its kind, and writable.

    Args:
        mark: a file by which one of its kind is known; a saved model by default.
        what: a folder without it is.

    Raises:
        ArtifactError: it is something else, or it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder} is a file; give another output folder with -o")
    try:
        if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).is_file():
            raise ArtifactError(f"{folder} exists and is {what}, so it is not overwritten; give another folder with -o")
        parent = next(parent for parent in folder.resolve().parents if parent.exists())
        if folder.exists() and not os.access(folder, os.W_OK):
            raise PermissionError(None, "it is read-only")
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise ArtifactError(
            f"cannot write to the output folder {folder} ({error.strerror or error}); give another with -o"
        ) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Do as `files.new_folder`; what the system refuses is an ArtifactError."""
    try:
        with files.new_folder(folder) as partial:
            yield partial
    except Exception as error:
        # What safetensors makes of an OSError, and tokenizers, whose exceptions have no type of their own.
        if not isinstance(error, OSError | SafetensorError) and "(os error " not in str(error):
            raise
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ArtifactError(
            f"cannot write {folder} ({reason}); free some space or give another folder with -o"
        ) from error


def write_documents(folder: Path, documents: Mapping[str, str]) -> None:
    """Write text files by name."""
    for name, content in documents.items():
        (folder / name).write_text(content, encoding="utf-8")


def _verify(folder: Path, sample: Sequence[str] | Sequence[ImageInput], expected: npt.NDArray[np.float64]) -> None:
    reloaded = load_artifact(folder).scores(sample).probabilities
    difference = float(np.abs(reloaded - expected).max()) if sample else 0.0
    if not difference <= _TOLERANCE:
        raise ArtifactError(
            f"the saved classifier's scores differ from those in memory by {difference:.2g}, so it was not kept; "
            "this is a fault of rehead, please report it with the base's name"
        )
