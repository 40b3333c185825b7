"""The learning curve reads off a power law what a power law holds."""

import numpy as np
import pytest

from rehead.evaluation.learning_curve import fit_curve

SIZES = [32, 64, 128, 256, 512, 1024]


def law(m: float, floor: float = 0.02, scale: float = 1.0, power: float = 0.5) -> float:
    return floor + scale * m**-power


def test_labels_for_a_point_are_those_of_the_law() -> None:
    n = 1000
    curve = fit_curve(SIZES, [[law(m)] * 3 for m in SIZES], n)
    assert curve.more is not None
    assert law(n + curve.more) == pytest.approx(law(n) - 0.01, abs=1e-4)
    assert curve.more_between == (curve.more, curve.more)
    assert "1 point" in curve.verdict


def test_noise_widens_the_interval() -> None:
    generator = np.random.default_rng(0)
    errors = [[law(m) * (1 + 0.1 * generator.normal()) for _ in range(3)] for m in SIZES]
    low, high = fit_curve(SIZES, errors, 1000).more_between
    assert low is not None
    assert high is None or low < high


@pytest.mark.parametrize("errors", [[[0.02, 0.02]] * 6, [[0.0]] * 6, [[0.1], [0.11], [0.09], [0.1], [0.11], [0.1]]])
def test_flat_curve_says_that_more_labels_hardly_help(errors: list[list[float]]) -> None:
    curve = fit_curve(SIZES, errors, 1000)
    assert curve.more is None
    assert "hardly help" in curve.verdict


def test_estimate_is_told_to_two_digits() -> None:
    verdict = fit_curve(SIZES, [[law(m)] for m in SIZES], 1000).verdict
    number = verdict.split()[1].replace(",", "")
    assert len(number.rstrip("0")) <= 2


def test_json_has_the_means() -> None:
    told = fit_curve(SIZES, [[0.2, 0.4]] * 6, 1000).to_json()
    assert told["mean_errors"] == pytest.approx([0.3] * 6)
