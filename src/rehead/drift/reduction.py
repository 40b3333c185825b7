"""What the head sees of an input, reduced to a few numbers that keep the distances between inputs.

The directions are drawn at random and not learned: directions that fit the reference sample best fit every other
sample less well, and would make it look further away than it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import shake_128

import numpy as np
import numpy.typing as npt

DIRECTIONS = 32
# Features are taken to be no larger or smaller than that, in whatever unit.
_LARGE = 1e12


@dataclass(frozen=True, eq=False)
class Reduction:
    """Standardises features and projects them on `DIRECTIONS` random ones.

    Attributes:
        center: (width,) float32, the mean of each feature.
        scale: (width,) float32, above 0: its standard deviation, or the median of all where that is larger, so that a
            feature that hardly varies is not blown up, and one with huge values does not hide the others.

    Source: Achlioptas, "Database-friendly random projections", Journal of Computer and System Sciences 66 (2003): with
    random signs, distances are kept as well as with random normal numbers.
    """

    center: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]

    @classmethod
    def of(cls, features: npt.NDArray[np.float32]) -> Reduction:
        """Fit it to features (n, width) of the reference sample."""
        deviations = features.std(axis=0, dtype=np.float64)
        varying = deviations[deviations > 0]
        least = float(np.median(varying)) if len(varying) else 1.0
        scale = np.clip(np.maximum(deviations, least), 1 / _LARGE, _LARGE)
        return cls(features.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32))

    @property
    def is_sound(self) -> bool:
        """Return whether it can have been made by `of`."""
        same = self.center.shape == self.scale.shape and bool(np.isfinite(self.center).all())
        within = (self.scale >= 0.5 / _LARGE) & (self.scale <= 2 * _LARGE) & (np.abs(self.center) <= _LARGE)
        return same and bool(within.all())

    def reduced(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return (n, `DIRECTIONS`) float32 for features (n, width)."""
        width = len(self.center)
        projected = ((features - self.center) / self.scale) @ _signs(width)
        return np.asarray(projected / np.sqrt(width), dtype=np.float32)


@lru_cache(maxsize=4)
def _signs(width: int) -> npt.NDArray[np.float32]:
    """Return (width, DIRECTIONS) of 1 and -1, the same in every process and with every version of numpy."""
    bits = np.unpackbits(np.frombuffer(shake_128(b"rehead").digest(width * DIRECTIONS // 8), dtype=np.uint8))
    return (2.0 * bits.reshape(width, DIRECTIONS) - 1).astype(np.float32)
