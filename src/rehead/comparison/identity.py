"""The identity of a result, so that a kept one is not taken for that of other data, models or versions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rehead.data.examples import Examples
from rehead.models.loading import digest_of_weights


def digest(settings: Sequence[object], folders: Sequence[Path], parts: Sequence[Examples]) -> str:
    """Return 16 hexadecimal digits of settings, the weights in folders of bases, library versions, and examples."""
    models = [digest_of_weights(folder) for folder in folders]
    versions = [version(package) for package in ("rehead", "torch", "transformers")]
    result = hashlib.sha256(repr([*settings, models, versions]).encode())
    for part in parts:
        result.update(repr(part.label_names).encode())
        contents = [picture.digest.hex() for picture in part.images or []] or part.texts
        result.update("\0".join(contents).encode())
        result.update(part.labels.tobytes())
    return result.hexdigest()[:16]
