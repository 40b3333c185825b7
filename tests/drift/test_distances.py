"""Distances have the values that they must have, and what comes about by chance is what a simulation finds."""

import numpy as np
import pytest
from scipy import stats

from rehead.drift import distances
from rehead.drift.distribution import Distribution


def normal(n: int, seed: int, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_total_variation_is_the_share_of_inputs_that_would_need_another_class() -> None:
    assert distances.total_variation(np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.2, 0.3])) == pytest.approx(0.2)


def test_the_label_that_changed_most_counts_where_there_may_be_several() -> None:
    assert distances.largest_difference(np.array([0.7, 0.2, 0.1]), np.array([0.6, 0.2, 0.4])) == pytest.approx(0.3)


def test_a_rise_is_one_of_the_mean_and_a_fall_is_none() -> None:
    rise = distances.rise(np.array([0.0, 0.5, 1.0]))
    low, high = np.array([0.8, 0.1, 0.1]), np.array([0.6, 0.1, 0.3])
    assert rise(low, high) == pytest.approx(0.2)
    assert rise(high, low) == 0


def test_kolmogorov_smirnov_of_bins_is_nearly_that_of_the_numbers() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=900).astype(np.float32), generator.normal(0.4, 1, 700).astype(np.float32)
    distribution = Distribution.of(first)
    binned = float(distances.kolmogorov_smirnov(distribution.shares, distribution.shares_of(second)))
    exact = stats.ks_2samp(first, second).statistic
    assert exact - 2 / 64 <= binned <= exact + 1e-9


def test_energy_is_nothing_for_the_same_sample_and_all_for_two_points() -> None:
    sample = normal(50, 0)
    assert distances.energy(sample, sample) == pytest.approx(0, abs=1e-6)
    assert distances.energy(np.zeros((5, 3), np.float32), np.ones((7, 3), np.float32)) == pytest.approx(1)
    assert distances.energy(np.zeros((5, 3), np.float32), np.zeros((7, 3), np.float32)) == 0


def test_energy_is_that_of_scipy_in_one_dimension() -> None:
    first, second = normal(60, 1, 1), normal(80, 2, 1) + 1
    across = 2 * float(np.abs(first - second.T).mean())
    theirs = stats.energy_distance(first[:, 0], second[:, 0]) ** 2
    # scipy's is of the distribution functions; as an energy it counts twice (Székely and Rizzo 2013, theorem 1).
    assert distances.energy(first, second) == pytest.approx(theirs / across, rel=1e-3)


def test_what_comes_about_by_chance_is_what_kolmogorov_has_found() -> None:
    even = np.full(64, 1 / 64)
    found = distances.chance_of_shares(distances.kolmogorov_smirnov, even, 800, 300, [0])
    theirs = stats.kstwobign.ppf(distances.QUANTILE) * np.sqrt(1 / 800 + 1 / 300)
    assert found == pytest.approx(theirs, rel=0.15)


def test_what_energy_comes_to_by_chance_is_what_fresh_samples_have() -> None:
    reference = normal(300, 0)
    energies = [distances.energy(normal(300, 2 * seed + 1), normal(120, 2 * seed + 2)) for seed in range(400)]
    chance = distances.chance_of_energy(reference, 120, [0])
    assert max(energies) < 1.1 * chance
    assert np.quantile(energies, 0.99) > 0.65 * chance


def test_more_inputs_leave_less_to_chance() -> None:
    even = np.full(10, 0.1)
    few, many = (distances.chance_of_shares(distances.total_variation, even, 10_000, n, [0]) for n in (100, 2000))
    assert many < few / 3
    assert distances.chance_of_energy(normal(400, 0), 1000, [0]) < distances.chance_of_energy(normal(400, 0), 100, [0])
