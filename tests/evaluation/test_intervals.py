"""Bootstrap intervals: scikit-learn's measures on the same resamples, and as wide as theory has them."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from rehead.evaluation import intervals
from rehead.evaluation.intervals import bootstrap, bootstrap_of
from rehead.evaluation.metrics import softmax


def case(n: int = 80, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, n_classes, n)
    return softmax(generator.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[labels]), labels


@pytest.mark.parametrize(
    ("name", "measure"),
    [
        ("balanced_accuracy", lambda p, y: balanced_accuracy_score(y, p.argmax(1))),
        ("macro_f1", lambda p, y: f1_score(y, p.argmax(1), average="macro")),
        ("weighted_f1", lambda p, y: f1_score(y, p.argmax(1), average="weighted")),
        ("log_loss", lambda p, y: log_loss(y, p, labels=range(4))),
        ("brier", lambda p, y: ((p - np.eye(4)[y]) ** 2).sum(1).mean()),
    ],
)
def test_interval_is_that_of_scikit_learns_measure(name: str, measure) -> None:
    probabilities, labels = case()
    ours = bootstrap(probabilities, labels)[name]
    theirs = bootstrap_of(lambda rows: measure(probabilities[rows], labels[rows]), len(labels), 1000)
    assert ours == pytest.approx(theirs, abs=1e-9)


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
