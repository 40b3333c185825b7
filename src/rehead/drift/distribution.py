"""The distribution of one number over many inputs: in bins, so that no single input is kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The reference has about as many inputs in each.
_BINS = 64


@dataclass(frozen=True, eq=False)
class Distribution:
    """n numbers in bins whose bounds are their own quantiles.

    Attributes:
        bounds: (n_bins - 1,) float32, rising; a bin holds what is above the one before and up to its own.
        shares: (n_bins,) float64, adding up to 1.
        centers: (n_bins,) float64, the mean in each bin.
        n: how many numbers they are, at least 1.
    """

    bounds: npt.NDArray[np.float32]
    shares: npt.NDArray[np.float64]
    centers: npt.NDArray[np.float64]
    n: int

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Distribution:
        quantiles = np.quantile(values, np.arange(1, _BINS) / _BINS, method="inverted_cdf")
        bounds = np.unique(quantiles).astype(np.float32)
        bins = np.searchsorted(bounds, values)
        counts, sums = (np.bincount(bins, weights, len(bounds) + 1) for weights in (None, values))
        centers = np.where(counts > 0, sums / np.maximum(counts, 1), np.append(bounds, bounds[-1]))
        return cls(bounds, counts / len(values), centers, len(values))

    @property
    def mean(self) -> float:
        return float(self.shares @ self.centers)

    @property
    def is_sound(self) -> bool:
        """Return whether it can have been made by `of`."""
        n_bins = len(self.bounds) + 1
        shaped = 1 < n_bins <= _BINS and self.shares.shape == self.centers.shape == (n_bins,)
        rising = bool(np.isfinite(self.bounds).all() and (np.diff(self.bounds) > 0).all())
        return shaped and rising and add_up(self.shares) and bool(np.isfinite(self.centers).all()) and self.n >= 1

    def shares_of(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the shares, (n_bins,), of other numbers in the same bins."""
        return np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.shares)) / len(values)


def add_up(shares: npt.NDArray[np.float64]) -> bool:
    """Return whether shares are such as make up a whole."""
    return bool((shares >= 0).all()) and abs(float(shares.sum()) - 1) < 1e-6
