"""An evaluation: classifier and baselines on the same texts, with and without what was learned from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from rehead.data.examples import Examples
from rehead.data.labels import Labels
from rehead.evaluation import likelihood
from rehead.evaluation.baselines import learn
from rehead.evaluation.decisions import SingleLabelRule
from rehead.evaluation.evaluation import (
    BaselineMetrics,
    Evaluation,
    Predictions,
    calibration_effect,
    evaluate_predictions,
)
from rehead.evaluation.metrics import calibration_error
from tests.tiny_texts import messages


def tiny_messages(n: int, start: int = 0) -> Examples:
    texts, labels = messages(n, start)
    ids = np.array([int(label == "spam") for label in labels])
    return Examples(texts, ids, ("ham", "spam"), np.arange(1, n + 1), "test")


TEST = tiny_messages(20, 50)
RIGHT = softmax(3.0 * np.eye(2)[TEST.labels], axis=1)
NONE, ALL = np.zeros(20, bool), np.ones(20, bool)


def predicted(
    probabilities: np.ndarray,
    baselines: dict[str, Labels] | None,
    repeated: np.ndarray = NONE,
    near: np.ndarray = NONE,
    base: str = "",
) -> Predictions:
    return Predictions(TEST, probabilities, np.zeros(20, dtype=np.int64), baselines, repeated, near, base)


def evaluated(*args: Any, **others: Any) -> Evaluation:
    return evaluate_predictions(predicted(*args, **others), SingleLabelRule())


def test_baselines_are_measured_on_the_same_texts() -> None:
    train = tiny_messages(40)
    evaluation = evaluated(RIGHT, learn(train, train).predict(TEST))
    assert evaluation.test.accuracy == 1.0
    assert evaluation.baselines["tfidf"] == BaselineMetrics(1.0, 1.0)
    assert evaluation.baselines["majority"] == BaselineMetrics(0.5, pytest.approx(1 / 3))
    assert evaluation.comparison.verdict.endswith("no number of examples is likely to separate them")
    assert evaluation.overlap is None


def test_without_baselines_nothing_is_compared() -> None:
    evaluation = evaluated(RIGHT, None)
    assert (evaluation.baselines, evaluation.comparison) == (None, None)


def test_texts_that_were_learned_from_are_left_out_of_the_second_measure() -> None:
    same, near = np.zeros(20, bool), np.zeros(20, bool)
    same[:3] = near[:5] = True
    wrong_when_seen = RIGHT.copy()
    wrong_when_seen[:5] = 1 - RIGHT[:5]
    train = tiny_messages(40)
    evaluation = evaluated(wrong_when_seen, learn(train, train).predict(TEST), same, near)
    overlap = evaluation.overlap
    assert overlap is not None
    assert overlap.test_without is not None
    assert overlap.comparison_without is not None
    assert (overlap.n, overlap.near, overlap.test_without.n) == (3, 2, 15)
    assert evaluation.test.accuracy == 0.75
    assert overlap.test_without.accuracy == 1.0
    assert (evaluation.comparison.n, overlap.comparison_without.n) == (20, 15)
    assert evaluation.comparison.only_other == 5


def test_nothing_is_measured_where_all_was_learned_from() -> None:
    overlap = evaluated(RIGHT, None, ALL, ALL).overlap
    assert overlap is not None
    assert (overlap.n, overlap.test_without, overlap.baselines_without) == (20, None, None)


def test_calibration_effect_holds_what_was_before() -> None:
    before = softmax(9.0 * np.eye(2)[TEST.labels], axis=1)
    effect = calibration_effect(predicted(RIGHT, None), 3.0)
    assert effect.temperature == 3.0
    assert effect.ece_before == pytest.approx(1 - before.max(1).mean(), abs=1e-6)


def test_verdict_on_a_model_worse_than_the_baseline_names_the_option_that_gives_it() -> None:
    train = tiny_messages(40)
    answers = learn(train, train).predict(TEST)
    worse = evaluated(1 - RIGHT, answers, base="minilm").comparison.verdict
    assert "logistic regression (--model tfidf) instead of the language model" in worse


def test_the_baseline_as_a_classifier_is_compared_with_the_most_frequent_label() -> None:
    train = tiny_messages(40)
    evaluation = evaluated(RIGHT, learn(train, train).predict(TEST), base="tfidf")
    assert evaluation.comparison.verdict.startswith("better than the majority class, p = 0.002")
    assert evaluation.baselines.keys() == {"majority", "tfidf"}


def test_the_calibration_effect_leaves_what_stands_beside_the_head_as_it_is() -> None:
    head, beside = np.random.default_rng(0).normal(size=(2, len(RIGHT), 2))
    labels = predicted(RIGHT, None).test.labels
    calibrated = replace(predicted(RIGHT, None), probabilities=softmax(head / 3 + beside, axis=1), beside=beside)
    effect = calibration_effect(calibrated, 3.0)
    before = head + beside
    assert effect.log_loss_before == pytest.approx(likelihood.losses(before, labels).mean())
    assert effect.ece_before == pytest.approx(calibration_error(softmax(before, axis=1), labels))
