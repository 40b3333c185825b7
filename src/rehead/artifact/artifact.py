"""What a saved classifier is on disk, and the proof that it was saved right.

A folder with `model.safetensors`, `config.json`, tokenizer files, `rehead.json`, `reference.safetensors`,
`fingerprint.safetensors`, `README.md` and `report.html`, and a folder `adapter` where low-rank adapters were trained.
With `last` and `cls` pooling it is a Transformers sequence-classification model as it stands; with `mean` and `both`
the backbone is, and the head lies beside it in the same file. A classifier of n-grams alone has neither `config.json`
nor a tokenizer: `model.safetensors` holds its regression.

Before the folder gets its name it is loaded again, and its scores on a few texts must be those in memory.
"""

from __future__ import annotations

import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn

from rehead.artifact.manifest import DESCRIPTION, read
from rehead.artifact.predictor import FeatureScoring, NgramPredictor, Predictor, Scores
from rehead.data.pictures import Picture
from rehead.drift.reference import ReferenceProfile
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.decisions import DecisionRule, saved_rule
from rehead.models.backbone import Base
from rehead.models.config_checks import require_harmless
from rehead.models.heads import Head, build, is_family_head, set_linear
from rehead.models.loading import load_folder
from rehead.models.ngrams import SKETCH_WIDTH
from rehead.models.reading import TEXTS_OF_NO_MEANING, sample_for, save_reader
from rehead.models.registry import TFIDF
from rehead.models.vision import VisionBase
from rehead.runtime import files, progress
from rehead.runtime.errors import ArtifactError, RheadError, first_line
from rehead.training.lora import Adapters

WEIGHTS = "model.safetensors"
_REFERENCE = "reference.safetensors"
_HEAD_PREFIX = "rehead_head."
ADAPTER = "adapter"

# What code that expects something else in a file raises.
_OF_OTHERS = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, RuntimeError)
# Memory and disk hold the same float32 numbers and go through the same code; what is left is rounding.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Reference:
    """What later evaluations compare with: the baselines, and which texts the training saw.

    Attributes:
        seen: (n,) int64, fingerprints (`rehead.data.duplicates`) of training and validation texts.
    """

    baselines: Baselines
    seen: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Artifact(ABC):
    """A trained classifier, with all that is saved of it.

    Attributes:
        description: the content of rehead.json: labels, pool, depth, max_length, temperature, metrics, ...
        reference: None for a classifier that was trained without an evaluation.
        fingerprint: of what it was tested on; None likewise, and for one from before there were fingerprints.
    """

    description: dict[str, Any]
    reference: Reference | None
    fingerprint: ReferenceProfile | None = None

    @property
    @abstractmethod
    def takes(self) -> Literal["texts", "images"]:
        """What it classifies."""

    @property
    @abstractmethod
    def width(self) -> int:
        """How many features of an input its predictor can tell."""

    @property
    @abstractmethod
    def sample(self) -> list[str] | list[Picture]:
        """Inputs of no meaning, to compare what two copies of it make of them."""

    @abstractmethod
    def predictor(
        self, *, steady: bool = False, serving: bool = False, label: str | None = "predicting"
    ) -> FeatureScoring:
        """What scores texts or images; for its arguments see `Predictor`."""

    @abstractmethod
    def served(self) -> tuple[Self, FeatureScoring]:
        """Return what scores in a server, and the classifier without what that has copied."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the weights, and whatever else a copy is made of, but no description, reference or fingerprint."""

    @property
    def beside(self) -> tuple[Baselines, float] | None:
        """The baseline that stands beside the head, and what its logits are multiplied by; None where none does."""
        return None

    @property
    def reference_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is saved of the reference."""
        assert self.reference is not None
        return {"seen": self.reference.seen, **self.reference.baselines.tensors()}

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.description["labels"])

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return bool(self.description["multilabel"])

    @property
    def rule(self) -> DecisionRule:
        """How labels are chosen."""
        return saved_rule(self.description.get("decisions"), self.labels, multilabel=self.multilabel)

    def scores(self, texts: Sequence[str] | Sequence[Picture]) -> Scores:
        """Probabilities of the texts or images, and how much of each text was cut off."""
        return self.predictor().scores(texts)


@dataclass(frozen=True, kw_only=True)
class NetworkArtifact(Artifact):
    """A cut backbone with a head.

    Attributes:
        adapters: saved in a folder `adapter` of their own; their effect is in the base's weights already.
    """

    base: Base
    head: Head
    adapters: Adapters | None = None

    @property
    def takes(self) -> Literal["texts", "images"]:
        return "images" if isinstance(self.base, VisionBase) else "texts"

    @property
    def width(self) -> int:
        return self.head.linear.in_features

    @property
    def sample(self) -> list[str] | list[Picture]:
        return sample_for(self.base)

    @property
    def beside(self) -> tuple[Baselines, float] | None:
        factor = self.description["baseline_factor"]
        if not factor:
            return None
        if self.reference is None:
            raise ArtifactError(f"{_REFERENCE} is missing, which this classifier's scores rest on; train or copy again")
        return self.reference.baselines, factor

    def predictor(self, *, steady: bool = False, serving: bool = False, label: str | None = "predicting") -> Predictor:
        settings = self.description
        return Predictor(
            self.base,
            self.head,
            settings["max_length"],
            settings["long"],
            beside=self.beside,
            multilabel=self.multilabel,
            views=settings["views"] if settings["average_views"] else 1,
            steady=steady,
            serving=serving,
            label=label,
        )

    def served(self) -> tuple[Self, Predictor]:
        predictor = self.predictor(serving=True, label=None)
        return replace(self, base=predictor.base), predictor

    def write(self, folder: Path) -> None:
        base, head = self.base, self.head
        config = base.config
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: i for i, label in enumerate(self.labels)}
        config.problem_type = f"{'multi' if self.multilabel else 'single'}_label_classification"
        with progress.quiet_transformers():
            if base.family_head(head.pooling) is not None:
                base.model.to("cpu").save_pretrained(folder, max_shard_size="1TB")
            else:
                config.architectures = [type(base.backbone).__name__]
                config.save_pretrained(folder)
                tensors = {**base.backbone.state_dict(), **_head_tensors(head)}
                contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
                save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})
            save_reader(base, folder, self.description["max_length"])
        if self.adapters:
            self.adapters.save(folder / ADAPTER)


@dataclass(frozen=True, kw_only=True)
class NgramArtifact(Artifact):
    """A regression on word and character n-grams, without a network.

    Attributes:
        regression: one of the baselines of the reference itself; its logits are divided by the description's
            `temperature`.
    """

    regression: Baselines

    @property
    def takes(self) -> Literal["texts"]:
        return "texts"

    @property
    def width(self) -> int:
        return SKETCH_WIDTH

    @property
    def sample(self) -> list[str]:
        return TEXTS_OF_NO_MEANING

    @property
    def reference_arrays(self) -> dict[str, npt.NDArray[Any]]:
        # Its baselines are the weights.
        assert self.reference is not None
        return {"seen": self.reference.seen}

    def predictor(
        self, *, steady: bool = False, serving: bool = False, label: str | None = "predicting"
    ) -> NgramPredictor:
        return NgramPredictor(self.regression, self.description["temperature"], label)

    def served(self) -> tuple[Self, NgramPredictor]:
        return self, self.predictor(label=None)

    def write(self, folder: Path) -> None:
        save_arrays(self.regression.tensors(), folder / WEIGHTS)


def require_replaceable(folder: Path, mark: str = DESCRIPTION, what: str = "not a rehead model") -> None:
    """Checks that something may be saved as `folder`: it is new, empty or an older one of its kind, and writable.

    Args:
        mark: a file that tells one of its kind; a saved model by default.
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


def save(
    artifact: Artifact, folder: Path, documents: Mapping[str, str], sample: Sequence[str] | Sequence[Picture]
) -> None:
    """Writes the folder, loads it again, compares scores, and only then gives it its name.

    Args:
        documents: further text files by name (README.md, report.html).
        sample: texts or images on which the scores are compared.

    Raises:
        ArtifactError: the folder must not or cannot be written, or the reloaded scores differ.
    """
    folder = folder.resolve()
    require_replaceable(folder)
    expected = artifact.scores(sample).probabilities
    with new_folder(folder) as partial:
        _write(artifact, partial, documents)
        _verify(partial, sample, expected)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """As `files.new_folder`; what the system refuses is an ArtifactError."""
    try:
        with files.new_folder(folder) as partial:
            yield partial
    except OSError as error:
        raise ArtifactError(
            f"cannot write {folder} ({error.strerror or error}); give another folder with -o"
        ) from error


def write_words(folder: Path, description: Mapping[str, Any], documents: Mapping[str, str]) -> None:
    """Writes rehead.json, with the weights' checksum added, and further text files by name."""
    told = {**description, "weights_sha256": files.sha256_of(folder / WEIGHTS)}
    (folder / DESCRIPTION).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, content in documents.items():
        (folder / name).write_text(content, encoding="utf-8")


def require_weights(folder: Path, description: Mapping[str, Any]) -> None:
    """Raises ArtifactError where the weights are not those that rehead.json was written with."""
    weights = folder / WEIGHTS
    if not weights.is_file() or files.sha256_of(weights) != description["weights_sha256"]:
        raise ArtifactError(f"{weights} is not the file that was saved (SHA-256 differs); train or copy again")


def load(folder: Path) -> Artifact:
    """Loads a saved classifier.

    Raises:
        ArtifactError: the folder is not a saved classifier, its weights are not those that were saved, or something in
            it is not to be trusted.
    """
    description = read(folder)
    require_weights(folder, description)
    loaded: Artifact
    try:
        require_harmless(folder)
        if description["base"] == TFIDF:
            loaded = _load_ngrams(folder, description)
        else:
            loaded = _load_network(folder, description)
        if fingerprint := ReferenceProfile.load(folder):
            fingerprint.require_for(len(loaded.labels), loaded.width, folder)
            loaded = replace(loaded, fingerprint=fingerprint)
        _ = loaded.rule, loaded.beside
    except ArtifactError:
        raise
    except (RheadError, SafetensorError, *_OF_OTHERS) as error:
        raise ArtifactError(f"{folder} cannot be loaded ({first_line(error)}); train or copy again") from error
    return loaded


def _write(artifact: Artifact, folder: Path, documents: Mapping[str, str]) -> None:
    artifact.write(folder)
    if artifact.reference:
        save_arrays(artifact.reference_arrays, folder / _REFERENCE)
    if artifact.fingerprint:
        artifact.fingerprint.save(folder)
    write_words(folder, artifact.description, documents)


def _verify(folder: Path, sample: Sequence[str] | Sequence[Picture], expected: npt.NDArray[np.float64]) -> None:
    reloaded = load(folder).scores(sample).probabilities
    difference = float(np.abs(reloaded - expected).max()) if sample else 0.0
    if not difference <= _TOLERANCE:
        raise ArtifactError(
            f"the saved classifier's scores differ from those in memory by {difference:.2g}, so it was not kept; "
            "this is a fault of rehead, please report it with the base's name"
        )


def _load_network(folder: Path, description: dict[str, Any]) -> NetworkArtifact:
    pooling, n_classes = description["pool"], len(description["labels"])
    base = load_folder(folder, description["base"], n_classes, seed=0, trained_head=is_family_head(pooling))
    head = build(base, pooling, n_classes, seed=0)
    if base.family_head(pooling) is None:
        _load_head(folder / WEIGHTS, head)
        if not description["means_at_one_length"]:
            head.projection = nn.Identity()
    path = folder / _REFERENCE
    arrays = load_arrays(path) if path.is_file() else None
    reference = Reference(Baselines.from_tensors(arrays), arrays["seen"]) if arrays else None
    return NetworkArtifact(base=base, head=head, description=description, reference=reference)


def _load_ngrams(folder: Path, description: dict[str, Any]) -> NgramArtifact:
    regression = Baselines.from_tensors(load_arrays(folder / WEIGHTS))
    n_classes, width = len(description["labels"]), regression.features.width
    shapes = regression.weight.shape, regression.bias.shape, regression.multilabel
    if shapes != ((width, n_classes), (n_classes,), description["multilabel"]):
        raise ArtifactError(f"the regression in {folder / WEIGHTS} does not fit the labels in {DESCRIPTION}")
    path = folder / _REFERENCE
    reference = Reference(regression, load_arrays(path)["seen"]) if path.is_file() else None
    return NgramArtifact(regression=regression, description=description, reference=reference)


def _head_tensors(head: Head) -> dict[str, torch.Tensor]:
    return {f"{_HEAD_PREFIX}{name}": tensor for name, tensor in head.linear.state_dict().items()}


def _load_head(path: Path, head: Head) -> None:
    """Reads the linear layer of a head of rehead's own."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(f"{_HEAD_PREFIX}{name}") for name in ("weight", "bias")}
    if tensors["weight"].shape != head.linear.weight.shape:
        raise ArtifactError(f"the trained head in {path} does not fit the labels in {DESCRIPTION}")
    set_linear(head, tensors)
