"""Texts, and what a classifier might make of them, each aspect of which can be moved by itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from rehead.artifact.predictor import Scores
from rehead.drift.reference import ReferenceProfile

WIDTH = 48
_LETTERS = "abcdefghij"
_WORDS = ["".join(letters) for letters in product(_LETTERS, repeat=3)]
_OTHER_WORDS = ["".join(letters) for letters in product(_LETTERS.upper()[::-1], "xyz", _LETTERS)]


def inputs(
    n: int,
    seed: int,
    *,
    spam: float = 0.3,
    sureness: float = 3.0,
    words: float = 12.0,
    unknown: float = 0.03,
    moved: float = 0.0,
) -> tuple[list[str], Scores]:
    """n texts with their scores in two classes.

    Args:
        spam: share of the second class.
        sureness: mean log odds of the class that is predicted.
        words: in a text, on average.
        unknown: share of the words that no text of the training has.
        moved: standard deviations that each of the features is higher.
    """
    generator = np.random.default_rng([seed, n])
    texts = []
    for length in 1 + generator.poisson(words - 1, n):
        # A few words are frequent and most are rare, as in a language.
        ranks = (len(_WORDS) ** generator.random(length)).astype(int) - 1
        other = generator.random(length) < unknown
        at = generator.integers(0, len(_OTHER_WORDS), length)
        texts.append(" ".join(_OTHER_WORDS[k] if o else _WORDS[r] for r, o, k in zip(ranks, other, at, strict=True)))
    odds = np.abs(generator.normal(sureness, 1, n)) * np.where(generator.random(n) < spam, 1, -1)
    second = 1 / (1 + np.exp(-odds))
    features = generator.normal(0, 1 + np.arange(WIDTH) % 5, (n, WIDTH)) + moved * (1 + np.arange(WIDTH) % 5)
    return texts, Scores(np.stack([1 - second, second], 1), np.zeros(n, np.int64), 0.0, features.astype(np.float32))


def of_three_labels(n: int, seed: int, shares: tuple[float, ...] = (0.5, 0.2, 0.1)) -> npt.NDArray[np.float64]:
    """(n, 3) probabilities of labels of which an input may have several."""
    generator = np.random.default_rng([seed, n])
    has = generator.random((n, 3)) < np.array(shares)
    return np.where(has, 1 - 0.3 * generator.random((n, 3)), 0.3 * generator.random((n, 3)))


def reference(n: int = 800, seed: int = 0) -> ReferenceProfile:
    """Of a classifier that was tested on n texts."""
    learned, _ = inputs(3000, seed + 1000, unknown=0)
    held_out, scores = inputs(n, seed)
    assert scores.features is not None
    return ReferenceProfile.of(learned, held_out, scores.probabilities, scores.features[:512], multilabel=False)
