"""Which of many inputs are looked at: drawn at random, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rehead.data.pictures import Picture
from rehead.predictor import Predictor, Scores

# Of so many inputs, the features are kept.
MOST_FEATURES = 512
# Inputs are scored this many at a time, as `Predictor` does it itself, so that not all features are in memory at once.
_PORTION = 8192


def rows(n: int, most: int) -> npt.NDArray[np.int64]:
    """All of n rows, or `most` of them; rising."""
    if n <= most:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False)).astype(np.int64)


def drawn(inputs: Sequence[str] | Sequence[Picture], most: int) -> list[str] | list[Picture]:
    """All of the texts or images, or `most` of them in their order."""
    return [inputs[row] for row in rows(len(inputs), most)]


def scored(predictor: Predictor, inputs: Sequence[str] | Sequence[Picture]) -> tuple[Scores, npt.NDArray[np.float32]]:
    """The scores of all inputs, and the features, (m, width), of m of them, at most 512."""
    kept = rows(len(inputs), MOST_FEATURES)
    portions, features = [], []
    for start in range(0, len(inputs), _PORTION):
        portion = predictor.scores(inputs[start : start + _PORTION], keep_features=True)
        assert portion.features is not None
        features.append(portion.features[kept[(kept >= start) & (kept < start + _PORTION)] - start])
        portions.append(portion)
    scores = Scores(
        np.concatenate([portion.probabilities for portion in portions]),
        np.concatenate([portion.tokens_cut for portion in portions]),
        sum(portion.flops for portion in portions),
    )
    return scores, np.concatenate(features)
