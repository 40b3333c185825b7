"""McNemar's test, the interval of a difference, and what is said of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from rehead.evaluation.comparison import compare, examples_needed, paired_interval


def outcomes(both: int, only_this: int, only_other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    right = [True] * (both + only_this) + [False] * (only_other + neither)
    other = [True] * both + [False] * only_this + [True] * only_other + [False] * neither
    return np.array(right, dtype=bool), np.array(other, dtype=bool)


@pytest.mark.parametrize(
    ("only_this", "only_other", "verdict"),
    [
        (12, 1, "better than TF-IDF, p = 0.003; difference +9.5 points, 95 % interval +3.5 to +16.5"),
        (30, 1, "better than TF-IDF, p < 0.001; difference +21.6 points, 95 % interval +14.3 to +29.5"),
        (
            1,
            12,
            "worse than TF-IDF, p = 0.003; difference -9.5 points, 95 % interval -16.5 to -3.5: use TF-IDF instead of "
            "the language model",
        ),
        (
            5,
            2,
            "a tie with TF-IDF on 110 texts; difference +2.7 points, 95 % interval -2.8 to +8.7; about 560 more would "
            "decide",
        ),
        (
            20,
            19,
            "a tie with TF-IDF on 142 texts; difference +0.7 points, 95 % interval -8.0 to +9.4; no number of examples "
            "is likely to separate them",
        ),
    ],
)
def test_verdict_says_plainly_what_the_test_says(only_this: int, only_other: int, verdict: str) -> None:
    result = compare(*outcomes(100, only_this, only_other, 3), "TF-IDF")
    assert (result.only_this, result.only_other, result.verdict) == (only_this, only_other, verdict)


def test_a_tie_of_images_says_images() -> None:
    assert " on 129 images; difference +4.7 points" in compare(*outcomes(80, 17, 11, 21), "HOG", what="images").verdict


def test_two_that_never_differ_are_a_tie_that_no_example_breaks() -> None:
    result = compare(*outcomes(10, 0, 0, 2), "TF-IDF")
    assert (result.p_value, result.difference, result.more_needed) == (1.0, 0.0, None)
    assert "difference 0.0 points" in result.verdict


def test_nothing_more_is_asked_for_where_the_difference_is_shown() -> None:
    assert compare(*outcomes(100, 12, 1, 3), "TF-IDF").more_needed == 0


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_p_value_is_the_two_sided_tail_of_a_fair_coin(both: int, only_this: int, only_other: int) -> None:
    result = compare(*outcomes(both, only_this, only_other, 1), "other")
    n = only_this + only_other
    assert result.p_value == pytest.approx(min(1.0, 2 * binom.cdf(min(only_this, only_other), n, 0.5)))


@given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 60))
def test_interval_holds_the_difference_and_turns_with_the_sides(both: int, this: int, other: int, no: int) -> None:
    n = both + this + other + no
    if not n:
        return
    low, high = paired_interval(both, this, other, no)
    assert -1 - 1e-9 <= low <= (this - other) / n + 1e-9
    assert (this - other) / n - 1e-9 <= high <= 1 + 1e-9
    assert paired_interval(both, other, this, no) == pytest.approx((-high, -low), abs=1e-9)


@given(st.integers(0, 200), st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
def test_a_tie_is_what_the_test_and_the_interval_both_call_one(both: int, this: int, other: int, no: int) -> None:
    if not both + this + other + no:
        return
    result = compare(*outcomes(both, this, other, no), "HOG")
    holds_zero = result.interval[0] <= 0 <= result.interval[1]
    assert result.verdict.startswith("a tie") == holds_zero == (result.p_value >= 0.05)


def test_an_interval_that_barely_leaves_zero_out_reaches_to_it_where_the_test_does_not_reject() -> None:
    assert paired_interval(4, 7, 1, 8)[0] > 0.02
    result = compare(*outcomes(4, 7, 1, 8), "HOG", what="images")
    assert (result.p_value > 0.05, result.interval[0]) == (True, 0.0)
    assert result.verdict.startswith("a tie with HOG on 20 images; difference +30.0 points, 95 % interval 0.0 to +")


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.05, 0.15), (0.9, 0.06, 0.02, 0.02), (0.5, 0.2, 0.2, 0.1)])
@pytest.mark.parametrize("n", [50, 400])
def test_interval_holds_the_true_difference_nineteen_times_of_twenty(n: int, shares: tuple[float, ...]) -> None:
    drawn = np.random.default_rng(0).multinomial(n, shares, 2000)
    cells, times = np.unique(drawn, axis=0, return_counts=True)
    ends = np.array([paired_interval(*map(int, row)) for row in cells])
    holds = (ends[:, 0] <= shares[1] - shares[2]) & (shares[1] - shares[2] <= ends[:, 1])
    assert 0.93 <= (holds * times).sum() / 2000 <= 0.985


def test_as_many_examples_as_are_asked_for_show_the_difference_four_times_of_five() -> None:
    n = math.ceil(examples_needed(0.15, 0.09))
    drawn = np.random.default_rng(1).multinomial(n, [0.15, 0.09, 0.76], 4000)
    # McNemar's chi-squared without a continuity correction, which the formula is of.
    shown = (drawn[:, 0] - drawn[:, 1]) ** 2 > 1.96**2 * (drawn[:, 0] + drawn[:, 1])
    assert shown.mean() == pytest.approx(0.8, abs=0.03)


def test_no_number_of_examples_shows_that_there_is_no_difference() -> None:
    assert examples_needed(0.1, 0.1) == math.inf
