"""How far apart two samples are, and how far apart two samples of one source come to lie by chance.

What comes about by chance is estimated by drawing the reference and the new sample anew from the reference, each with
replacement and of its own size (the two-sample bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapter 16). A distance above the `QUANTILE` of these is one of a thousand, if nothing has changed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Shares = npt.NDArray[np.float64]
Distance = Callable[[Shares, Shares], Shares]

QUANTILE = 0.999
_RESAMPLES = 2000


def total_variation(first: Shares, second: Shares) -> Shares:
    """Return how many of the inputs would need another class, (...), for (..., k) shares of k classes."""
    return np.asarray(np.abs(first - second).sum(axis=-1) / 2)


def largest_difference(first: Shares, second: Shares) -> Shares:
    """Return the change of the label that changed most, (...), for (..., k) shares of k labels, several an input."""
    return np.asarray(np.abs(first - second).max(axis=-1))


def kolmogorov_smirnov(first: Shares, second: Shares) -> Shares:
    """Return how far the distribution functions are apart, (...), for (..., k) shares of k bins in their order."""
    return np.asarray(np.abs(np.cumsum(first - second, axis=-1)).max(axis=-1))


def rise(centers: Shares) -> Distance:
    """Return, for bins with these means, (k,), how much higher the second mean is than the first; 0 where lower."""
    return lambda first, second: np.maximum((second - first) @ centers, 0.0)


def chance_of_shares(distance: Distance, shares: Shares, n_reference: int, n: int, seed: list[int]) -> float:
    """Estimate the `QUANTILE` of a distance between samples of `n_reference` and `n` inputs with shares (k,)."""
    generator = np.random.default_rng(seed)
    shares = shares / shares.sum()  # rounding
    first = generator.multinomial(n_reference, shares, size=_RESAMPLES) / n_reference
    second = generator.multinomial(n, shares, size=_RESAMPLES) / n
    return float(np.quantile(distance(first, second), QUANTILE))


def chance_of_labels(shares: Shares, n_reference: int, n: int, seed: list[int]) -> float:
    """Estimate the same of `largest_difference`, where each label is a decision for itself."""
    generator = np.random.default_rng(seed)
    first = generator.binomial(n_reference, shares, size=(_RESAMPLES, len(shares))) / n_reference
    second = generator.binomial(n, shares, size=(_RESAMPLES, len(shares))) / n
    return float(np.quantile(largest_difference(first, second), QUANTILE))


def between(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the (n, m) Euclidean distances between (n, d) and (m, d)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    distances: npt.NDArray[np.float32] = np.sqrt(np.maximum(squares, 0))
    return distances


def within(sample: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the (n, n) Euclidean distances within (n, d)."""
    distances = between(sample, sample)
    np.fill_diagonal(distances, 0)  # rounding leaves something there
    return distances


def energy(reference: npt.NDArray[np.float32], new: npt.NDArray[np.float32]) -> float:
    """Return the energy distance of two samples (m, d) and (n, d), as a share of what lies between them.

    It is 0 where the samples are the same, and 1 where each is a single point of its own.

    Source: Székely and Rizzo, "Energy statistics: a class of statistics based on distances", Journal of Statistical
    Planning and Inference 143 (2013), section 4. It is a maximum mean discrepancy that has no bandwidth to choose
    (Sejdinovic et al., "Equivalence of distance-based and RKHS-based statistics", Annals of Statistics 41, 2013).
    """
    across = 2 * float(between(reference, new).mean(dtype=np.float64))
    if not across:
        return 0.0
    inside = float(within(reference).mean(dtype=np.float64)) + float(within(new).mean(dtype=np.float64))
    return max(0.0, (across - inside) / across)


def chance_of_energy(reference: npt.NDArray[np.float32], n: int, seed: list[int]) -> float:
    """Estimate the `QUANTILE` of `energy` between a sample like the reference, (m, d), and `n` inputs like it."""
    m = len(reference)
    distances = within(reference)
    total = float(distances.sum(dtype=np.float64))
    if not total:
        return 0.0
    generator = np.random.default_rng(seed)
    even = np.full(m, 1 / m)
    weights = generator.multinomial(m, even, size=_RESAMPLES) / m - generator.multinomial(n, even, size=_RESAMPLES) / n
    weights = weights.astype(np.float32)
    energies = -((weights @ distances) * weights).sum(axis=1)
    # A resample holds inputs twice, at no distance from each other, which two of a source are not: hence m - 1 for m.
    return float(np.quantile(energies, QUANTILE)) * m * m / (2 * total)
