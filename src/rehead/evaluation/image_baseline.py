"""What a vision model has to beat: colours and edges, with logistic regression.

Colours are a histogram of hue and saturation, with brightness; edges are histograms of oriented gradients (Dalal and
Triggs, CVPR 2005), by scikit-image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Examples
from rehead.data.images import ImageInput
from rehead.data.labels import Labels
from rehead.evaluation import likelihood
from rehead.runtime import progress

_SIDE = 96
_HUES, _SATURATIONS, _VALUES = 12, 4, 4
_INVERSE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
# The log odds of a class that no training example has, where a validation example has it.
_NEVER = -30.0
_REGRESSION = ("mean", "scale", "weight", "bias")


@dataclass(frozen=True)
class ImageBaselines:
    """The majority class, and the regression on features that are scaled to unit variance.

    Attributes:
        majority: the most frequent class id, an array of shape ().
        mean, scale: (width,) of the features.
        weight: (width, n_classes), bias: (n_classes,).
        strength: the inverse strength of regularisation at which they were learned; None in a folder of an earlier
            version.
    """

    majority: Labels
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    strength: float | None = None

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays, to be saved."""
        return {
            "majority": np.atleast_1d(self.majority),
            **{name: getattr(self, name) for name in _REGRESSION},
            **({} if self.strength is None else {"strength": np.array([self.strength])}),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> ImageBaselines:
        """Return what `tensors` was made of."""
        strength = float(tensors["strength"][0]) if "strength" in tensors else None
        return cls(tensors["majority"].reshape(()), **{name: tensors[name] for name in _REGRESSION}, strength=strength)

    def predict(self, examples: Examples) -> dict[str, Labels]:
        """Return what each says, by name: (n,) class ids."""
        return {
            "majority": np.repeat(self.majority[None], len(examples), axis=0),
            "hog": self.logits(examples.images or []).argmax(1),
        }

    def logits(self, pictures: Sequence[ImageInput]) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) of the regression; -inf of a class that no training example has."""
        return self.logits_of(features(pictures))

    def logits_of(self, seen: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) for features (n, width)."""
        return ((seen - self.mean) / self.scale @ self.weight + self.bias).astype(np.float32)


def learn(train: Examples, validation: Examples) -> ImageBaselines:
    """Fit both; the validation log loss chooses how strongly the regression is regularised."""
    seen, held_out = features(train.images or []), features(validation.images or [])
    best: tuple[float, ImageBaselines] | None = None
    for strength in _INVERSE_STRENGTHS:
        found = _fitted(seen, train.labels, len(train.label_names), strength)
        logits = np.maximum(found.logits_of(held_out), _NEVER)
        loss = float(likelihood.losses(logits, validation.labels).mean())
        if best is None or loss < best[0]:
            best = (loss, found)
    assert best is not None
    return best[1]


def relearn(examples: Examples, strength: float) -> ImageBaselines:
    """Fit both once more, at the strength that was chosen, on training and validation examples together."""
    return _fitted(features(examples.images or []), examples.labels, len(examples.label_names), strength)


def out_of_fold(examples: Examples, strength: float, fold: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the logits of each example by a regression that has not seen its fold.

    Args:
        examples: all of them.
        strength: see `ImageBaselines`.
        fold: (n,) the number of each example's fold.

    Returns:
        (n, n_classes) float32; -inf of a class that no example outside the fold has.
    """
    seen, n_classes = features(examples.images or []), len(examples.label_names)
    logits = np.zeros((len(examples), n_classes), dtype=np.float32)
    for number in np.unique(fold):
        inside = fold == number
        found = _fitted(seen[~inside], examples.labels[~inside], n_classes, strength)
        logits[inside] = found.logits_of(seen[inside])
    return logits


def _fitted(seen: npt.NDArray[np.float32], labels: Labels, n_classes: int, strength: float) -> ImageBaselines:
    """Return what is learned from features (n, width) and class ids (n,) at one strength."""
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(labels, minlength=n_classes)
    mean, scale = seen.mean(0), seen.std(0) + 1e-6
    weight = np.zeros((seen.shape[1], n_classes), dtype=np.float32)
    bias = np.where(counts > 0, 0.0, -np.inf).astype(np.float32)
    if (counts > 0).sum() > 1:  # scikit-learn refuses one class alone
        model = LogisticRegression(C=strength, max_iter=1000).fit((seen - mean) / scale, labels)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
            intercepts = np.array([0.0, intercepts[0]])
        weight[:, model.classes_], bias[model.classes_] = coefficients.T, intercepts
    return ImageBaselines(np.asarray(counts.argmax()), mean, scale, weight, bias, strength)


def features(pictures: Sequence[ImageInput]) -> npt.NDArray[np.float32]:
    """(n, width): colours and edges of each image."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, progress.bar("colours and edges", len(pictures)) as advance:
        rows = []
        for row in pool.map(_features, pictures):
            rows.append(row)
            advance(1)
    return np.stack(rows)


def _features(picture: ImageInput) -> npt.NDArray[np.float32]:
    from skimage.feature import hog

    small = picture.image(at_least=_SIDE).resize((_SIDE, _SIDE))
    colours = np.asarray(small.convert("HSV")).reshape(-1, 3)
    bins = (_HUES, _SATURATIONS, _VALUES)
    histogram, _ = np.histogramdd(colours, bins=bins, range=[(0, 256)] * 3)
    edges = hog(np.asarray(small.convert("L")), orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    return np.concatenate([np.sqrt(histogram.ravel() / len(colours)), edges]).astype(np.float32)
