"""Explain which parts of an image a classifier's answer rests on.

A part's weight is what its absence takes from the log odds of the predicted class: a square is painted over in the
image's mean colour, and moved across it (occlusion: Zeiler and Fergus, ECCV 2014, §4.2). Like the words of a text, that
needs nothing of the model but its answers.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from rehead.artifact.explanation import clipped_logit
from rehead.artifact.loading import load_artifact
from rehead.artifact.predictor import Scoring
from rehead.data.images import ImageInput, as_image_input
from rehead.runtime.results import Result

# Squares a side; each is painted over with its neighbours up to half of their width, so that nothing lies on an edge.
_GRID = 8
# Pixels of the shorter side that the image is looked at in.
_SIDE = 256
# A change of the log odds from which on the colour grows no stronger, and how strong it is then.
_FULL, _STRONGEST = 3.0, 0.65
_FOR, _AGAINST = (46, 160, 67), (248, 81, 73)


@dataclass(frozen=True)
class ImageExplanation(Result):
    """The explanation of a prediction for an image.

    Attributes:
        image: the file.
        label: the most probable one.
        probabilities: by label.
        weights: what the absence of each part takes from the log odds of that label, 8 rows of 8.
        heat_map: the file of the coloured image; None where none was written.
    """

    image: str
    label: str
    probabilities: dict[str, float]
    weights: list[list[float]]
    heat_map: str | None


def explain_image(folder: str | Path, image: str | Path, output: str | Path | None = None) -> ImageExplanation:
    """Explain what a saved classifier says of an image.

    Args:
        folder: of the classifier.
        image: the file.
        output: a PNG file that the coloured image is written to.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    loaded = load_artifact(Path(folder))
    picture = ImageInput(str(image), Path(image))
    weights, probabilities = heat_map(loaded, picture)
    if output is not None:
        from rehead.evaluation.report import write  # with scikit-learn and pandas, which a server does without

        content = io.BytesIO()
        coloured(picture, weights).save(content, "PNG")
        write(Path(output), content.getvalue())
    return ImageExplanation(
        image=str(image),
        label=loaded.labels[int(probabilities.argmax())],
        probabilities=dict(zip(loaded.labels, probabilities.tolist(), strict=True)),
        weights=weights.round(4).tolist(),
        heat_map=None if output is None else str(Path(output).resolve()),
    )


def heat_map(model: Scoring, picture: ImageInput) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return what each part contributes to the predicted class, (8, 8), and (n_classes,) probabilities."""
    image = _small(picture)
    colour = tuple(int(value) for value in np.asarray(image).reshape(-1, 3).mean(0))
    width, height = image.width / _GRID, image.height / _GRID
    variants = [image]
    for row in range(_GRID):
        for column in range(_GRID):
            without = image.copy()
            box = ((column - 0.5) * width, (row - 0.5) * height, (column + 1.5) * width, (row + 1.5) * height)
            ImageDraw.Draw(without).rectangle(box, fill=colour)
            variants.append(without)
    pictures = [drawn for i, variant in enumerate(variants) if (drawn := as_image_input(variant, i)) is not None]
    probabilities = model.scores(pictures).probabilities
    label = int(probabilities[0].argmax())
    changes = clipped_logit(probabilities[0, label]) - clipped_logit(probabilities[1:, label])
    return changes.reshape(_GRID, _GRID), probabilities[0]


def coloured(picture: ImageInput, weights: npt.NDArray[np.float64]) -> Image.Image:
    """Return the image in grey, what speaks for the predicted class in green and what speaks against it in red."""
    image = _small(picture)
    scaled = np.clip(weights / _FULL, -1, 1)
    smooth = np.asarray(
        Image.fromarray(scaled.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC), dtype=np.float64
    )
    strength = _STRONGEST * np.abs(smooth).clip(0, 1)[..., None]
    paint = np.where(smooth[..., None] > 0, np.array(_FOR), np.array(_AGAINST))
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float64)
    return Image.fromarray(((1 - strength) * grey + strength * paint).round().astype(np.uint8))


def _small(picture: ImageInput) -> Image.Image:
    image = picture.image(at_least=_SIDE)
    # A strip is not blown up.
    scale = min(_SIDE / min(image.size), 4 * _SIDE / max(image.size))
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
