"""Scores new inputs with a saved classifier and compares them with its reference profile: `rehead drift`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rehead.artifact.loading import load_artifact
from rehead.data.duplicates import seen_before
from rehead.data.images import ImageInput
from rehead.drift import sampling
from rehead.drift.detector import Detector, Measure, advice, drifted
from rehead.drift.reference import ReferenceProfile
from rehead.runtime import progress
from rehead.runtime.errors import ArtifactError, DataError
from rehead.runtime.results import Result

# Inputs that are scored, of more; a larger sample hardly makes a threshold smaller.
_MOST = 10_000


@dataclass(frozen=True)
class LabelShift:
    """How often a label is predicted, and how probable it is.

    Attributes:
        reference, now: the share of the inputs for which it is predicted, there and here.
        reference_probability, now_probability: its mean probability, there and here.
    """

    reference: float
    now: float
    reference_probability: float
    now_probability: float


@dataclass(frozen=True)
class DriftResult(Result):
    """How far inputs are from those that a classifier was tested on.

    Attributes:
        model: the classifier's folder.
        n: inputs that were compared.
        reference: inputs that they were compared with.
        learned: how many of the n were learned from.
        drifted: whether any measure has; null where there are too few inputs.
        advice: what to do about it, in a sentence.
        measures: by name; see `rehead.drift.detector.Detector.measures`.
        labels: by label.
        seconds: that it took.
    """

    model: str
    n: int
    reference: int
    learned: int
    drifted: bool | None
    advice: str
    measures: dict[str, Measure]
    labels: dict[str, LabelShift]
    seconds: float


def drift(folder: str | Path, inputs: Sequence[str] | Sequence[ImageInput]) -> DriftResult:
    """Compare new texts or images, which need no labels, with those that a saved classifier was tested on.

    Args:
        inputs: of more than 10,000 as many are drawn at random.

    Raises:
        ArtifactError: there is no such classifier, or it was saved without a reference profile.
        DataError: there is no input.
    """
    start = time.perf_counter()
    if not len(inputs):
        raise DataError("there is nothing to look at; give 100 texts or more")
    loaded = load_artifact(Path(folder))
    reference = ReferenceProfile.beside(loaded)
    if reference is None:
        raise ArtifactError(
            f"{folder} has no profile of what it was tested on; train it again with rehead fit, which keeps one"
        )
    drawn = sampling.drawn(inputs, _MOST)
    if len(drawn) < len(inputs):
        progress.say(f"{len(drawn):,} of {len(inputs):,} inputs are looked at, drawn at random")
    learned = int(seen_before(drawn, loaded.reference.seen).sum()) if loaded.reference else 0
    if learned:
        progress.warn(
            f"{learned:,} of {len(drawn):,} inputs were learned from: the classifier is surer of them, and knows more "
            "of their words, than of new ones"
        )
    scores = loaded.predictor().scores(drawn, keep_features=True)
    observed = reference.observed(drawn, scores)
    measures = Detector(reference).measures(observed)
    shares, probabilities = observed.labels.mean(axis=0, dtype=np.float64), scores.probabilities.mean(axis=0)
    columns = (reference.label_shares, shares, reference.mean_probabilities, probabilities)
    shifts = (LabelShift(*map(float, row)) for row in zip(*columns, strict=True))
    return DriftResult(
        model=str(Path(folder).resolve()),
        n=len(drawn),
        reference=reference.n,
        learned=learned,
        drifted=drifted(measures),
        advice=advice(measures),
        measures=measures,
        labels=dict(zip(loaded.labels, shifts, strict=True)),
        seconds=time.perf_counter() - start,
    )
