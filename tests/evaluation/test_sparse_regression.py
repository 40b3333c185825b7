"""The solver finds what scikit-learn finds, in another space."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from rehead.evaluation import sparse_regression
from rehead.evaluation.sparse_regression import solutions


@pytest.fixture(autouse=True)
def _solved_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_regression, "_TOLERANCE", 1e-5)


def drawn(n_classes: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    generator = np.random.default_rng(n_classes)
    features = sparse.random(150, 400, 0.05, format="csr", dtype=np.float32, random_state=0)
    labels = (features @ generator.normal(size=(400, n_classes)) + generator.normal(size=n_classes)).argmax(1)
    labels[:n_classes] = np.arange(n_classes)
    return features, labels


@pytest.mark.parametrize("strength", [1.0, 100.0])
def test_solution_over_all_classes_is_that_of_scikit_learn(strength: float) -> None:
    features, labels = drawn(4)
    *_, found = solutions(features, np.eye(4)[labels], (0.3, strength), multilabel=False)
    theirs = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(features, labels)
    np.testing.assert_allclose(found.weight, theirs.coef_.T, atol=2e-3 * np.abs(theirs.coef_).max())
    differences = found.bias - theirs.intercept_
    np.testing.assert_allclose(differences, differences.mean(), atol=5e-3)


def test_solution_of_each_class_is_that_of_scikit_learn() -> None:
    features, labels = drawn(3)
    targets = np.stack([labels == 0, labels == 1], axis=1).astype(np.float64)
    (found,) = solutions(features, targets, (10.0,), multilabel=True)
    for label in range(2):
        theirs = LogisticRegression(C=10.0, max_iter=5000, tol=1e-8).fit(features, labels == label)
        np.testing.assert_allclose(found.weight[:, label], theirs.coef_[0], atol=2e-3 * np.abs(theirs.coef_).max())
        assert found.bias[label] == pytest.approx(theirs.intercept_[0], abs=5e-3)


def test_same_solution_with_one_core_and_with_many(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = drawn(3)
    (several,) = solutions(features, np.eye(3)[labels], (3.0,), multilabel=False)
    monkeypatch.setattr(sparse_regression.os, "cpu_count", lambda: 1)
    (one,) = solutions(features, np.eye(3)[labels], (3.0,), multilabel=False)
    np.testing.assert_array_equal(several.weight, one.weight)
