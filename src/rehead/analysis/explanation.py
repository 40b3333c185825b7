"""Explain what a saved classifier says of a text, with the labelled examples that are most like it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rehead.artifact import explanation
from rehead.artifact.artifact import Artifact
from rehead.artifact.explanation import Explanation, Neighbour
from rehead.artifact.loading import load_artifact
from rehead.data.containers import Source
from rehead.data.duplicates import drop_duplicates
from rehead.data.examples import Examples
from rehead.data.preparation import Columns, DataConfig, read_examples
from rehead.training.frozen_probes import frozen_features

_NEIGHBOURS = 5


def explain(folder: str | Path, text: str, sources: DataConfig | Source | None = None) -> Explanation:
    """Explain what a saved classifier says of a text.

    Args:
        folder: of the classifier.
        text: what it classifies.
        sources: labelled data, such as those that it has learned from, of which the most similar are named.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    loaded = load_artifact(Path(folder))
    explained = explanation.explain(loaded, text)
    if sources is None:
        return explained
    return replace(explained, neighbours=_neighbours(loaded, text, DataConfig.of(sources)))


def _neighbours(model: Artifact, text: str, sources: DataConfig) -> list[Neighbour]:
    description = model.manifest.to_json()
    examples, _, _, _ = read_examples(sources.data, sources, model.labels, Columns.of(description))
    unique, _ = drop_duplicates(examples)
    asked = Examples([text], unique.labels[:1], unique.label_names, unique.lines[:1], "the text")
    similarity = frozen_features(unique.followed_by(asked), description).similarities()
    return [
        Neighbour(int(unique.lines[i]), unique.named(i), unique.texts[i], float(similarity[i]))
        for i in np.argsort(-similarity, kind="stable")[:_NEIGHBOURS]
    ]
