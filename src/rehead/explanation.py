"""Why a classifier says what it says: what each word contributes, and which examples are most like the text.

A word's weight is what its absence takes from the log odds of the predicted class (occlusion: Zeiler and Fergus, ECCV
2014; on words Li et al., arXiv 1612.08220). It needs nothing of the model but its answers, so it is true of any base
and pooling, and it says what happens, not what would happen for ever smaller changes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead import artifact
from rehead.artifact import Artifact
from rehead.data.duplicates import drop_duplicates
from rehead.data.examples import Examples
from rehead.data.parts import Columns, Sources, read_examples
from rehead.predictor import Scoring
from rehead.training.frozen_probes import frozen_features

# A text of more words is taken apart into so many runs of words, so that no text takes longer than so many others.
PIECES = 64
_NEIGHBOURS = 5
_LEAST = 1e-9
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Piece:
    """A word of a text, or a run of words.

    Attributes:
        start, end: where it stands in the text, in characters.
        weight: what its absence takes from the log odds of the predicted class; below 0 where it speaks against it.
    """

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Neighbour:
    """An example that is like the text: `similarity` is the cosine of their features."""

    row: int
    label: str
    text: str
    similarity: float


def explain(folder: str | Path, text: str, sources: Sources | str | None = None) -> dict[str, Any]:
    """What a saved classifier says of a text and why, as JSON can hold it.

    Args:
        sources: labelled data, such as those that it has learned from, of which the most similar are told.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    loaded = artifact.load(Path(folder))
    (pieces,), probabilities = contributions(loaded, [text])
    sources = Sources(sources) if isinstance(sources, str) else sources
    near = _neighbours(loaded, text, sources) if sources else []
    return {
        "text": text,
        "label": loaded.labels[int(probabilities[0].argmax())],
        "probabilities": dict(zip(loaded.labels, probabilities[0].tolist(), strict=True)),
        "pieces": [{**asdict(piece), "text": text[piece.start : piece.end]} for piece in pieces],
        "neighbours": [asdict(neighbour) for neighbour in near],
    }


def contributions(
    model: Scoring, texts: list[str], pieces: int = PIECES
) -> tuple[list[list[Piece]], npt.NDArray[np.float64]]:
    """What the words of each text contribute to the class that is predicted for it, and all probabilities.

    Args:
        pieces: of a text, at most.

    Returns:
        the pieces of each text, in order, and (n, n_classes) probabilities.
    """
    spans = [_spans(text, pieces) for text in texts]
    without = [text[:start] + text[end:] for text, places in zip(texts, spans, strict=True) for start, end in places]
    scores = model.scores([*texts, *without]).probabilities
    probabilities, of_the_rest = scores[: len(texts)], scores[len(texts) :]
    result, at = [], 0
    for row, places in zip(probabilities, spans, strict=True):
        label = int(row.argmax())
        weights = log_odds(row[label]) - log_odds(of_the_rest[at : at + len(places), label])
        result.append([Piece(*place, float(weight)) for place, weight in zip(places, weights, strict=True)])
        at += len(places)
    return result, probabilities


def shades(text: str, pieces: list[Piece]) -> list[tuple[str, float]]:
    """The whole text in order, what lies between the pieces with a weight of 0."""
    result, at = [], 0
    for piece in pieces:
        result += [(text[at : piece.start], 0.0), (text[piece.start : piece.end], piece.weight)]
        at = piece.end
    return [(part, weight) for part, weight in [*result, (text[at:], 0.0)] if part]


def _spans(text: str, pieces: int) -> list[tuple[int, int]]:
    words = [match.span() for match in _WORD.finditer(text)]
    runs = np.array_split(np.arange(len(words)), min(len(words), pieces) or 1)
    return [(words[run[0]][0], words[run[-1]][1]) for run in runs if len(run)]


def log_odds(p: Any) -> Any:
    """Of probabilities, which may be 0 or 1."""
    clipped = np.clip(p, _LEAST, 1 - _LEAST)
    return np.log(clipped) - np.log1p(-clipped)


def _neighbours(model: Artifact, text: str, sources: Sources) -> list[Neighbour]:
    told = model.description
    examples, _, _, _ = read_examples(sources.data, sources, model.labels, Columns.of(told))
    unique, _ = drop_duplicates(examples)
    asked = Examples([text], unique.labels[:1], unique.label_names, unique.lines[:1], "the text")
    known, own = (frozen_features(part, told).pooled.numpy() for part in (unique, asked))
    # A few directions of enormous variance would decide alone.
    mean, scale = known.mean(0), known.std(0) + _LEAST
    known, own = (known - mean) / scale, (own - mean) / scale
    similarity = known @ own[0] / (np.linalg.norm(known, axis=1) * np.linalg.norm(own[0]) + _LEAST)
    return [
        Neighbour(int(unique.lines[i]), unique.named(i), unique.texts[i], float(similarity[i]))
        for i in np.argsort(-similarity, kind="stable")[:_NEIGHBOURS]
    ]
