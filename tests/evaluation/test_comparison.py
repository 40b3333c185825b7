"""McNemar's test, and what is said of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from rehead.evaluation.comparison import compare


def outcomes(both: int, only_this: int, only_other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    right = [True] * (both + only_this) + [False] * (only_other + neither)
    other = [True] * both + [False] * only_this + [True] * only_other + [False] * neither
    return np.array(right, dtype=bool), np.array(other, dtype=bool)


@pytest.mark.parametrize(
    ("only_this", "only_other", "verdict"),
    [
        (12, 1, "better than TF-IDF, p = 0.003"),
        (30, 1, "better than TF-IDF, p < 0.001"),
        (1, 12, "worse than TF-IDF, p = 0.003: use TF-IDF"),
        (
            5,
            2,
            "no evidence that the language model helps here (p = 0.453): use TF-IDF, which costs next to nothing",
        ),
    ],
)
def test_verdict_says_plainly_what_the_test_says(only_this: int, only_other: int, verdict: str) -> None:
    result = compare(*outcomes(100, only_this, only_other, 3), "TF-IDF")
    assert (result.only_this, result.only_other, result.verdict) == (only_this, only_other, verdict)


def test_two_that_never_differ_are_no_evidence() -> None:
    result = compare(*outcomes(10, 0, 0, 2), "TF-IDF")
    assert result.p_value == 1.0
    assert result.verdict.startswith("no evidence")


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_p_value_is_the_two_sided_tail_of_a_fair_coin(both: int, only_this: int, only_other: int) -> None:
    result = compare(*outcomes(both, only_this, only_other, 1), "other")
    n = only_this + only_other
    assert result.p_value == pytest.approx(min(1.0, 2 * binom.cdf(min(only_this, only_other), n, 0.5)))
