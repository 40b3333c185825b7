"""Temperature scaling finds what logits were multiplied by, and never certainty from a few examples."""

import numpy as np
import pytest
from scipy.special import softmax

from rehead.evaluation.calibration import at_temperature, temperature
from rehead.evaluation.metrics import evaluate


def drawn(n: int, n_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the probabilities that they stand for: calibrated by construction."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(n, n_classes))
    labels = np.array([generator.choice(n_classes, p=row) for row in softmax(logits, axis=1)])
    return logits, labels


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_temperature_is_what_calibrated_logits_were_multiplied_by(factor: float) -> None:
    logits, labels = drawn(4000)
    assert temperature(factor * logits, labels) == pytest.approx(factor, rel=0.1)


def test_calibration_error_falls() -> None:
    logits, labels = drawn(4000)
    fresh, fresh_labels = drawn(4000, seed=1)
    found = temperature(3 * logits, labels)
    before = evaluate(softmax(3 * fresh, axis=1), fresh_labels, ("a", "b", "c")).ece
    after = evaluate(softmax(3 * fresh / found, axis=1), fresh_labels, ("a", "b", "c")).ece
    assert after < before / 3


def test_few_examples_that_are_all_right_do_not_make_it_certain() -> None:
    logits = np.array([[1.0, -1.0]] * 5 + [[-1.0, 1.0]] * 5)
    assert temperature(logits, np.array([0] * 5 + [1] * 5)) > 0.3


def test_probabilities_at_another_temperature_are_those_of_the_logits() -> None:
    logits, _ = drawn(20)
    np.testing.assert_allclose(at_temperature(softmax(logits, axis=1), 2.5), softmax(logits / 2.5, axis=1), atol=1e-12)


def test_certain_probabilities_stay_finite() -> None:
    assert np.isfinite(at_temperature(np.array([[1.0, 0.0]]), 0.5)).all()
