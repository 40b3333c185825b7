"""The probe: solved to convergence, scaling folded in, chosen by validation."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rehead.training import probe
from rehead.training.probe import solve


def problem(n: int = 300, width: int = 20, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Noisy classes on features of very different scale, one of them constant, as language models have."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, n_classes, n)
    centres = generator.normal(size=(n_classes, width))
    features = centres[labels] + 2 * generator.normal(size=(n, width))
    features = features * np.logspace(-2, 3, width) + generator.normal(size=width) * np.logspace(-2, 3, width)
    features[:, 5] = 7.0
    return features.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_solution_is_scikit_learns_on_standardised_features(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = problem()
    monkeypatch.setattr(probe, "STRENGTHS", (strength,))
    solved = solve(features, labels, (features, labels), 3, intercept=True)
    scale = features.std(0)
    scale[5] = np.inf
    scaled = (features - features.mean(0)) / scale
    reference = LogisticRegression(C=1 / (strength * len(labels)), max_iter=10_000, tol=1e-8).fit(scaled, labels)
    ours = features @ solved.weight.T + solved.bias
    ours -= ours.max(1, keepdims=True)
    probabilities = np.exp(ours) / np.exp(ours).sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, reference.predict_proba(scaled), atol=2e-3)


@pytest.mark.parametrize("balanced", [False, True])
def test_of_several_labels_each_class_has_scikit_learns_regression(
    balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, ids = problem()
    labels = np.stack([ids == 0, ids != 2, features[:, 0] > 0], axis=1).astype(np.int64)
    counts = labels.sum(0)
    weights = len(labels) / (2 * np.where(labels > 0, counts, len(labels) - counts))
    monkeypatch.setattr(probe, "STRENGTHS", (1e-2,))
    solved = solve(features, labels, (features, labels), 3, intercept=True, weights=weights if balanced else None)
    scale = features.std(0)
    scale[5] = np.inf
    scaled = (features - features.mean(0)) / scale
    ours = 1 / (1 + np.exp(-(features @ solved.weight.T + solved.bias)))
    for label in range(3):
        reference = LogisticRegression(
            C=1 / (1e-2 * len(labels)), class_weight="balanced" if balanced else None, max_iter=10_000, tol=1e-8
        ).fit(scaled, labels[:, label])
        np.testing.assert_allclose(ours[:, label], reference.predict_proba(scaled)[:, 1], atol=2e-3)


def test_no_bias_where_the_head_has_none() -> None:
    features, labels = problem()
    solved = solve(features, labels, (features, labels), 3, intercept=False)
    assert (solved.bias == 0).all()
    assert (features @ solved.weight.T).argmax(1).tolist() != [0] * len(labels)


def test_gradient_vanishes_at_the_solution_without_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = problem()
    monkeypatch.setattr(probe, "STRENGTHS", (0.1,))
    solved = solve(features, labels, (features, labels), 3, intercept=False)
    scale = features.std(0)
    scale[5] = 7.0  # the constant feature is the bias
    scaled, weight = features / scale, solved.weight * scale
    scores = scaled @ weight.T
    probabilities = np.exp(scores - scores.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    gradient = scaled.T @ (probabilities - np.eye(3)[labels]) / len(labels) + 0.1 * weight.T
    assert np.abs(gradient).max() < 1e-3


def test_validation_chooses_the_strength() -> None:
    features, labels = problem(n=60, width=200)
    train, held_out = slice(0, 40), slice(40, 60)
    unrelated = np.random.default_rng(1).permutation(labels)
    noise = solve(features[train], unrelated[train], (features[held_out], unrelated[held_out]), 3, intercept=True)
    assert noise.strength == max(probe.STRENGTHS)
    separable = np.eye(3, dtype=np.float32)[labels]
    easy = solve(separable[train], labels[train], (separable[held_out], labels[held_out]), 3, intercept=True)
    assert easy.strength == min(probe.STRENGTHS)


def test_class_without_training_examples_is_allowed() -> None:
    features, labels = problem()
    two = labels < 2
    solved = solve(features[two], labels[two], (features[two], labels[two]), 3, intercept=True)
    assert solved.weight.shape == (3, features.shape[1])
