"""Load a saved classifier, after checking that its folder holds what was saved and nothing that would be run."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from torch import nn

from rehead.artifact.artifact import REFERENCE, Artifact, NetworkArtifact, NgramArtifact, Reference, own_layout
from rehead.artifact.manifest import MANIFEST, WEIGHTS, Manifest, read_manifest, require_unchanged
from rehead.models.config_checks import read_json, require_harmless, require_modest
from rehead.models.families import SavedLayout
from rehead.models.heads import Head, build, is_family_head, set_linear
from rehead.models.loading import load_folder, load_for_inference
from rehead.runtime import files
from rehead.runtime.errors import ArtifactError, RheadError, first_line

# Files beside a classifier that prediction does not read; whoever does checks them (`require_sidecar`).
SIDECARS = ("fingerprint.safetensors",)

# What code that expects something else in a file raises.
_UNEXPECTED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, RuntimeError)


def load_artifact(folder: Path, *, with_transformers: bool = False, home: Path | None = None) -> Artifact:
    """Load a saved classifier.

    Args:
        with_transformers: whether its backbone is to be a model of Transformers, which can be exported; otherwise the
            layers of some families are plain ones, because importing Transformers takes longer than most predictions.
        home: the files may be links into this folder, as those of the hub's cache are; into `folder` alone if None.

    Raises:
        ArtifactError: the folder is not a saved classifier, its files are not those that were saved, or something in it
            is not to be trusted.
    """
    files.restore(folder)
    manifest = read_manifest(folder)
    try:
        require_harmless(folder, home)
        require_unchanged(folder, manifest.weights_sha256, manifest.files, without=SIDECARS)
        require_modest(folder)
        load = _load_network if manifest.has_network else _load_ngrams
        loaded = load(folder, manifest, with_transformers)
        _ = loaded.rule, loaded.beside
    except ArtifactError:
        raise
    except (RheadError, SafetensorError, *_UNEXPECTED) as error:
        raise ArtifactError(f"{folder} cannot be loaded ({first_line(error)}); train or copy again") from error
    return loaded


def require_sidecar(folder: Path, manifest: Manifest, name: str) -> None:
    """Check a file beside a classifier that `load_artifact` has not looked at, if it is there.

    Raises:
        ArtifactError: it is not the one that was saved.
    """
    if name in manifest.files and (folder / name).exists():
        require_unchanged(folder, manifest.weights_sha256, {name: manifest.files[name]}, without=(WEIGHTS,))


def _load_network(folder: Path, manifest: Manifest, with_transformers: bool) -> NetworkArtifact:
    assert manifest.pool
    pooling, n_classes = manifest.pool, len(manifest.labels)
    _require_labels(folder, manifest)
    load = load_folder if with_transformers else load_for_inference
    backbone = load(folder, manifest.base, n_classes, seed=0, trained_head=is_family_head(pooling))
    head = build(backbone, pooling, n_classes, seed=0)
    if backbone.family_head(pooling) is None:
        _load_head(folder / WEIGHTS, head, [backbone.published_layout(pooling), own_layout(backbone)])
        if not manifest.means_at_one_length:
            head.projection = nn.Identity()
    path = folder / REFERENCE
    reference = Reference(load_file(path)) if path.is_file() else None
    return NetworkArtifact(backbone=backbone, head=head, manifest=manifest, reference=reference, folder=folder)


def _load_ngrams(folder: Path, manifest: Manifest, with_transformers: bool) -> NgramArtifact:
    from rehead.evaluation.baselines import Baselines

    regression = Baselines.from_tensors(load_file(folder / WEIGHTS))
    n_classes, width = len(manifest.labels), regression.features.width
    shapes = regression.weight.shape, regression.bias.shape, regression.multilabel
    if shapes != ((width, n_classes), (n_classes,), manifest.multilabel):
        raise ArtifactError(f"the regression in {folder / WEIGHTS} does not fit the labels in {MANIFEST}")
    path = folder / REFERENCE
    reference = Reference.of(regression, load_file(path)["seen"]) if path.is_file() else None
    return NgramArtifact(regression=regression, manifest=manifest, reference=reference, folder=folder)


def _require_labels(folder: Path, manifest: Manifest) -> None:
    """Check that Transformers would give the classes the same names, where it has any."""
    config = read_json(folder / "config.json", finite=True)
    numbers = {name: int(i) for i, name in (config.get("id2label") or {}).items()}
    known = {name: i for i, name in enumerate(manifest.labels)}
    if any(other not in (None, {}, known) for other in (numbers, config.get("label2id"))):
        raise ArtifactError(
            f"{folder}: id2label or label2id in config.json and labels in {MANIFEST} differ, so answers would have "
            "each other's labels; train or copy the model again"
        )


def _load_head(path: Path, head: Head, layouts: list[SavedLayout | None]) -> None:
    """Read the linear layer of a head that is not loaded with its backbone, in the first of the layouts that is there.

    Earlier versions saved heads of images, too, in rehead's own.
    """
    with safe_open(path, framework="pt") as file:
        prefixes = [layout.linear for layout in layouts if layout and f"{layout.linear}weight" in set(file.keys())]
        tensors = {name: file.get_tensor(f"{prefixes[0]}{name}") for name in ("weight", "bias")}
    if tensors["weight"].shape != head.linear.weight.shape:
        raise ArtifactError(f"the trained head in {path} does not fit the labels in {MANIFEST}")
    set_linear(head, tensors)
