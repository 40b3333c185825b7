"""Rules that turn probabilities into labels do what was asked for, on validation and, within chance, on the test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import f1_score, precision_score, recall_score

from rehead.evaluation.decisions import (
    DecisionConfig,
    SingleLabelRule,
    choose_rule,
    saved_rule,
    set_threshold,
    threshold_for,
)
from rehead.runtime.errors import SettingError

NAMES = ("ham", "spam", "news")


def drawn(n: int, seed: int = 0, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = softmax(2 * generator.normal(size=(n, n_classes)), axis=1)
    return probabilities, np.array([generator.choice(n_classes, p=row) for row in probabilities])


def test_most_probable_label_is_chosen_by_default() -> None:
    probabilities, _ = drawn(50)
    assert SingleLabelRule().choose(probabilities).tolist() == probabilities.argmax(1).tolist()


def test_below_the_threshold_the_most_probable_other_label_is_chosen() -> None:
    probabilities = np.array([[0.2, 0.7, 0.1], [0.1, 0.85, 0.05], [0.8, 0.1, 0.1]])
    assert SingleLabelRule(threshold=(1, 0.8)).choose(probabilities).tolist() == [0, 1, 0]
    assert SingleLabelRule(threshold=(1, 0.05)).choose(probabilities).tolist() == [1, 1, 1]


def test_answer_with_the_least_expected_cost_is_chosen() -> None:
    costs = np.array([[0.0, 1.0], [10.0, 0.0]])  # to miss the second class costs ten times as much
    probabilities = np.array([[0.85, 0.15], [0.95, 0.05]])
    assert SingleLabelRule(costs=costs).choose(probabilities).tolist() == [1, 0]


def test_it_abstains_where_it_is_not_sure() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]])
    assert SingleLabelRule(abstain_below=0.6).choose(probabilities).tolist() == [-1, 0]


@pytest.mark.parametrize("measure", ["precision", "recall"])
@given(least=st.floats(0.5, 0.95), seed=st.integers(0, 50))
def test_threshold_reaches_what_was_wanted_of_it(measure: str, least: float, seed: int) -> None:
    probabilities, labels = drawn(200, seed, 2)
    try:
        at = threshold_for(probabilities, labels, 1, measure, least)
    except SettingError:
        assert measure == "precision"  # all called so has a recall of 1, but the surest may be wrong
        return
    predicted = SingleLabelRule(threshold=(1, at)).choose(probabilities) == 1
    score = precision_score if measure == "precision" else recall_score
    assert score(labels == 1, predicted) >= least


def test_of_thresholds_that_reach_a_precision_the_one_with_the_best_recall_is_taken() -> None:
    probabilities = np.array([[1 - p, p] for p in (0.9, 0.8, 0.7, 0.6, 0.3)])
    labels = np.array([1, 1, 1, 0, 0])
    assert 0.6 < threshold_for(probabilities, labels, 1, "precision", 0.99) <= 0.7


def test_threshold_lies_halfway_between_those_that_it_parts() -> None:
    probabilities = np.array([[1 - p, p] for p in (0.999, 0.99, 0.01, 0.001)])
    assert threshold_for(probabilities, np.array([1, 1, 0, 0]), 1, "f1", 0.0) == pytest.approx(0.5)


def test_threshold_for_f1_has_the_best_there_is() -> None:
    probabilities, labels = drawn(200, 3, 2)
    at = threshold_for(probabilities, labels, 1, "f1", 0.0)
    best = max(f1_score(labels == 1, probabilities[:, 1] >= other) for other in probabilities[:, 1])
    assert f1_score(labels == 1, SingleLabelRule(threshold=(1, at)).choose(probabilities) == 1) == pytest.approx(best)


def test_precision_that_is_never_reached_is_refused_with_what_is() -> None:
    probabilities = np.array([[0.1, 0.9], [0.2, 0.8]])
    with pytest.raises(SettingError, match=r"0\.5000 at most"):
        threshold_for(probabilities, np.array([0, 1]), 1, "precision", 0.9)


def test_class_without_validation_examples_has_no_threshold() -> None:
    with pytest.raises(SettingError, match="no validation example"):
        threshold_for(np.array([[0.1, 0.9]]), np.array([0]), 1, "recall", 0.9)


class _AsTheyAre(ClassifierMixin, BaseEstimator):
    """Gives probabilities back as they are."""

    def __init__(self) -> None:
        self.classes_ = np.arange(3)
        self.is_fitted_ = True

    def fit(self, X: np.ndarray, y: np.ndarray) -> "_AsTheyAre":
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return X

    def predict(self, X: np.ndarray) -> np.ndarray:
        return X.argmax(1)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_sets_are_those_of_mapie(coverage: float) -> None:
    probabilities, labels = drawn(150)
    fresh, _ = drawn(200, seed=1)
    conformal = SplitConformalClassifier(_AsTheyAre(), confidence_level=coverage, conformity_score="lac", prefit=True)
    _, theirs = conformal.conformalize(probabilities, labels).predict_set(fresh)
    ours = fresh >= set_threshold(probabilities, labels, coverage)
    np.testing.assert_array_equal(ours, theirs[:, :, 0])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_true_label_as_often_as_was_wanted(coverage: float) -> None:
    probabilities, labels = drawn(2000)
    rule = SingleLabelRule(set_above=set_threshold(probabilities, labels, coverage), coverage=coverage)
    sets = rule.measured(*drawn(4000, seed=1), NAMES).test.sets
    assert sets is not None
    assert sets.coverage == pytest.approx(coverage, abs=0.02)
    assert 1 <= sets.set_size <= 3


def test_coverage_that_the_examples_cannot_show_is_refused() -> None:
    with pytest.raises(SettingError, match="99 validation examples"):
        DecisionConfig(coverage=0.99).require_possible(NAMES, 98, multilabel=False)
    DecisionConfig(coverage=0.99).require_possible(NAMES, 99, multilabel=False)


def test_most_probable_label_is_always_in_the_set() -> None:
    assert SingleLabelRule(set_above=0.9).sets(np.array([[0.5, 0.3, 0.2]])).tolist() == [[True, False, False]]


def test_what_a_rule_comes_to_is_measured() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.45, 0.55, 0.0], [0.4, 0.3, 0.3]])
    labels = np.array([0, 1, 0, 2])
    rule = SingleLabelRule(threshold=(1, 0.5), abstain_below=0.5)
    outcome = rule.measured(probabilities, labels, NAMES).to_json()["test"]
    expected = {"answered": 0.75, "accuracy": pytest.approx(2 / 3), "label": "spam", "precision": 0.5, "recall": 1}
    assert outcome == {**expected, "specificity": pytest.approx(2 / 3)}
    costs = np.array([[0, 1, 1], [5, 0, 5], [1, 1, 0]])
    assert SingleLabelRule(costs=costs).measured(probabilities, labels, NAMES).test.cost == 0.5  # twice 1


def test_rule_is_made_of_what_is_wanted() -> None:
    probabilities, labels = drawn(300)
    config = DecisionConfig("recall", "spam", 0.9, abstain_below=0.4, coverage=0.9)
    rule = choose_rule(config, probabilities, labels, NAMES)
    assert rule.threshold == (1, threshold_for(probabilities, labels, 1, "recall", 0.9))
    assert (rule.abstain_below, rule.set_above) == (0.4, set_threshold(probabilities, labels, 0.9))
    costs = choose_rule(DecisionConfig(costs={"ham": {"spam": 5}}), probabilities, labels, NAMES).costs
    assert costs is not None
    assert costs.tolist() == [[0, 5, 1], [1, 0, 1], [1, 1, 0]]


def test_rule_survives_json() -> None:
    rule = SingleLabelRule((2, 0.7), np.array([[0.0, 1.0, 2.0]] * 3), 0.4, 0.05, 0.95)
    again = saved_rule(rule.measured(*drawn(20), NAMES).to_json(), NAMES, multilabel=False)
    assert isinstance(again, SingleLabelRule)
    assert again.costs.tolist() == rule.costs.tolist()
    assert (again.threshold, again.abstain_below, again.set_above, again.coverage) == ((2, 0.7), 0.4, 0.05, 0.95)
    plain = SingleLabelRule().measured(*drawn(20), NAMES).to_json()
    assert saved_rule(plain, NAMES, multilabel=False) == saved_rule(None, NAMES, multilabel=False) == SingleLabelRule()
