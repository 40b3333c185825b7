"""Metrics against numbers worked out by hand, and what holds for any predictions."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score
from torchmetrics.functional.classification import binary_calibration_error

from rehead.evaluation.metrics import calibration_gap, macro_f1, measure

NAMES = ("ham", "spam", "news")

# True:      ham ham ham ham spam spam spam news
# Predicted: ham ham ham spam spam spam ham ham
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 0, 0])


def certain(predicted: np.ndarray, n_classes: int = 3, confidence: float = 0.8) -> np.ndarray:
    """Probabilities that give `confidence` to the predicted class and the same to each of the others."""
    probabilities = np.full((len(predicted), n_classes), (1 - confidence) / (n_classes - 1))
    probabilities[np.arange(len(predicted)), predicted] = confidence
    return probabilities


@pytest.fixture
def measured():
    return measure(certain(PREDICTED), LABELS, NAMES)


def test_accuracy_is_the_share_of_right_predictions(measured) -> None:
    assert measured.n == 8
    assert measured.accuracy == 5 / 8


def test_confusion_has_true_classes_as_rows(measured) -> None:
    assert measured.confusion == [[3, 1, 0], [1, 2, 0], [1, 0, 0]]


def test_each_class_has_precision_recall_f1_and_support(measured) -> None:
    ham, spam, news = measured.per_class
    assert (ham.label, ham.support, spam.label, spam.support) == ("ham", 4, "spam", 3)
    assert (ham.precision, ham.recall, ham.f1) == pytest.approx((3 / 5, 3 / 4, 2 / 3))
    assert (spam.precision, spam.recall, spam.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (news.label, news.precision, news.recall, news.f1, news.support) == ("news", 0, 0, 0, 1)


def test_macro_f1_is_the_mean_of_the_classes_f1(measured) -> None:
    assert measured.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)


def test_macro_f1_leaves_out_a_class_that_neither_occurs_nor_is_predicted() -> None:
    assert macro_f1(np.array([0, 0, 2, 2]), np.array([0, 0, 2, 0])) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_log_loss_is_the_mean_negative_log_of_the_true_class(measured) -> None:
    assert measured.log_loss == pytest.approx(-(5 * math.log(0.8) + 3 * math.log(0.1)) / 8)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    # Wilson (1927): (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.959964
    [(8, 10, 0.490162, 0.943318), (10, 10, 0.722467, 1.0), (0, 10, 0.0, 0.277533), (50, 100, 0.403832, 0.596168)],
)
def test_interval_is_wilsons(right: int, n: int, low: float, high: float) -> None:
    labels = np.zeros(n, dtype=np.int64)
    predicted = np.array([0] * right + [1] * (n - right))
    assert measure(certain(predicted, 2), labels, ("a", "b")).accuracy_ci == pytest.approx((low, high), abs=1e-6)


def test_calibration_error_is_the_mean_gap_between_confidence_and_accuracy_in_a_bin() -> None:
    # Bins are 1/15 wide: 0.95 alone, right; 0.70 twice, right once. (1 · |1 - 0.95| + 2 · |0.5 - 0.7|) / 3
    probabilities = np.array([[0.95, 0.05], [0.7, 0.3], [0.7, 0.3]])
    assert measure(probabilities, np.array([0, 0, 1]), ("a", "b")).ece == pytest.approx(0.15)


@given(confidence=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=50), seed=st.integers(0, 9))
def test_calibration_error_is_that_of_torchmetrics(confidence: list[float], seed: int) -> None:
    # On a bin's edge rounding decides.
    values = np.array([value for value in confidence if abs(value * 15 - round(value * 15)) > 1e-9] or [0.5])
    came_true = np.random.default_rng(seed).random(len(values)) < values
    theirs = binary_calibration_error(torch.from_numpy(values), torch.from_numpy(came_true).long(), n_bins=15)
    assert calibration_gap(values, came_true) == pytest.approx(float(theirs), abs=1e-6)


def test_certain_and_right_is_calibrated() -> None:
    probabilities = np.eye(3)[LABELS]
    measured = measure(probabilities, LABELS, NAMES)
    assert (measured.accuracy, measured.macro_f1, measured.ece) == pytest.approx((1, 1, 0))
    assert measured.log_loss == pytest.approx(0, abs=1e-12)


def test_certain_and_wrong_has_a_finite_log_loss() -> None:
    assert math.isfinite(measure(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b")).log_loss)


def test_json_holds_plain_numbers_and_lists(measured) -> None:
    as_json = measured.to_json()
    assert as_json["per_class"][0]["label"] == "ham"
    assert all(type(count) is int for row in as_json["confusion"] for count in row)
    assert all(type(as_json[name]) is float for name in ("accuracy", "macro_f1", "log_loss", "ece"))


def test_softmax_against_a_hand_computed_row() -> None:
    logits = np.array([[math.log(1), math.log(3)], [1000.0, 1000.0]])
    np.testing.assert_allclose(softmax(logits, axis=1), [[0.25, 0.75], [0.5, 0.5]])


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) of 2 to 4 classes, and labels."""
    n, k = draw(st.integers(1, 25)), draw(st.integers(2, 4))
    logits = draw(st.lists(st.lists(st.floats(-20, 20), min_size=k, max_size=k), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return softmax(np.array(logits), axis=1), np.array(labels, dtype=np.int64)


@given(scored())
def test_for_any_predictions_the_numbers_agree_with_each_other(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    measured = measure(probabilities, labels, ("a", "b", "c", "d")[: probabilities.shape[1]])
    confusion = np.array(measured.confusion)
    low, high = measured.accuracy_ci
    assert confusion.sum() == measured.n == len(labels)
    assert np.trace(confusion) / len(labels) == measured.accuracy
    assert 0 <= low <= measured.accuracy <= high <= 1
    assert confusion.sum(1).tolist() == [row.support for row in measured.per_class]
    assert 0 <= measured.macro_f1 <= 1
    assert 0 <= measured.ece <= 1
    assert measured.log_loss >= 0


@given(scored())
def test_for_any_predictions_scikit_learn_agrees(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    measured = measure(probabilities, labels, ("a", "b", "c", "d")[: probabilities.shape[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class alone, or one never seen, is no mistake here
        assert measured.balanced_accuracy == pytest.approx(balanced_accuracy_score(labels, probabilities.argmax(1)))
    truth = np.eye(probabilities.shape[1])[labels]
    assert measured.brier == pytest.approx(((probabilities - truth) ** 2).sum(1).mean())
    assert measured.pr_auc is None or 0 <= measured.pr_auc <= 1
    assert (measured.roc_auc is None) == (len(set(labels.tolist())) == 1)


def test_areas_are_one_where_the_classes_are_told_apart(measured) -> None:
    apart = measure(certain(LABELS), LABELS, NAMES)
    assert (apart.roc_auc, apart.pr_auc, apart.mcc, apart.brier) == pytest.approx((1, 1, 1, 0.06))
    assert [row.roc_auc for row in apart.per_class] == [1, 1, 1]


def test_areas_of_a_class_without_examples_are_not_known() -> None:
    news = measure(certain(np.array([0, 1, 0])), np.array([0, 1, 1]), NAMES).per_class[2]
    assert (news.roc_auc, news.pr_auc, news.support) == (None, None, 0)


def test_sensitivity_is_the_recall_at_which_one_in_twenty_others_is_taken_for_the_class() -> None:
    scores = np.concatenate([np.linspace(0, 0.9, 100), np.linspace(0.05, 0.95, 10)])
    labels = np.repeat([0, 1], [100, 10])
    told = measure(np.stack([1 - scores, scores], axis=1), labels, ("benign", "malignant")).per_class[1]
    # The five highest of the others lie above 0.9 * 94 / 99.
    assert told.sensitivity == (scores[100:] > 0.9 * 94 / 99).mean()
