"""What a result is known by, so that one that was kept is not taken for that of other data, models or versions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rehead.data.examples import Examples
from rehead.models.loading import fingerprint


def digest(decides: Sequence[object], folders: Sequence[Path], parts: Sequence[Examples]) -> str:
    """Of settings, the weights in the folders of bases, the versions of libraries, and examples with their labels."""
    models = [fingerprint(folder) for folder in folders]
    versions = [version(package) for package in ("rehead", "torch", "transformers")]
    result = hashlib.sha256(repr([*decides, models, versions]).encode())
    for part in parts:
        result.update(repr(part.label_names).encode())
        contents = [picture.digest.hex() for picture in part.images or []] or part.texts
        result.update("\0".join(contents).encode())
        result.update(part.labels.tobytes())
    return result.hexdigest()[:16]
