"""Render the result of a fit or an evaluation: one HTML file that needs no network."""

import base64
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from rehead.data.audit import Finding
from rehead.data.examples import Examples, named
from rehead.data.images import ImageInput
from rehead.data.labels import are_right, class_counts, most_probable
from rehead.evaluation.learning_curve import Curve
from rehead.evaluation.rendering import render
from rehead.runtime import files
from rehead.runtime.errors import ArtifactError
from rehead.runtime.results import Result
from rehead.runtime.wording import no_formula

_SHOWN_MISTAKES = 20
# Pixels of the longer side of a mistake's picture.
_THUMBNAIL = 160
# Classes that a threshold can be chosen for on the page: those with the most examples.
_CHOOSABLE = 30
# Test examples whose predictions can be had from the page: more would make it megabytes.
_DOWNLOADABLE = 20_000
# Of the report's page.
_SCRIPT = Path(__file__).parent / "templates" / "report.js"


@dataclass(frozen=True)
class Mistake:
    """A test example that was classified wrongly.

    Attributes:
        shaded: the text in pieces, each with what its absence takes from the log odds of what was predicted, and what
            n-grams beside the head say of it; None where that was not looked at.
        image: a small copy as a data URL, where it is an image.
        picture: the image itself.
        coloured: what its parts contribute, likewise as a data URL; None where that was not looked at.
    """

    line: int
    text: str
    label: str
    predicted: str
    probability: float
    shaded: Sequence[tuple[str, float, float]] | None = None
    image: str | None = None
    picture: ImageInput | None = None
    coloured: str | None = None


def mistakes(probabilities: npt.NDArray[np.float64], test: Examples) -> list[Mistake]:
    """Return the most confident mistakes first, 20 at most.

    Where a text may have several labels, a mistake is as confident as the surest of its wrong decisions.
    """
    predicted = most_probable(probabilities, test.multilabel)
    if test.multilabel:
        of_decision = np.where(predicted > 0, probabilities, 1 - probabilities)
        confidence = np.where(predicted != test.labels, of_decision, 0.0).max(1)
    else:
        confidence = probabilities.max(1)
    wrong = np.flatnonzero(~are_right(test.labels, predicted))
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:_SHOWN_MISTAKES]
    return [
        Mistake(
            line=int(test.lines[i]),
            text=test.texts[i],
            label=test.named(i),
            predicted=named(predicted[i], test.label_names),
            probability=float(confidence[i]),
            image=None if test.images is None else thumbnail(test.images[i].image(at_least=_THUMBNAIL)),
            picture=None if test.images is None else test.images[i],
        )
        for i in shown.tolist()
    ]


def thumbnail(image: Image.Image) -> str:
    """Return a small copy as a data URL."""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()


@dataclass(frozen=True)
class Figures:
    """What a report shows beside numbers: drawings as SVG, and the thresholds of each class (see `plots`).

    Attributes:
        predictions: of all test examples, as a data URL of CSV; None where it would make a page of megabytes.
    """

    reliability: str
    curves: str
    depth_profile: str | None
    training_curve: str | None
    learning_curve: str | None
    thresholds: dict[str, dict[str, list[float]]]
    predictions: str | None


def figures(
    probabilities: npt.NDArray[np.float64],
    test: Examples,
    profile: dict[str, dict[int, float]],
    depth: int | None,
    epochs: dict[str, list[float]] | None = None,
    curve: Curve | None = None,
) -> Figures:
    """Draw what a report shows of a fit or an evaluation.

    Args:
        probabilities: (n, n_classes) of the test examples.
        test: n examples.
        profile: validation log loss by pooling and depth; empty where none was measured.
        depth: that was kept.
        epochs: validation log losses by epoch, of each strategy that trained layers.
        curve: the learning curve; None where none was measured.
    """
    from rehead.evaluation import plots  # here, because matplotlib takes its time to be imported

    counts = class_counts(test.labels, len(test.label_names))
    return Figures(
        reliability=plots.reliability(probabilities, test.labels),
        curves=plots.curves(probabilities, test.labels, test.label_names),
        depth_profile=plots.depth_profile(profile, depth)
        if depth is not None and len(next(iter(profile.values()), {})) > 1
        else None,
        training_curve=plots.training_curve(epochs) if epochs else None,
        learning_curve=None if curve is None else plots.learning_curve(curve.sizes, curve.errors),
        thresholds={
            test.label_names[label]: plots.thresholds(probabilities, test.labels, label)
            for label in np.argsort(counts, kind="stable")[-_CHOOSABLE:].tolist()
            if counts[label]
        },
        predictions=_as_csv(probabilities, test) if len(test) <= _DOWNLOADABLE else None,
    )


def _as_csv(probabilities: npt.NDArray[np.float64], test: Examples) -> str:
    """Return each test example's row, classes and probability of what was predicted, as a data URL."""
    predicted = most_probable(probabilities, test.multilabel)
    surest = (
        np.where(predicted > 0, probabilities, 1 - probabilities).min(1) if test.multilabel else probabilities.max(1)
    )
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["row", "true", "predicted", "probability"])
    for i, probability in enumerate(surest.tolist()):
        names = (no_formula(name) for name in (test.named(i), named(predicted[i], test.label_names)))
        rows.writerow([int(test.lines[i]), *names, round(probability, 6)])
    return "data:text/csv;base64," + base64.b64encode(file.getvalue().encode()).decode()


def render_html(result: Result, mistakes: list[Mistake], drawn: Figures) -> str:
    """Return the report of a fit or an evaluation."""
    values, script = result.to_json(), _SCRIPT.read_text(encoding="utf-8")
    # The page runs this script and no other, whatever a text smuggles in.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render(
        "report.html.jinja",
        result=values,
        mistakes=mistakes,
        drawn=drawn,
        title=Path(values["data"]).name or values["data"],
        title_of=lambda finding: Finding(**finding).title,
        script=script,
        script_hash=f"sha256-{digest}",
    )


def write(path: Path, content: bytes) -> None:
    """Write a report or a picture, whole or not at all.

    Raises:
        ArtifactError: it cannot be written there.
    """
    try:
        files.write_file(path, content)
    except OSError as error:
        raise ArtifactError(f"cannot write {path} ({error.strerror or error}); give another file") from error
