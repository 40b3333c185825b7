"""What logits say of labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rehead.evaluation.likelihood import log_odds, probabilities

LOGITS = arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-8, 8, width=32))


@given(logits=LOGITS, multilabel=st.booleans())
def test_log_odds_are_those_of_the_probabilities(logits: np.ndarray, multilabel: bool) -> None:
    p = probabilities(logits, multilabel)
    np.testing.assert_allclose(log_odds(logits, multilabel), np.log(p) - np.log1p(-p), rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("apart", [0.0, 50.0, 900.0])
def test_log_odds_of_the_certain_are_finite(apart: float) -> None:
    np.testing.assert_allclose(
        log_odds(np.array([[apart, 0.0], [0.0, apart]]), False), [[apart, -apart], [-apart, apart]]
    )
    among_three = log_odds(np.array([[apart, 0.0, 0.0]]), False)[0, 0]
    assert among_three == pytest.approx(apart - np.log(2))
