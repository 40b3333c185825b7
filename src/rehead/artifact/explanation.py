"""Explain why a classifier says what it says: what each word of a text contributes.

A word's weight is what its absence takes from the log odds of the predicted class (occlusion: Zeiler and Fergus, ECCV
2014; on words Li et al., arXiv 1612.08220). It needs nothing of the model but its answers, so it is true of any base
and pooling, and it says what happens, not what would happen for ever smaller changes. Where n-grams stand beside the
head, what they say of a word needs no such experiment: they are a sum over the words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from rehead.artifact.artifact import Artifact
from rehead.artifact.predictor import Scoring
from rehead.models.ngram_hashes import IDEOGRAPHS
from rehead.runtime.results import Result

# A text of more words is taken apart into runs of words, this number of them, so that no text takes longer than this
# number of others.
PIECES = 64
# Probabilities are at least this far from 0 and 1 before their log odds are taken.
_LEAST = 1e-9
# Scripts without spaces between words have a word for each ideograph or kana, as they have for the n-grams.
_IDEOGRAPHS = "".join(f"{chr(first)}-{chr(last)}" for first, last in IDEOGRAPHS)
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\s{_IDEOGRAPHS}]+")


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


class Shade(NamedTuple):
    """A part of a text with its weight, and of that what the n-grams beside the head say."""

    text: str
    weight: float = 0.0
    ngrams: float = 0.0


@dataclass(frozen=True)
class Neighbour:
    """An example that is like the text: `similarity` is the cosine of their features."""

    row: int
    label: str
    text: str
    similarity: float


@dataclass(frozen=True)
class ExplainedPiece(Piece):
    """A word of a text, or a run of words, with what it contributes.

    Attributes:
        ngrams: what the n-grams beside the head say of it; None where none stand there.
    """

    text: str
    ngrams: float | None


@dataclass(frozen=True)
class Explanation(Result):
    """The explanation of a prediction for a text.

    Attributes:
        label: the most probable one.
        probabilities: by label.
        baseline_factor: what the logits of the n-grams are multiplied by beside the head; 0 where they are not there.
        pieces: in the order of the text.
        neighbours: the most similar of the labelled examples that were named; empty where none were.
    """

    text: str
    label: str
    probabilities: dict[str, float]
    baseline_factor: float
    pieces: list[ExplainedPiece]
    neighbours: list[Neighbour]


def explain(model: Artifact, text: str) -> Explanation:
    """Explain what a classifier says of a text."""
    (pieces,), (probabilities,) = contributions(model, [text])
    label = int(probabilities.argmax())
    of_ngrams: Sequence[float | None] = ngram_weights(model, text, pieces, label) or [None] * len(pieces)
    return Explanation(
        text=text,
        label=model.labels[label],
        probabilities=dict(zip(model.labels, probabilities.tolist(), strict=True)),
        baseline_factor=model.manifest.baseline_factor,
        pieces=[
            ExplainedPiece(piece.start, piece.end, piece.weight, text[piece.start : piece.end], weight)
            for piece, weight in zip(pieces, of_ngrams, strict=True)
        ],
        neighbours=[],
    )


def contributions(
    model: Scoring, texts: list[str], pieces: int = PIECES
) -> tuple[list[list[Piece]], npt.NDArray[np.float64]]:
    """Return what the words of each text contribute to the class that is predicted for it, and all probabilities.

    Args:
        pieces: of a text, at most.

    Returns:
        The pieces of each of the n texts, in order, and (n, n_classes) probabilities.
    """
    spans = [_spans(text, pieces) for text in texts]
    without = [text[:start] + text[end:] for text, places in zip(texts, spans, strict=True) for start, end in places]
    scores = model.scores([*texts, *without]).probabilities
    probabilities, of_the_rest = scores[: len(texts)], scores[len(texts) :]
    result, at = [], 0
    for row, places in zip(probabilities, spans, strict=True):
        label = int(row.argmax())
        weights = clipped_logit(row[label]) - clipped_logit(of_the_rest[at : at + len(places), label])
        result.append([Piece(*place, float(weight)) for place, weight in zip(places, weights, strict=True)])
        at += len(places)
    return result, probabilities


def ngram_weights(model: Artifact, text: str, pieces: list[Piece], label: int) -> list[float] | None:
    """Return what the n-grams beside the head say of each piece, by themselves and not by leaving the piece out.

    With the regression's bias the pieces of a text add up to what the n-grams contribute, so these are exact. The
    n-grams of a run of ideographs are shared by its characters evenly.

    Args:
        pieces: of the text, in order.
        label: the class that is spoken for or against: what a piece adds to its logit, less what it adds to those of
            the other classes on average. Of two classes that is what it adds to the log odds, and so it is where a text
            may have several labels.

    Returns:
        a weight for each piece; None where no n-grams stand beside the head.
    """
    if model.beside is None:
        return None
    baseline, factor = model.beside
    spans, logits = baseline.contributions(text)
    weights = logits[:, label]
    if not model.multilabel and logits.shape[1] > 1:
        weights = weights - np.delete(logits, label, axis=1).mean(1)
    lengths = spans[:, 1] - spans[:, 0]
    characters = np.repeat(spans[:, 1] - np.cumsum(lengths), lengths) + np.arange(lengths.sum())
    piece_of = np.searchsorted([piece.start for piece in pieces], characters, side="right") - 1
    summed = np.bincount(piece_of, np.repeat(weights / lengths, lengths), minlength=len(pieces))
    result: list[float] = (factor * summed).tolist()
    return result


def shades(text: str, pieces: list[Piece], of_ngrams: list[float] | None = None) -> list[Shade]:
    """Return the whole text in order, what lies between the pieces without weight."""
    result, at = [], 0
    for piece, ngrams in zip(pieces, of_ngrams or [0.0] * len(pieces), strict=True):
        between = Shade(text[at : piece.start])
        result += [between, Shade(text[piece.start : piece.end], piece.weight, ngrams)]
        at = piece.end
    return [shade for shade in [*result, Shade(text[at:])] if shade.text]


def _spans(text: str, pieces: int) -> list[tuple[int, int]]:
    words = [match.span() for match in _WORD.finditer(text)]
    runs = np.array_split(np.arange(len(words)), min(len(words), pieces) or 1)
    return [(words[run[0]][0], words[run[-1]][1]) for run in runs if len(run)]


def clipped_logit(probabilities: npt.NDArray[np.float64] | np.float64) -> npt.NDArray[np.float64]:
    """Return the log odds of probabilities, which may be 0 or 1."""
    return np.asarray(logit(np.clip(probabilities, _LEAST, 1 - _LEAST)))
