"""Change files of a saved classifier, and let its checksums agree, as a careless tool or an attacker would."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from rehead import Classifier
from rehead.artifact.manifest import MANIFEST, WEIGHTS
from rehead.runtime.files import sha256_of


def describe(folder: Path, **changes: Any) -> None:
    """Change entries of rehead.json; `...` takes one away."""
    content = json.loads((folder / MANIFEST).read_text()) | {"sha256": ..., **changes}
    (folder / MANIFEST).write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def configure(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Change entries of another JSON file."""
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | changes))
    if (folder / MANIFEST).exists():  # a pretrained model has none
        seal(folder)


def seal(folder: Path) -> None:
    """Let the checksums in rehead.json be those of the files as they are now."""
    content = json.loads((folder / MANIFEST).read_text())
    hashes = {name: sha256_of(folder / name) for name in content.get("files", {}) if (folder / name).exists()}
    content.pop("sha256", None)
    if "files" in content:
        content["files"] = hashes
    if (folder / WEIGHTS).exists():
        content["weights_sha256"] = sha256_of(folder / WEIGHTS)
    (folder / MANIFEST).write_text(json.dumps(content))


def change_manifest(model: Classifier, **changes: Any) -> None:
    """Let a classifier in memory say something else of itself."""
    artifact = model.artifact_
    model._artifact = replace(artifact, manifest=replace(artifact.manifest, **changes))
