"""What `rehead drift` does: scores new inputs with a saved classifier and compares them with its fingerprint."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rehead.artifact.loading import load_artifact
from rehead.data.duplicates import seen_before
from rehead.data.pictures import Picture
from rehead.drift import sampling
from rehead.drift.detector import Detector, advice, drifted
from rehead.drift.fingerprint import Fingerprint
from rehead.runtime import progress
from rehead.runtime.errors import ArtifactError, DataError

# Of more inputs so many are scored; a larger sample hardly makes a threshold smaller.
_MOST = 10_000


def drift(folder: str | Path, inputs: Sequence[str] | Sequence[Picture]) -> dict[str, Any]:
    """Compares new texts or images, which need no labels, with those that a saved classifier was tested on.

    Args:
        inputs: of more than 10,000 so many are drawn at random.

    Returns:
        What JSON can hold: `n`, `drifted`, `advice`, `measures`, and of each label how often it is predicted.

    Raises:
        ArtifactError: there is no such classifier, or it has no fingerprint.
        DataError: no input is given.
    """
    start = time.perf_counter()
    if not len(inputs):
        raise DataError("there is nothing to look at; give 100 texts or more")
    loaded = load_artifact(Path(folder))
    fingerprint = Fingerprint.beside(loaded)
    if fingerprint is None:
        raise ArtifactError(
            f"{folder} has no fingerprint of what it was tested on; train it again with rehead fit, which keeps one"
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
    observed = fingerprint.observed(drawn, scores)
    measures = Detector(fingerprint).measures(observed)
    shares, probabilities = observed.labels.mean(axis=0, dtype=np.float64), scores.probabilities.mean(axis=0)
    return {
        "model": str(Path(folder).resolve()),
        "n": len(drawn),
        "reference": fingerprint.n,
        "learned": learned,
        "drifted": drifted(measures),
        "advice": advice(measures),
        "measures": {name: asdict(measure) | {"drifted": measure.drifted} for name, measure in measures.items()},
        "labels": {
            label: {
                "reference": float(fingerprint.label_shares[i]),
                "now": float(shares[i]),
                "reference_probability": float(fingerprint.mean_probabilities[i]),
                "now_probability": float(probabilities[i]),
            }
            for i, label in enumerate(loaded.labels)
        },
        "seconds": time.perf_counter() - start,
    }
