"""The inputs that a classifier was tested on, as numbers that are saved with it: no text, no word and no image.

All of it but the vocabulary is of texts that the classifier has not learned from, because it is surer of those that it
has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import SIDECARS, require_sidecar
from rehead.artifact.predictor import Scores
from rehead.data.images import ImageInput
from rehead.data.labels import most_probable
from rehead.drift import sampling
from rehead.drift.distribution import Distribution, add_up
from rehead.drift.observations import Observations
from rehead.drift.reduction import DIRECTIONS, Reduction
from rehead.drift.vocabulary import MAX_WORDS, Vocabulary
from rehead.runtime import files
from rehead.runtime.errors import ArtifactError, first_line

(FILE,) = SIDECARS
_FORMAT = 1
# Texts, drawn at random, of which the words are learned and looked up.
_LEARNED, _LOOKED_UP = 10_000, 4_000
# No file that `save` has written is larger.
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class ReferenceProfile:
    """The statistics that later inputs are compared with.

    Attributes:
        n: held-out inputs that the labels and the confidence are of.
        multilabel: whether an input may have several labels.
        label_shares: (n_classes,) float64, how often each label is predicted.
        mean_probabilities: (n_classes,) float64.
        confidence: highest probability of any label.
        length, unknown: characters, and share of unknown words; None for images.
        vocabulary: of the training texts; None for images.
        reduction: of the features that the head sees.
        features: (m, DIRECTIONS) float16, m at most 512, the reduced ones of held-out inputs.
    """

    n: int
    multilabel: bool
    label_shares: npt.NDArray[np.float64]
    mean_probabilities: npt.NDArray[np.float64]
    confidence: Distribution
    length: Distribution | None
    unknown: Distribution | None
    vocabulary: Vocabulary | None
    reduction: Reduction
    features: npt.NDArray[np.float16]

    @classmethod
    def of(
        cls,
        learned: Sequence[str] | Sequence[ImageInput],
        held_out: Sequence[str] | Sequence[ImageInput],
        probabilities: npt.NDArray[np.float64],
        features: npt.NDArray[np.float32],
        *,
        multilabel: bool,
    ) -> ReferenceProfile:
        """Describe what a classifier has learned from, and n inputs that it has not.

        Args:
            learned: texts or images; of at most 10,000 texts the words are read.
            probabilities: (n, n_classes) of the held-out inputs.
            features: (m, width) that the head saw of some held-out inputs.
        """
        reduction = Reduction.of(features)
        vocabulary = length = unknown = None
        read = _texts(sampling.drawn(held_out, _LOOKED_UP))
        if read:
            vocabulary = Vocabulary.of(_texts(sampling.drawn(learned, _LEARNED)))
            length, unknown = Distribution.of(_lengths(read)), Distribution.of(vocabulary.unknown_shares(read))
        return cls(
            n=len(probabilities),
            multilabel=multilabel,
            label_shares=_chosen(probabilities, multilabel).mean(axis=0, dtype=np.float64),
            mean_probabilities=probabilities.mean(axis=0, dtype=np.float64),
            confidence=Distribution.of(_confidence(probabilities)),
            length=length,
            unknown=unknown,
            vocabulary=vocabulary,
            reduction=reduction,
            features=reduction.reduced(features).astype(np.float16),
        )

    def observed(self, inputs: Sequence[str] | Sequence[ImageInput], scores: Scores) -> Observations:
        """Return what is compared of n inputs and their scores; the inputs themselves are not kept."""
        features = np.full((len(inputs), DIRECTIONS), np.nan, dtype=np.float32)
        if scores.features is not None:
            features = self.reduction.reduced(scores.features)
        length = unknown = None
        if self.vocabulary is not None:
            texts = _texts(inputs)
            length, unknown = _lengths(texts), self.vocabulary.unknown_shares(texts)
        labels = _chosen(scores.probabilities, self.multilabel)
        return Observations(labels, _confidence(scores.probabilities), features, length, unknown)

    def save(self, folder: Path) -> None:
        """Write `fingerprint.safetensors` in a folder, whole or not at all."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "format": np.array([_FORMAT], dtype=np.int64),
            "n": np.array([self.n], dtype=np.int64),
            "multilabel": np.array([self.multilabel], dtype=np.bool_),
            "label_shares": self.label_shares,
            "mean_probabilities": self.mean_probabilities,
            "center": self.reduction.center,
            "scale": self.reduction.scale,
            "features": self.features,
        }
        if self.vocabulary is not None:
            arrays["words"] = self.vocabulary.hashes
        for name in _DISTRIBUTIONS:
            distribution: Distribution | None = getattr(self, name)
            if distribution is not None:
                held = {**vars(distribution), "n": np.array([distribution.n], dtype=np.int64)}
                arrays |= {f"{name}.{part}": array for part, array in held.items()}
        with files.new_file(folder / FILE) as path:
            save_file(arrays, path)

    @classmethod
    def load(cls, folder: Path) -> ReferenceProfile | None:
        """Read what `save` has written; None where there is none, as in a folder from before there were profiles.

        Raises:
            ArtifactError: the file is damaged, or something else.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is too large")
            return cls._from(load_file(path))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} is damaged ({first_line(error)}); train or copy the model again") from error

    @classmethod
    def beside(cls, classifier: Artifact) -> ReferenceProfile | None:
        """Return the fingerprint in the folder that a classifier was loaded from; None where there is none.

        Raises:
            ArtifactError: it is damaged, or another classifier's.
        """
        if classifier.folder is None:
            return None
        require_sidecar(classifier.folder, classifier.manifest, FILE)
        fingerprint = cls.load(classifier.folder)
        if fingerprint is not None:
            fingerprint.require_for(len(classifier.labels), classifier.width, classifier.folder)
        return fingerprint

    @classmethod
    def _from(cls, arrays: dict[str, npt.NDArray[Any]]) -> ReferenceProfile:
        if (version := int(_one(arrays, "format", np.int64))) != _FORMAT:
            raise ValueError(f"it has format {version} and this rehead reads {_FORMAT}")
        of_texts = "words" in arrays
        shares = _array(arrays, "label_shares", np.float64, (None,))
        width = _array(arrays, "center", np.float32, (None,)).shape[0]
        result = cls(
            n=int(_one(arrays, "n", np.int64)),
            multilabel=bool(_one(arrays, "multilabel", np.bool_)),
            label_shares=shares,
            mean_probabilities=_array(arrays, "mean_probabilities", np.float64, shares.shape),
            confidence=_distribution(arrays, "confidence"),
            length=_distribution(arrays, "length") if of_texts else None,
            unknown=_distribution(arrays, "unknown") if of_texts else None,
            vocabulary=Vocabulary(_array(arrays, "words", np.uint64, (None,))) if of_texts else None,
            reduction=Reduction(arrays["center"], _array(arrays, "scale", np.float32, (width,))),
            features=_array(arrays, "features", np.float16, (None, DIRECTIONS)),
        )
        result._require_sound()
        return result

    def _require_sound(self) -> None:
        """Raise ValueError where a number is not what it can be."""
        shares = self.label_shares
        whole = bool(((shares >= 0) & (shares <= 1)).all()) if self.multilabel else add_up(shares)
        words = self.vocabulary.hashes if self.vocabulary else np.zeros(0, dtype=np.uint64)
        present = [distribution for name in _DISTRIBUTIONS if (distribution := getattr(self, name)) is not None]
        sound = {
            "n": self.n >= 1,
            "label_shares": len(shares) > 0 and whole,
            "mean_probabilities": bool(((self.mean_probabilities >= 0) & (self.mean_probabilities <= 1)).all()),
            "the distributions": all(distribution.is_sound for distribution in present),
            "words": len(words) <= MAX_WORDS and bool((words[1:] > words[:-1]).all()),
            "scale": self.reduction.is_sound,
            "features": 0 < len(self.features) <= sampling.MOST_FEATURES and bool(np.isfinite(self.features).all()),
        }
        wrong = [name for name, is_so in sound.items() if not is_so]
        if wrong:
            raise ValueError(f"{wrong[0]} cannot be right")

    def require_for(self, n_classes: int, width: int, folder: Path) -> None:
        """Raise ArtifactError where the profile is another classifier's than the one in the folder.

        Args:
            width: of the features that the head sees.
        """
        if len(self.label_shares) != n_classes or len(self.reduction.center) != width:
            raise ArtifactError(f"{folder / FILE} is another classifier's; train or copy the model again")


_DISTRIBUTIONS = ("confidence", "length", "unknown")


def _texts(inputs: Sequence[str] | Sequence[ImageInput]) -> list[str]:
    return [text for text in inputs if isinstance(text, str)]


def _lengths(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.array([len(text) for text in texts], dtype=np.float32)


def _chosen(probabilities: npt.NDArray[np.float64], multilabel: bool) -> npt.NDArray[np.bool_]:
    labels = most_probable(probabilities, multilabel)
    return labels > 0 if multilabel else labels[:, None] == np.arange(probabilities.shape[1])


def _confidence(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(probabilities.max(axis=1), dtype=np.float32)


def _array(
    arrays: dict[str, npt.NDArray[Any]], name: str, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> npt.NDArray[Any]:
    """Return the array of that name; raise ValueError where its type or shape is another. None is any length."""
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise ValueError(f"{name} is {array.dtype} {array.shape}")
    return array


def _one(arrays: dict[str, npt.NDArray[Any]], name: str, dtype: type[np.generic]) -> Any:
    return _array(arrays, name, dtype, (1,))[0]


def _distribution(arrays: dict[str, npt.NDArray[Any]], name: str) -> Distribution:
    return Distribution(
        _array(arrays, f"{name}.bounds", np.float32, (None,)),
        _array(arrays, f"{name}.shares", np.float64, (None,)),
        _array(arrays, f"{name}.centers", np.float64, (None,)),
        int(_one(arrays, f"{name}.n", np.int64)),
    )
