"""Temperature scaling finds what logits were multiplied by, and never certainty from a few examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from rehead.evaluation import likelihood
from rehead.evaluation.calibration import Mixture, at_temperature, calibrated_losses, stacking, temperature
from rehead.evaluation.metrics import measure


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
    before = measure(softmax(3 * fresh, axis=1), fresh_labels, ("a", "b", "c")).ece
    after = measure(softmax(3 * fresh / found, axis=1), fresh_labels, ("a", "b", "c")).ece
    assert after < before / 3


def test_few_examples_that_are_all_right_do_not_make_it_certain() -> None:
    logits = np.array([[1.0, -1.0]] * 5 + [[-1.0, 1.0]] * 5)
    assert temperature(logits, np.array([0] * 5 + [1] * 5)) > 0.3


def test_probabilities_at_another_temperature_are_those_of_the_logits() -> None:
    logits, _ = drawn(20)
    np.testing.assert_allclose(at_temperature(softmax(logits, axis=1), 2.5), softmax(logits / 2.5, axis=1), atol=1e-12)


def test_certain_probabilities_stay_finite() -> None:
    assert np.isfinite(at_temperature(np.array([[1.0, 0.0]]), 0.5)).all()


def mean_loss(mixed: Mixture, first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> float:
    return float(likelihood.losses(mixed.of(first, second), labels).mean())


def weakened(logits: np.ndarray, noise: float, seed: int = 3) -> np.ndarray:
    return logits + noise * np.random.default_rng(seed).normal(size=logits.shape)


@pytest.mark.parametrize("seed", range(4))
def test_a_second_classifier_that_is_noise_is_left_out(seed: int) -> None:
    logits, labels = drawn(300, seed=seed)
    noise = 5 * np.random.default_rng(seed + 100).normal(size=logits.shape)
    mixed = stacking(logits, noise, labels).mixture
    assert mixed.factor <= 0.02
    fresh, fresh_labels = drawn(2000, seed=seed + 50)
    alone = Mixture(temperature(logits, labels), 0.0)
    fresh_noise = 5 * np.random.default_rng(seed + 200).normal(size=fresh.shape)
    found, least = (mean_loss(one, fresh, fresh_noise, fresh_labels) for one in (mixed, alone))
    assert found <= least + 0.01


def test_a_second_classifier_that_says_the_same_again_changes_no_prediction() -> None:
    logits, labels = drawn(300)
    mixed = stacking(logits, logits, labels).mixture
    assert mixed.of(logits, logits).argmax(1).tolist() == logits.argmax(1).tolist()


def test_a_second_classifier_that_is_better_is_taken() -> None:
    logits, labels = drawn(300)
    first = weakened(logits, 4.0)
    mixed = stacking(first, logits, labels).mixture
    assert mixed.factor > 0.3
    fresh, fresh_labels = drawn(2000, seed=1)
    fresh_first = weakened(fresh, 4.0, seed=4)
    alone = Mixture(temperature(first, labels), 0.0)
    assert mean_loss(mixed, fresh_first, fresh, fresh_labels) < 0.8 * mean_loss(alone, fresh_first, fresh, fresh_labels)


def test_classifiers_that_err_on_different_examples_are_better_together() -> None:
    logits, labels = drawn(400)
    first, second = weakened(logits, 2.0, 5), weakened(logits, 2.0, 6)
    mixed = stacking(first, second, labels).mixture
    assert mixed.factor > 0.1
    best = min(calibrated_losses(one, labels).mean() for one in (first, second))
    assert mean_loss(mixed, first, second, labels) < best


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11])
@pytest.mark.parametrize("labels", ["constant", "alternating"])
@pytest.mark.parametrize("several", [False, True])
def test_few_or_constant_labels_give_finite_numbers(n: int, labels: str, several: bool) -> None:
    logits, _ = drawn(n, n_classes=2)
    ids = np.zeros(n, dtype=np.int64) if labels == "constant" else np.arange(n) % 2
    given = np.stack([ids, ids], axis=1) if several else ids
    mixed = stacking(logits, -logits, given).mixture
    assert np.isfinite([mixed.divisor, mixed.factor]).all()
    assert mixed.divisor > 0
    assert mixed.factor == 0 if n < 10 else 0 <= mixed.factor <= 5
    assert np.isfinite(mixed.of(logits, -logits)).all()
    assert np.isfinite(calibrated_losses(logits, given)).all()


def test_of_several_labels_each_is_mixed_with_the_same_factor() -> None:
    generator = np.random.default_rng(0)
    logits = 2 * generator.normal(size=(400, 3))
    labels = (generator.random(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    first = weakened(logits, 4.0)
    mixed = stacking(first, logits, labels).mixture
    assert mixed.factor > 0.3
    assert mean_loss(mixed, first, logits, labels) < calibrated_losses(first, labels).mean()
    assert stacking(logits, 5 * generator.normal(size=logits.shape), labels).mixture.factor <= 0.02


@settings(max_examples=30)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 60),
    weak=st.floats(0.0, 8.0),
    other=st.floats(0.0, 8.0),
    scale=st.floats(0.05, 20.0),
)
def test_what_was_fitted_is_no_worse_than_the_first_alone(
    seed: int, n: int, weak: float, other: float, scale: float
) -> None:
    logits, labels = drawn(n, seed=seed)
    first, second = scale * weakened(logits, weak, seed), weakened(logits, other, seed + 1)
    mixed = stacking(first, second, labels).mixture
    alone = Mixture(temperature(first, labels), 0.0)

    def to_minimise(one: Mixture) -> float:
        """The loss of all examples, and what is believed of the numbers before any is seen."""
        believed = (np.log(one.divisor) / 0.5) ** 2 + one.factor**2
        return n * mean_loss(one, first, second, labels) + believed / 2

    assert to_minimise(mixed) <= to_minimise(alone) + 1e-3
    # So the loss itself is no worse by more than a temperature far from 1 is held to be unlikely.
    unlikely = (np.log(alone.divisor) / 0.5) ** 2 / 2
    assert mean_loss(mixed, first, second, labels) <= mean_loss(alone, first, second, labels) + (unlikely + 1e-3) / n
