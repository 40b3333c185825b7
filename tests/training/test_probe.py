"""The probe: solved to convergence, scaling folded in, chosen by validation."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from rehead.evaluation import likelihood
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


def spread(features: np.ndarray, constant: float = np.inf) -> np.ndarray:
    """Standard deviations, none of them less than a tenth of what nine in ten of those that vary stay below; (width,).

    Args:
        constant: what the feature that does not vary is divided by.
    """
    deviations = features.std(0, dtype=np.float64)
    floor = 0.1 * np.quantile(np.delete(deviations, 5), 0.9)
    deviations[5] = constant
    return np.maximum(deviations, floor)


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4])
def test_solution_is_scikit_learns_on_standardised_features(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = problem()
    monkeypatch.setattr(probe, "STRENGTHS", (strength,))
    solved = solve(features, labels, (features, labels), 3, intercept=True)
    scale = spread(features)
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
    scale = spread(features)
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
    scale = spread(features, constant=7.0)  # the constant feature is the bias
    scaled, weight = features / scale, solved.weight * scale
    scores = scaled @ weight.T
    probabilities = np.exp(scores - scores.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    gradient = scaled.T @ (probabilities - np.eye(3)[labels]) / len(labels) + 0.1 * weight.T
    assert np.abs(gradient).max() < 1e-3


@pytest.mark.parametrize("intercept", [True, False])
def test_two_classes_have_the_solution_of_a_softmax_over_both(intercept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, ids = problem()
    labels, weights = (ids > 0).astype(np.int64), np.random.default_rng(3).uniform(0.5, 1.5, (len(ids), 1))
    weights /= weights.mean()
    monkeypatch.setattr(probe, "STRENGTHS", (1e-2,))
    solved = solve(features, labels, (features, labels), 2, intercept, weights=weights)
    scale = spread(features, constant=7.0)
    mean = features.mean(0) if intercept else 0.0
    scaled, weight = (features - mean) / scale, solved.weight * scale
    scores = features @ solved.weight.T + solved.bias
    probabilities = np.exp(scores - scores.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    residual = weights * (probabilities - np.eye(2)[labels]) / len(labels)
    assert np.abs(scaled.T @ residual + 1e-2 * weight.T).max() < 1e-4
    assert not intercept or np.abs(residual.sum(0)).max() < 1e-4
    np.testing.assert_allclose(solved.weight[0], -solved.weight[1])


@pytest.mark.parametrize("several", [True, False])
def test_start_changes_how_long_it_takes_and_not_the_solution(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, ids = problem(n=300, width=200)
    features[:, 3] = 7.0  # carries nothing
    labels = np.stack([ids == 0, ids != 2, features[:, 0] > 0], axis=1).astype(np.int64) if several else ids
    steps = []
    minimize = probe.minimize

    def counted(*arguments: Any, **options: Any) -> Any:
        found = minimize(*arguments, **options)
        steps.append(found.nit)
        return found

    monkeypatch.setattr(probe, "minimize", counted)
    cold = probe.solve_at(1e-2, features, labels, 3, intercept=True)
    from_zeros = sum(steps)
    steps.clear()
    of_most = probe.solve_at(1e-2, features[40:], labels[40:], 3, intercept=True)
    steps.clear()
    warm = probe.solve_at(1e-2, features, labels, 3, intercept=True, start=of_most)
    assert sum(steps) < from_zeros
    (weight, bias), (of_zeros, bias_of_zeros) = warm, cold
    np.testing.assert_allclose(features @ weight.T + bias, features @ of_zeros.T + bias_of_zeros, atol=0.02)


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


N_TRAIN, N, WIDTH = 200, 500, 40
SICK = {
    "dead": lambda g, healthy: 1e-33 * g.normal(size=(N, 1)),
    "dead with a value": lambda g, healthy: np.full((N, 1), 0.3) + 5e-33 * g.normal(size=(N, 1)),
    "zero": lambda g, healthy: np.zeros((N, 1)),
    "constant": lambda g, healthy: np.full((N, 1), 7.0),
    "tiny": lambda g, healthy: 1e-4 * g.normal(size=(N, 1)),
    "tiny beside its value": lambda g, healthy: 3 + 1e-3 * g.normal(size=(N, 1)),
    "huge": lambda g, healthy: 1e6 * g.normal(size=(N, 1)),
    "huge and constant": lambda g, healthy: 1e6 + g.normal(size=(N, 1)),
    "duplicated": lambda g, healthy: healthy[:, g.integers(0, WIDTH, 1)],
}


def ordinary(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, WIDTH) that vary by 1 or so, and three classes that overlap."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, N)
    features = 0.5 * generator.normal(size=(3, WIDTH))[labels] + generator.normal(size=(N, WIDTH))
    return features.astype(np.float32), labels.astype(np.int64)


def judged(features: np.ndarray, labels: np.ndarray, intercept: bool) -> tuple[float, float, np.ndarray, float]:
    """Return held-out log loss and accuracy, the weights, and the length of an example's gradient at the features."""
    held_out = features[N_TRAIN:], labels[N_TRAIN:]
    solved = solve(features[:N_TRAIN], labels[:N_TRAIN], held_out, 3, intercept)
    seen = torch.from_numpy(features).requires_grad_()
    logits = seen @ torch.from_numpy(solved.weight).T + torch.from_numpy(solved.bias)
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum").backward()
    assert seen.grad is not None
    # The layer gives for features as they are what it gave for scaled ones.
    np.testing.assert_allclose(logits[N_TRAIN:].detach().numpy(), solved.logits, rtol=1e-3, atol=1e-2)
    assert np.isfinite(solved.bias).all()
    accuracy = float((solved.logits.argmax(1) == held_out[1]).mean())
    return float(solved.losses.mean()), accuracy, solved.weight, float(seen.grad.norm(dim=1).mean())


@pytest.mark.parametrize("intercept", [True, False])
@settings(max_examples=8)
@given(kinds=st.lists(st.sampled_from(sorted(SICK)), min_size=1, max_size=12), seed=st.integers(0, 3))
def test_sick_features_change_neither_what_is_predicted_nor_the_size_of_weights_and_gradients(
    intercept: bool, kinds: list[str], seed: int
) -> None:
    # Those that vary hugely are fewer than a tenth, as in language models.
    kinds = [kind for number, kind in enumerate(kinds) if kind != "huge" or kinds[:number].count(kind) < 3]
    healthy, labels = ordinary(seed)
    generator = np.random.default_rng(seed)
    added = [SICK[kind](generator, healthy) for kind in kinds]
    places = generator.permutation(WIDTH + len(added))
    features = np.concatenate([healthy, *added], axis=1).astype(np.float32)[:, places]
    loss, accuracy, _, length = judged(healthy, labels, intercept)
    loss_of_all, accuracy_of_all, weight, length_of_all = judged(features, labels, intercept)
    assert np.isfinite(weight).all()
    assert np.abs(weight).max() <= 10
    assert loss_of_all <= loss + 0.03
    assert accuracy_of_all >= accuracy - 0.03
    assert 0 < length_of_all <= 1.5 * length


def test_features_of_which_none_varies_say_what_the_classes_frequencies_do() -> None:
    labels = np.arange(60) % 3 // 2
    for value in (0.0, 7.0, 1e6):
        constant = np.full((60, 5), value, dtype=np.float32)
        solved = solve(constant[:40], labels[:40], (constant[40:], labels[40:]), 2, intercept=True)
        assert (solved.weight == 0).all()
        shares = likelihood.probabilities(solved.logits, multilabel=False)[0]
        np.testing.assert_allclose(shares, np.bincount(labels[:40]) / 40, atol=1e-2)


@pytest.mark.parametrize("several", [False, True])
def test_portions_of_many_features_change_nothing(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, ids = problem()
    labels = np.stack([ids == 0, ids != 2, features[:, 0] > 0], axis=1).astype(np.int64) if several else ids
    whole = solve(features, labels, (features, labels), 3, intercept=True)
    monkeypatch.setattr(probe, "_COPIED", 0)
    monkeypatch.setattr(probe, "_PORTION", 7 * 20)
    parts = solve(features, labels, (features, labels), 3, intercept=True)
    assert parts.strength == whole.strength
    np.testing.assert_allclose(parts.logits, whole.logits, rtol=1e-3, atol=1e-3)


def test_memory_does_not_grow_with_examples_times_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    n, n_classes = 4000, 200
    labels = np.arange(n) % n_classes
    features = np.eye(n_classes, 8, dtype=np.float32)[labels]
    monkeypatch.setattr(probe, "STRENGTHS", (1.0,))
    monkeypatch.setattr(probe, "_PORTION", 2**14)
    tracemalloc.start()
    solve(features, labels, (features[:10], labels[:10]), n_classes, intercept=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * n * n_classes
