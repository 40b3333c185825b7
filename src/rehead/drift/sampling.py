"""Which of many inputs are looked at: drawn at random, always the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rehead.data.pictures import Picture

# Inputs of which the features are kept.
MOST_FEATURES = 512


def rows(n: int, most: int) -> npt.NDArray[np.int64]:
    """Return all of n rows, or `most` of them; rising."""
    if n <= most:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(0).choice(n, most, replace=False)).astype(np.int64)


def drawn(inputs: Sequence[str] | Sequence[Picture], most: int) -> list[str] | list[Picture]:
    """Return all of the texts or images, or `most` of them in their order."""
    return [inputs[row] for row in rows(len(inputs), most)]
