"""Confident learning finds planted wrong labels, and leaves right ones alone."""

import numpy as np
import pytest
from scipy.special import softmax

from rehead.evaluation.label_noise import rank


def planted(n: int = 600, n_classes: int = 4, share: float = 0.05) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Good probabilities of the true classes, labels of which some were changed, and which were."""
    generator = np.random.default_rng(0)
    truth = generator.integers(0, n_classes, n)
    probabilities = softmax(generator.normal(size=(n, n_classes)) + 4 * np.eye(n_classes)[truth], axis=1)
    wrong = generator.random(n) < share
    labels = np.where(wrong, (truth + generator.integers(1, n_classes, n)) % n_classes, truth)
    return probabilities, labels, wrong


def test_planted_errors_come_first() -> None:
    probabilities, labels, wrong = planted()
    tenth = rank(probabilities, labels).order[: len(labels) // 10]
    assert wrong[tenth].sum() >= 0.9 * wrong.sum()


def test_suspected_are_mostly_those_that_were_planted() -> None:
    probabilities, labels, wrong = planted()
    suspected = rank(probabilities, labels).is_suspected
    assert (suspected & wrong).sum() >= 0.6 * wrong.sum()
    assert (suspected & wrong).sum() >= 0.8 * suspected.sum()


def test_right_labels_of_a_sure_classifier_are_not_suspected() -> None:
    labels = np.array([0, 1, 2] * 10)
    assert not rank(0.8 * np.eye(3)[labels] + 0.2 / 3, labels).is_suspected.any()


def test_other_class_and_margin_are_told() -> None:
    ranking = rank(np.array([[0.1, 0.7, 0.2], [0.9, 0.05, 0.05]]), np.array([0, 0]))
    assert ranking.order.tolist() == [0, 1]
    assert ranking.suggested.tolist() == [1, 1]
    assert ranking.margin == pytest.approx([-0.6, 0.85])


def test_class_that_no_example_has_suspects_nobody() -> None:
    ranking = rank(np.array([[0.4, 0.0, 0.6], [0.6, 0.4, 0.0]]), np.array([0, 1]))
    assert not ranking.is_suspected[0]
