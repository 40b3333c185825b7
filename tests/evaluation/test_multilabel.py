"""Several labels a text: measures, thresholds, baselines, suspected labels."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, log_loss, roc_auc_score

from rehead.data.examples import Examples
from rehead.evaluation import baselines
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.calibration import at_temperature, temperature
from rehead.evaluation.decisions import DecisionConfig, MultilabelRule, choose_rule, saved_rule
from rehead.evaluation.label_noise import rank
from rehead.evaluation.metrics import measure
from rehead.evaluation.report import mistakes
from rehead.runtime.errors import SettingError

NAMES = ("crude", "grain", "ship")


def drawn(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated logits, and labels drawn from them; some rows have no label, some all."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(n, 3)) - [1.0, 0.0, 2.0]
    return logits, (generator.random((n, 3)) < expit(logits)).astype(np.int64)


def test_measures_are_those_of_scikit_learn() -> None:
    logits, labels = drawn()
    probabilities = expit(logits)
    predicted = probabilities >= 0.5
    measured = measure(probabilities, labels, NAMES)
    assert measured.accuracy == accuracy_score(labels, predicted)
    assert measured.hamming_loss == hamming_loss(labels, predicted)
    for how in ("micro", "macro", "weighted"):
        assert getattr(measured, f"{how}_f1") == pytest.approx(f1_score(labels, predicted, average=how))
    assert measured.roc_auc == pytest.approx(roc_auc_score(labels, probabilities, average="macro"))
    of_classes = [log_loss(labels[:, i], probabilities[:, i]) for i in range(3)]
    assert measured.log_loss == pytest.approx(np.mean(of_classes))
    assert measured.labels_a_text == pytest.approx(labels.sum() / len(labels))
    assert [row.support for row in measured.per_class] == labels.sum(0).tolist()
    for name, (low, high) in measured.intervals.items():
        assert low <= getattr(measured, name) <= high


def test_class_that_neither_occurs_nor_is_predicted_is_left_out_of_macro_f1() -> None:
    probabilities, labels = np.array([[0.9, 0.1], [0.2, 0.1]]), np.array([[1, 0], [0, 0]])
    assert measure(probabilities, labels, ("a", "b")).macro_f1 == 1.0


def test_class_that_a_rule_never_chooses_and_no_text_has_is_left_out_of_its_macro_f1() -> None:
    labels = np.array([[1, 0, 0], [0, 1, 0]])
    assert MultilabelRule(np.full(3, 0.5)).measured(labels.astype(float), labels, NAMES).test.macro_f1 == 1.0


def test_log_loss_lies_in_its_interval_where_a_label_is_missed_with_certainty() -> None:
    probabilities, labels = np.full((40, 3), 1e-3), np.zeros((40, 3), dtype=np.int64)
    probabilities[:20, 0] = 0.0
    labels[:20, 0] = 1
    measured = measure(probabilities, labels, NAMES)
    low, high = measured.intervals["log_loss"]
    assert low <= measured.log_loss <= high


def test_calibrated_probabilities_have_a_small_error_and_others_a_large_one() -> None:
    logits, labels = drawn(20_000)
    assert measure(expit(logits), labels, NAMES).ece < 0.02
    assert measure(expit(4 * logits), labels, NAMES).ece > 0.05


def test_temperature_undoes_too_much_confidence() -> None:
    logits, labels = drawn(5000)
    assert temperature(3 * logits, labels) == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(at_temperature(expit(logits), 2.0, multilabel=True), expit(logits / 2), atol=1e-12)


def test_each_class_gets_the_threshold_of_its_best_f1() -> None:
    logits, labels = drawn(600)
    probabilities = expit(logits)
    rule = choose_rule(DecisionConfig("f1", "all"), probabilities, labels, NAMES)
    for label in range(3):
        best = max(f1_score(labels[:, label], probabilities[:, label] >= at) for at in probabilities[:, label])
        assert f1_score(labels[:, label], rule.choose(probabilities)[:, label]) == pytest.approx(best)
    even = MultilabelRule(np.full(3, 0.5)).measured(probabilities, labels, NAMES)
    assert rule.measured(probabilities, labels, NAMES).test.macro_f1 >= even.test.macro_f1


def test_one_class_can_have_a_threshold_of_its_own() -> None:
    logits, labels = drawn(600)
    rule = choose_rule(DecisionConfig("recall", "ship", 0.95), expit(logits), labels, NAMES)
    assert rule.thresholds[:2].tolist() == [0.5, 0.5]
    hit = rule.choose(expit(logits))[labels[:, 2] > 0, 2]
    assert hit.mean() >= 0.95


def test_class_without_validation_examples_keeps_even_odds() -> None:
    logits, labels = drawn(100)
    labels[:, 1] = 0
    assert choose_rule(DecisionConfig("f1", "all"), expit(logits), labels, NAMES).thresholds[1] == 0.5


def test_rule_comes_back_from_json() -> None:
    rule = MultilabelRule(np.array([0.1, 0.5, 0.9]))
    logits, labels = drawn(20)
    again = saved_rule(rule.measured(expit(logits), labels, NAMES).to_json(), NAMES, multilabel=True)
    assert isinstance(again, MultilabelRule)
    np.testing.assert_array_equal(again.thresholds, rule.thresholds)
    assert again.answers(np.array([[0.2, 0.2, 0.95], [0.0, 0.0, 0.0]]), NAMES) == [
        {"labels": ["crude", "ship"]},
        {"labels": []},
    ]


@pytest.mark.parametrize(
    "config",
    [
        DecisionConfig(costs={}),
        DecisionConfig(abstain_below=0.5),
        DecisionConfig(coverage=0.9),
        DecisionConfig("f1", "no such class"),
    ],
)
def test_what_makes_no_sense_with_several_labels_is_refused(config: DecisionConfig) -> None:
    with pytest.raises(SettingError, match="`"):
        config.require_possible(NAMES, 100, multilabel=True)


def texts_and_labels() -> Examples:
    words = {0: "oil barrel well", 1: "wheat corn rice", 2: "port vessel cargo"}
    rows = [[0], [1], [2], [0, 2], [1, 2], []] * 20
    texts = [" ".join(words[label] for label in row) + f" today {i}" for i, row in enumerate(rows)]
    labels = np.array([[int(label in row) for label in range(3)] for row in rows])
    return Examples(texts, labels, NAMES, np.arange(1, 121), "rows")


def test_baselines_learn_one_regression_a_class_and_come_back() -> None:
    examples = texts_and_labels()
    learned = baselines.learn(examples, examples)
    again = Baselines.from_tensors(learned.tensors())
    for one in (learned, again):
        answers = one.predict(examples)
        np.testing.assert_array_equal(answers["tfidf"], examples.labels)
        assert answers["majority"].shape == (120, 3)
    assert again.predict_majority(0).shape == (0, 3)


def test_class_that_no_training_example_has_is_never_predicted() -> None:
    examples = texts_and_labels()
    without = examples.take(np.flatnonzero(examples.labels[:, 2] == 0))
    predicted = baselines.learn(without, examples).predict(examples)["tfidf"]
    assert not predicted[:, 2].any()
    assert predicted[:, 0].any()


def test_planted_wrong_labels_come_first() -> None:
    generator = np.random.default_rng(3)
    truth = (generator.random((500, 3)) < 0.3).astype(np.int64)
    probabilities = expit(generator.normal(size=(500, 3)) + 6 * truth - 3)
    wrong = generator.permutation(500)[:25]
    given = truth.copy()
    given[wrong, generator.integers(0, 3, 25)] ^= 1
    ranking = rank(probabilities, given)
    assert np.isin(wrong, ranking.order[:50]).mean() >= 0.8
    np.testing.assert_array_equal(ranking.suggested[ranking.order[:10]], truth[ranking.order[:10]])


def test_most_confident_mistake_is_the_surest_wrong_decision() -> None:
    test = Examples(["a", "b", "c"], np.array([[1, 0], [0, 1], [1, 1]]), ("x", "y"), np.array([1, 2, 3]), "t")
    found = mistakes(np.array([[0.9, 0.8], [0.01, 0.99], [0.03, 0.6]]), test)
    assert [(mistake.line, mistake.label, mistake.predicted) for mistake in found] == [(3, "x;y", "y"), (1, "x", "x;y")]
    assert found[0].probability == pytest.approx(0.97)
