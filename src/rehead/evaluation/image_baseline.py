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

from rehead import likelihood, progress
from rehead.data.examples import Examples
from rehead.data.labels import Labels
from rehead.data.pictures import Picture

_SIDE = 96
_HUES, _SATURATIONS, _VALUES = 12, 4, 4
_INVERSE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)
_REGRESSION = ("mean", "scale", "weight", "bias")


@dataclass(frozen=True)
class ImageBaselines:
    """The majority class, and the regression on features that are scaled to unit variance.

    Attributes:
        majority: the most frequent class id, an array of shape ().
        mean, scale: (width,) of the features.
        weight: (width, n_classes), bias: (n_classes,).
    """

    majority: Labels
    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays, to be saved."""
        return {"majority": np.atleast_1d(self.majority), **{name: getattr(self, name) for name in _REGRESSION}}

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> ImageBaselines:
        return cls(tensors["majority"].reshape(()), *(tensors[name] for name in _REGRESSION))

    def predict(self, examples: Examples) -> dict[str, Labels]:
        """Return what each says, by name: (n,) class ids."""
        return {
            "majority": np.repeat(self.majority[None], len(examples), axis=0),
            "hog": self.logits(examples.pictures or []).argmax(1),
        }

    def logits(self, pictures: Sequence[Picture]) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) of the regression; -inf of a class that no training example has."""
        scaled = (features(pictures) - self.mean) / self.scale
        return (scaled @ self.weight + self.bias).astype(np.float32)


def learn(train: Examples, validation: Examples) -> ImageBaselines:
    """Fits both; the validation log loss chooses how strongly the regression is regularised."""
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(train.labels, minlength=len(train.label_names))
    seen, held_out = features(train.pictures or []), features(validation.pictures or [])
    mean, scale = seen.mean(0), seen.std(0) + 1e-6
    best: tuple[float, npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    for inverse_strength in _INVERSE_STRENGTHS:
        model = LogisticRegression(C=inverse_strength, max_iter=1000).fit((seen - mean) / scale, train.labels)
        weight = np.zeros((seen.shape[1], len(counts)), dtype=np.float32)
        bias = np.full(len(counts), -np.inf, dtype=np.float32)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
            intercepts = np.array([0.0, intercepts[0]])
        weight[:, model.classes_], bias[model.classes_] = coefficients.T, intercepts
        logits = ((held_out - mean) / scale) @ weight + np.maximum(bias, -30)
        loss = float(likelihood.losses(logits, validation.labels).mean())
        if best is None or loss < best[0]:
            best = (loss, weight, bias)
    assert best is not None
    return ImageBaselines(np.asarray(counts.argmax()), mean, scale, best[1], best[2])


def features(pictures: Sequence[Picture]) -> npt.NDArray[np.float32]:
    """(n, width): colours and edges of each image."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, progress.bar("colours and edges", len(pictures)) as advance:
        rows = []
        for row in pool.map(_features, pictures):
            rows.append(row)
            advance(1)
    return np.stack(rows)


def _features(picture: Picture) -> npt.NDArray[np.float32]:
    from skimage.feature import hog

    small = picture.image(at_least=_SIDE).resize((_SIDE, _SIDE))
    colours = np.asarray(small.convert("HSV")).reshape(-1, 3)
    bins = (_HUES, _SATURATIONS, _VALUES)
    histogram, _ = np.histogramdd(colours, bins=bins, range=[(0, 256)] * 3)
    edges = hog(np.asarray(small.convert("L")), orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    return np.concatenate([np.sqrt(histogram.ravel() / len(colours)), edges]).astype(np.float32)
