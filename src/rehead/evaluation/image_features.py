"""Turn images into colours and edges: the features of what a vision model has to beat.

Colours are a histogram of hue and saturation, with brightness; edges are histograms of oriented gradients (Dalal and
Triggs, CVPR 2005), by scikit-image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.images import ImageInput
from rehead.data.labels import Labels, Weights
from rehead.runtime import extras, progress

_SIDE = 96
_HUES, _SATURATIONS, _VALUES = 12, 4, 4
# From strong to weak regularisation.
INVERSE_STRENGTHS = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True, eq=False)
class ColoursAndEdges:
    """Features that are scaled to unit variance on the training images.

    Attributes:
        mean, scale: (width,) float32 of the training images' features.
    """

    mean: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, raw: npt.NDArray[np.float32]) -> ColoursAndEdges:
        """Return the scales of features (n, width)."""
        return cls(raw.mean(0), raw.std(0) + 1e-6)

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.mean)

    def transform(self, pictures: Sequence[ImageInput]) -> npt.NDArray[np.float32]:
        """Return (n, width) float32."""
        return self.scaled(raw_features(pictures))

    def scaled(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return features (n, width) as the regression takes them."""
        return (raw - self.mean) / self.scale

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays, to be saved."""
        return {"mean": self.mean, "scale": self.scale}

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> ColoursAndEdges:
        """Return what `tensors` was made of."""
        return cls(tensors["mean"], tensors["scale"])


def solve_dense(
    features: npt.NDArray[np.float32], labels: Labels, n_classes: int, strength: float, weights: Weights | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the logistic regression of class ids (n,) on features (n, width): (width, n_classes) and (n_classes,)."""
    from sklearn.linear_model import LogisticRegression

    counts = np.bincount(labels, minlength=n_classes)
    weight = np.zeros((features.shape[1], n_classes), dtype=np.float32)
    bias = np.where(counts > 0, 0.0, -np.inf).astype(np.float32)
    if (counts > 0).sum() > 1:  # scikit-learn refuses one class alone
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, labels, weights)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes
            coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
            intercepts = np.array([0.0, intercepts[0]])
        weight[:, model.classes_], bias[model.classes_] = coefficients.T, intercepts
    return weight, bias


def require_installed() -> None:
    """Raise SettingError where the extra is missing."""
    extras.require("the baseline of images", "images", "skimage")


def raw_features(pictures: Sequence[ImageInput]) -> npt.NDArray[np.float32]:
    """Return (n, width): colours and edges of each image, not scaled.

    Raises:
        SettingError: the extra is not installed.
    """
    require_installed()
    return np.stack(progress.mapped(_of_picture, pictures, "colours and edges"))


def _of_picture(picture: ImageInput) -> npt.NDArray[np.float32]:
    from skimage.feature import hog

    small = picture.image(at_least=_SIDE).resize((_SIDE, _SIDE))
    colours = np.asarray(small.convert("HSV")).reshape(-1, 3)
    bins = (_HUES, _SATURATIONS, _VALUES)
    histogram, _ = np.histogramdd(colours, bins=bins, range=[(0, 256)] * 3)
    edges = hog(np.asarray(small.convert("L")), orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2))
    return np.concatenate([np.sqrt(histogram.ravel() / len(colours)), edges]).astype(np.float32)
