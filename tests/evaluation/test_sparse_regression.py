"""The solver finds what scikit-learn finds, in another space."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from rehead.evaluation import sparse_regression
from rehead.evaluation.sparse_regression import Regression, held_out

STRENGTHS = (10.0, 100.0, 0.3)


@pytest.fixture(autouse=True)
def _solved_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_regression, "_TOLERANCE", 1e-6)
    monkeypatch.setattr(sparse_regression, "_MOST_ITERATIONS", 1000)


def drawn(n_classes: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    generator = np.random.default_rng(n_classes)
    features = sparse.random(150, 400, 0.05, format="csr", dtype=np.float32, random_state=0)
    labels = (features @ generator.normal(size=(400, n_classes)) + generator.normal(size=n_classes)).argmax(1)
    labels[:n_classes] = np.arange(n_classes)
    return features, labels


def theirs(features: sparse.csr_matrix, labels: np.ndarray, strength: float) -> LogisticRegression:
    # In float32, scikit-learn ends where its loss no longer moves, on some processors early: a bias was off by 0.01.
    return LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(features.astype(np.float64), labels)


def test_solution_over_all_classes_is_that_of_scikit_learn_at_each_strength() -> None:
    features, labels = drawn(4)
    regression = Regression(features, np.eye(4)[labels], multilabel=False)
    for strength in STRENGTHS:
        (weight, bias), expected = regression.solve(strength), theirs(features, labels, strength)
        largest = np.abs(expected.coef_).max()
        np.testing.assert_allclose(weight, expected.coef_.T, atol=2e-3 * largest)
        differences = bias - expected.intercept_
        np.testing.assert_allclose(differences, differences.mean(), atol=5e-3)


@pytest.mark.parametrize("n_labels", [1, 3])
def test_solution_of_each_class_is_that_of_scikit_learn_at_each_strength(n_labels: int) -> None:
    features, labels = drawn(4)
    targets = np.stack([labels == label for label in range(n_labels)], axis=1)
    regression = Regression(features, targets, multilabel=True)
    for strength in STRENGTHS:
        weight, bias = regression.solve(strength)
        for label in range(n_labels):
            expected = theirs(features, labels == label, strength)
            largest = np.abs(expected.coef_).max()
            np.testing.assert_allclose(weight[:, label], expected.coef_[0], atol=2e-3 * largest)
            assert bias[label] == pytest.approx(expected.intercept_[0], abs=5e-3)


def test_loss_far_from_its_least_does_not_lead_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weak regularisation at once, of many examples that are alike: Newton's method alone leaps away here."""
    monkeypatch.setattr(sparse_regression, "_TOLERANCE", 1e-2)
    features = sparse.vstack([drawn(3)[0]] * 10, format="csr") * np.float32(10)
    labels = np.tile(drawn(3)[1], 10)
    weight, bias = Regression(features, np.eye(3)[labels], multilabel=False).solve(1e4)
    assert ((features @ weight + bias).argmax(1) == labels).all()


@pytest.mark.parametrize("multilabel", [False, True])
def test_held_out_logits_are_those_of_a_regression_on_the_other_folds(multilabel: bool) -> None:
    features, labels = drawn(3)
    targets, fold = np.eye(3)[labels], np.arange(150) % 4
    found = held_out(features, targets, fold, 10.0, multilabel=multilabel)
    for number in range(4):
        rows = fold == number
        weight, bias = Regression(features[~rows], targets[~rows], multilabel=multilabel).solve(10.0)
        expected = features[rows] @ weight + bias
        shift = 0.0 if multilabel else (found[rows] - expected).mean()  # the biases of a softmax have no zero
        np.testing.assert_allclose(found[rows] - shift, expected, atol=0.01)


def test_labels_of_a_fold_change_nothing_in_its_own_logits() -> None:
    features, labels = drawn(3)
    fold = np.arange(150) % 5
    changed = np.where(fold == 2, (labels + 1) % 3, labels)
    before, after = (held_out(features, np.eye(3)[each], fold, 3.0, multilabel=False) for each in (labels, changed))
    np.testing.assert_array_equal(before[fold == 2], after[fold == 2])
    assert (before[fold != 2] != after[fold != 2]).any()


def test_same_solution_with_one_core_and_with_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_regression, "_BLOCK", 32)
    monkeypatch.setattr(sparse_regression, "_LEAST_BLOCK", 8)
    features, labels = drawn(3)
    monkeypatch.setattr(sparse_regression.os, "cpu_count", lambda: 4)
    several, _ = Regression(features, np.eye(3)[labels], multilabel=False).solve(3.0)
    monkeypatch.setattr(sparse_regression.os, "cpu_count", lambda: 1)
    one, _ = Regression(features, np.eye(3)[labels], multilabel=False).solve(3.0)
    np.testing.assert_array_equal(several, one)
