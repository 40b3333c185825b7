"""Bootstrap intervals: scikit-learn's measures on the same resamples, and as wide as theory has them."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    hamming_loss,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)

from rehead.evaluation import intervals
from rehead.evaluation.intervals import bootstrap


def bootstrap_of(measure: Callable[[np.ndarray], float], n: int) -> tuple[float, float]:
    """Return the plain percentile interval of any measure of the examples at positions that may repeat."""
    generator = np.random.default_rng(0)
    values = [measure(generator.integers(0, n, n)) for _ in range(1000)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def case(n: int = 80, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, n_classes, n)
    return softmax(generator.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[labels], axis=1), labels


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("balanced_accuracy", lambda p, y: balanced_accuracy_score(y, p.argmax(1))),
        ("macro_f1", lambda p, y: f1_score(y, p.argmax(1), average="macro")),
        ("weighted_f1", lambda p, y: f1_score(y, p.argmax(1), average="weighted")),
        ("mcc", lambda p, y: matthews_corrcoef(y, p.argmax(1))),
        ("roc_auc", lambda p, y: roc_auc_score(np.eye(4)[y], p, average="macro")),
        ("pr_auc", lambda p, y: average_precision_score(np.eye(4)[y], p, average="macro")),
        ("log_loss", lambda p, y: log_loss(y, p, labels=range(4))),
        ("brier", lambda p, y: ((p - np.eye(4)[y]) ** 2).sum(1).mean()),
    ],
)
def test_interval_is_that_of_scikit_learns_measure(name: str, measure) -> None:
    probabilities, labels = case()
    ours = bootstrap(probabilities, labels)[name]
    theirs = bootstrap_of(lambda rows: measure(probabilities[rows], labels[rows]), len(labels))
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("micro_f1", lambda p, y: f1_score(y, p >= 0.5, average="micro")),
        ("macro_f1", lambda p, y: f1_score(y, p >= 0.5, average="macro")),
        ("weighted_f1", lambda p, y: f1_score(y, p >= 0.5, average="weighted")),
        ("hamming_loss", lambda p, y: hamming_loss(y, p >= 0.5)),
        ("roc_auc", lambda p, y: roc_auc_score(y, p, average="macro")),
        ("pr_auc", lambda p, y: average_precision_score(y, p, average="macro")),
        ("log_loss", lambda p, y: -np.where(y, np.log(p), np.log1p(-p)).mean()),
        ("brier", lambda p, y: ((p - y) ** 2).mean()),
    ],
)
def test_so_it_is_where_a_text_may_have_several_labels(name: str, measure) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (80, 3))
    probabilities = (1 / (1 + np.exp(-generator.normal(size=(80, 3)) - 2 * labels + 1))).round(2).clip(0.01, 0.99)
    ours = bootstrap(probabilities, labels)[name]
    theirs = bootstrap_of(lambda rows: measure(probabilities[rows], labels[rows]), 80)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_class_that_some_resamples_lack_has_an_area_in_the_others() -> None:
    labels = np.array([0] * 30 + [1])
    low, high = bootstrap(np.eye(2)[labels] * 0.8 + 0.1, labels)["roc_auc"]
    assert (low, high) == (1.0, 1.0)


def test_one_class_alone_has_no_area() -> None:
    assert "roc_auc" not in bootstrap(np.array([[0.9, 0.1]] * 5), np.zeros(5, dtype=np.int64))


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, labels = case()
    whole = bootstrap(probabilities, labels)
    monkeypatch.setattr(intervals, "_PORTION", 1)
    for name, ends in bootstrap(probabilities, labels).items():
        assert ends == pytest.approx(whole[name])


def test_mean_of_many_has_the_interval_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).normal(size=2000)
    low, high = bootstrap_of(lambda rows: values[rows].mean(), len(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_certain_predictions_have_no_width() -> None:
    labels = np.array([0, 1] * 20)
    assert bootstrap(np.eye(2)[labels], labels)["macro_f1"] == (1.0, 1.0)
