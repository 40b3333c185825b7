"""Describe a trained classifier as it is saved and loaded: a network with a head, or a regression on n-grams.

On disk it is a folder with `model.safetensors`, `config.json`, tokenizer files, `rehead.json`, `reference.safetensors`,
`fingerprint.safetensors`, `README.md`, `report.html` and `metrics.jsonl`, the log of its training, and a folder
`adapter` where low-rank adapters were trained.
With `last` and `cls` pooling of texts it is a Transformers sequence-classification model as it stands, and an
image-classification model where the family's own class pools as the head does; otherwise the backbone is a Transformers
model, and the head lies beside it in the same file. A classifier of n-grams alone has neither `config.json` nor a
tokenizer: `model.safetensors` holds its regression.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from rehead.artifact.manifest import WEIGHTS, Manifest
from rehead.artifact.predictor import NgramPredictor, Predictor, Scores
from rehead.evaluation.decisions import DecisionRule, saved_rule
from rehead.models.families import SavedLayout
from rehead.models.heads import Head
from rehead.models.model_inputs import TEXTS_OF_NO_MEANING, inputs_of_no_meaning, save_preparation
from rehead.runtime import progress
from rehead.runtime.errors import ArtifactError, DataError

if TYPE_CHECKING:
    from rehead.data.examples import Examples
    from rehead.data.images import ImageInput
    from rehead.evaluation.baselines import Baselines
    from rehead.evaluation.evaluation import Predictions
    from rehead.models.adapters import Adapters
    from rehead.models.backbone import Backbone

REFERENCE = "reference.safetensors"
ADAPTER = "adapter"
# From this many inputs on a progress bar is worth the time that importing it takes.
_MANY = 32


@dataclass(frozen=True)
class Reference:
    """What later evaluations compare with: the baselines, and which texts the training saw.

    Attributes:
        arrays: of both, as they are saved.
    """

    arrays: dict[str, npt.NDArray[Any]]

    @classmethod
    def of(cls, learned: Baselines, seen: npt.NDArray[np.int64]) -> Reference:
        """Return the reference of baselines and fingerprints of texts; see `seen`."""
        reference = cls({"seen": seen, **learned.tensors()})
        reference.__dict__["baselines"] = learned  # where `cached_property` looks for it
        return reference

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """(n,) int64, fingerprints (`rehead.data.duplicates`) of training and validation texts."""
        return self.arrays["seen"]

    @cached_property
    def baselines(self) -> Baselines:
        """The baselines; made when they are first asked for, because most predictions need none."""
        from rehead.evaluation.baselines import Baselines

        return Baselines.from_tensors(self.arrays)


@dataclass(frozen=True, kw_only=True)
class Artifact(ABC):
    """A trained classifier, with all that is saved of it.

    Attributes:
        reference: None for a classifier that was trained without an evaluation.
        folder: where it was loaded from; None for one that was trained in this process. Saving it elsewhere copies what
            lies there, also what nothing here reads.
    """

    manifest: Manifest
    reference: Reference | None
    folder: Path | None = None

    @property
    @abstractmethod
    def takes(self) -> Literal["texts", "images"]:
        """What it classifies."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The number of features of an input that its predictor can return."""

    @property
    @abstractmethod
    def sample(self) -> list[str] | list[ImageInput]:
        """Inputs of no meaning, to compare what two copies of it make of them."""

    @abstractmethod
    def predictor(
        self, *, steady: bool = False, serving: bool = False, label: str | None = "predicting"
    ) -> Predictor | NgramPredictor:
        """Return what scores texts or images; for its arguments see `Predictor`."""

    @abstractmethod
    def served(self) -> tuple[Self, Predictor | NgramPredictor]:
        """Return what scores in a server, and the classifier without what that has copied."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the weights, and whatever else a copy is made of, but no manifest and no reference."""

    @property
    def beside(self) -> tuple[Baselines, float] | None:
        """The baseline that stands beside the head, and what its logits are multiplied by; None where none does."""
        return None

    @property
    def transformers_class(self) -> str | None:
        """The class of Transformers that the folder is a model of, with the same answers; None where there is none."""
        return None

    @property
    def reference_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is saved of the reference."""
        return self.reference.arrays if self.reference else {}

    @property
    def entries(self) -> dict[str, Any]:
        """Return the content of rehead.json."""
        return self.manifest.to_json()

    @property
    def labels(self) -> tuple[str, ...]:
        return self.manifest.labels

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return self.manifest.multilabel

    @property
    def rule(self) -> DecisionRule:
        """How labels are chosen."""
        return saved_rule(self.manifest.decisions, self.labels, multilabel=self.multilabel)

    def predictions(self, test: Examples, scores: Scores) -> Predictions:
        """Return scores of labelled examples beside what the baselines say of them, to be evaluated."""
        from rehead.data.duplicates import seen_before
        from rehead.evaluation.evaluation import Predictions

        seen = seen_before(test.inputs, self.reference.seen if self.reference else np.array([], dtype=np.int64))
        return Predictions(
            test=test,
            probabilities=scores.probabilities,
            tokens_cut=scores.tokens_cut,
            baselines=self.reference.baselines.predict(test) if self.reference else None,
            repeated=seen,
            near=seen,
            base=self.manifest.base,
        )

    def scores(self, inputs: Sequence[str] | Sequence[ImageInput]) -> Scores:
        """Return probabilities of the texts or images, and how much of each text was cut off.

        Raises:
            DataError: they are of the kind that the classifier is not for.
        """
        what = "texts" if any(isinstance(each, str) for each in inputs[:1]) else "images"
        if len(inputs) and what != self.takes:
            raise DataError(f"the classifier is for {self.takes}, and these are {what}; give {self.takes}")
        return self.predictor(label="predicting" if len(inputs) >= _MANY else None).scores(inputs)


@dataclass(frozen=True, kw_only=True)
class NetworkArtifact(Artifact):
    """The lower layers of a backbone with a head.

    Attributes:
        adapters: saved in a folder `adapter` of their own; their effect is in the backbone's weights already.
    """

    backbone: Backbone
    head: Head
    adapters: Adapters | None = None

    @property
    def takes(self) -> Literal["texts", "images"]:
        return self.backbone.takes

    @property
    def max_length(self) -> int:
        """The most tokens of a text, or of a window of it, that are read."""
        assert self.manifest.max_length  # None for n-grams alone
        return self.manifest.max_length

    @property
    def long(self) -> str:
        """What becomes of longer texts."""
        assert self.manifest.long
        return self.manifest.long

    @property
    def width(self) -> int:
        return self.head.linear.in_features

    @property
    def sample(self) -> list[str] | list[ImageInput]:
        return inputs_of_no_meaning(self.backbone)

    @property
    def beside(self) -> tuple[Baselines, float] | None:
        factor = self.manifest.baseline_factor
        if not factor:
            return None
        if self.reference is None:
            raise ArtifactError(f"{REFERENCE} is missing, which this classifier's scores rest on; train or copy again")
        return self.reference.baselines, factor

    @property
    def transformers_class(self) -> str | None:
        manifest, pooling = self.manifest, self.head.pooling
        if manifest.baseline_factor or manifest.average_views or manifest.long not in (None, "truncate"):
            return None
        if self.takes == "images":
            return "AutoModelForImageClassification" if self.backbone.published_layout(pooling) else None
        return "AutoModelForSequenceClassification" if self.backbone.family_head(pooling) else None

    def predictor(self, *, steady: bool = False, serving: bool = False, label: str | None = "predicting") -> Predictor:
        manifest = self.manifest
        return Predictor(
            self.backbone,
            self.head,
            self.max_length,
            self.long,
            beside=self.beside,
            multilabel=self.multilabel,
            views=(manifest.views or 1) if manifest.average_views else 1,
            steady=steady,
            serving=serving,
            label=label,
        )

    def served(self) -> tuple[Self, Predictor]:
        predictor = self.predictor(serving=True, label=None)
        return replace(self, backbone=predictor.backbone), predictor

    def write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        backbone, head = self.backbone, self.head
        config = backbone.config
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: i for i, label in enumerate(self.labels)}
        config.problem_type = f"{'multi' if self.multilabel else 'single'}_label_classification"
        with progress.quiet_transformers():
            if backbone.family_head(head.pooling) is not None:
                backbone.model.to("cpu").save_pretrained(folder, max_shard_size="1TB")
            else:
                layout = backbone.published_layout(head.pooling) or own_layout(backbone)
                config.architectures = [layout.architecture]
                config.save_pretrained(folder)
                save_file(_tensors(backbone, head, layout), folder / WEIGHTS, metadata={"format": "pt"})
            save_preparation(backbone, folder, self.max_length)
        if self.adapters:
            self.adapters.save(folder / ADAPTER)


@dataclass(frozen=True, kw_only=True)
class NgramArtifact(Artifact):
    """A regression on word and character n-grams, without a network.

    Attributes:
        regression: one of the baselines of the reference itself; its logits are divided by the manifest's temperature.
    """

    regression: Baselines

    @property
    def takes(self) -> Literal["texts"]:
        return "texts"

    @property
    def width(self) -> int:
        from rehead.models.ngrams import SKETCH_WIDTH

        return SKETCH_WIDTH

    @property
    def sample(self) -> list[str]:
        return TEXTS_OF_NO_MEANING

    @property
    def reference_arrays(self) -> dict[str, npt.NDArray[Any]]:
        # Its baselines are the weights.
        return {"seen": self.reference.seen} if self.reference else {}

    def predictor(
        self, *, steady: bool = False, serving: bool = False, label: str | None = "predicting"
    ) -> NgramPredictor:
        return NgramPredictor(self.regression, self.manifest.temperature, label)

    def served(self) -> tuple[Self, NgramPredictor]:
        return self, self.predictor(label=None)

    def write(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        save_file(self.regression.tensors(), folder / WEIGHTS)


def own_layout(backbone: Backbone) -> SavedLayout:
    """Return how a backbone is saved with a head beside it that no class of Transformers has."""
    architecture = getattr(backbone.model, "body_class", type(backbone.body).__name__)
    return SavedLayout(architecture, "", "rehead_head.")


def _tensors(backbone: Backbone, head: Head, layout: SavedLayout) -> dict[str, torch.Tensor]:
    # No such class has the pooler that some backbones come with, and no head sees it.
    body = {
        f"{layout.body}{name}": tensor
        for name, tensor in backbone.body.state_dict().items()
        if not (layout.body and name.startswith("pooler."))
    }
    linear = {f"{layout.linear}{name}": tensor for name, tensor in head.linear.state_dict().items()}
    return {name: tensor.cpu().contiguous() for name, tensor in {**body, **linear}.items()}
