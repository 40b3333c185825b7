"""The facts of a report: classifier and baselines on the same texts, with and without what was learned from."""

import numpy as np
import pytest
from scipy.special import softmax

from rehead.data.examples import Examples
from rehead.evaluation.baselines import learn
from rehead.evaluation.scoring import Seen, calibration, measured
from tests.tiny_texts import messages


def tiny_messages(n: int, start: int = 0) -> Examples:
    texts, labels = messages(n, start)
    ids = np.array([int(label == "spam") for label in labels])
    return Examples(texts, ids, ("ham", "spam"), np.arange(1, n + 1), "test")


TEST = tiny_messages(20, 50)
RIGHT = softmax(3.0 * np.eye(2)[TEST.labels], axis=1)
NONE_SEEN = Seen(np.zeros(20, bool), np.zeros(20, bool))


def test_baselines_are_measured_on_the_same_texts() -> None:
    train = tiny_messages(40)
    facts = measured(RIGHT, TEST, NONE_SEEN, learn(train, train).predict(TEST))
    assert facts["test"]["accuracy"] == 1.0
    assert facts["baselines"]["tfidf"] == {"accuracy": 1.0, "macro_f1": 1.0}
    assert facts["baselines"]["majority"] == {"accuracy": 0.5, "macro_f1": pytest.approx(1 / 3)}
    assert facts["comparison"]["verdict"].endswith("no number of examples is likely to tell them apart")
    assert facts["overlap"] is None


def test_without_baselines_nothing_is_compared() -> None:
    facts = measured(RIGHT, TEST, NONE_SEEN, None)
    assert (facts["baselines"], facts["comparison"]) == (None, None)


def test_texts_that_were_learned_from_are_left_out_of_the_second_measure() -> None:
    same, near = np.zeros(20, bool), np.zeros(20, bool)
    same[:3] = near[:5] = True
    wrong_when_seen = RIGHT.copy()
    wrong_when_seen[:5] = 1 - RIGHT[:5]
    train = tiny_messages(40)
    facts = measured(wrong_when_seen, TEST, Seen(same, near), learn(train, train).predict(TEST))
    overlap = facts["overlap"]
    assert (overlap["n"], overlap["near"], overlap["test_without"]["n"]) == (3, 2, 15)
    assert facts["test"]["accuracy"] == 0.75
    assert overlap["test_without"]["accuracy"] == 1.0
    assert (facts["comparison"]["n"], overlap["comparison_without"]["n"]) == (20, 15)
    assert facts["comparison"]["only_other"] == 5


def test_nothing_is_measured_where_all_was_learned_from() -> None:
    everything = np.ones(20, bool)
    overlap = measured(RIGHT, TEST, Seen(everything, everything), None)["overlap"]
    assert (overlap["n"], overlap["test_without"], overlap["baselines_without"]) == (20, None, None)


def test_calibration_tells_what_was_before() -> None:
    before = softmax(9.0 * np.eye(2)[TEST.labels], axis=1)
    told = calibration(RIGHT, TEST, 3.0)
    assert told["temperature"] == 3.0
    assert told["ece_before"] == pytest.approx(1 - before.max(1).mean(), abs=1e-6)


def test_a_model_that_is_worse_than_the_baseline_is_told_the_option_that_gives_it() -> None:
    train = tiny_messages(40)
    answers = learn(train, train).predict(TEST)
    worse = measured(1 - RIGHT, TEST, NONE_SEEN, answers, "minilm")["comparison"]["verdict"]
    assert "logistic regression (--model tfidf) instead of the language model" in worse


def test_the_baseline_as_a_classifier_is_compared_with_the_most_frequent_label() -> None:
    train = tiny_messages(40)
    facts = measured(RIGHT, TEST, NONE_SEEN, learn(train, train).predict(TEST), "tfidf")
    assert facts["comparison"]["verdict"].startswith("better than the majority class, p = 0.002")
    assert facts["baselines"].keys() == {"majority", "tfidf"}
