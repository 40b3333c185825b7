"""Evaluate a classifier on test examples, beside the baselines and without those it has learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Examples, Index
from rehead.data.labels import Labels, are_right, most_probable
from rehead.evaluation import likelihood
from rehead.evaluation.baselines import rivals
from rehead.evaluation.calibration import at_temperature
from rehead.evaluation.comparison import Comparison, compare
from rehead.evaluation.decisions import DecisionRule, MultilabelDecisions, SingleLabelDecisions
from rehead.evaluation.metrics import MultilabelMetrics, SingleLabelMetrics, calibration_error, macro_f1, measure
from rehead.models.registry import TFIDF
from rehead.runtime.results import Result


@dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier and of the baselines for test examples.

    Attributes:
        test: n labelled examples.
        probabilities: (n, n_classes) of the classifier.
        tokens_cut: (n,) how many tokens of each text were cut off.
        baselines: of each baseline, (n,) class ids or (n, n_classes); None where the classifier was saved without any.
        repeated: (n,) which of the examples were learned from, up to white space and case.
        near: (n,) which were learned from, or are nearly the same as one that was.
        base: of the classifier, which is not compared with itself where it is one of the baselines.
        features: (m, width) that the head saw of some of them; None where they were not kept.
        beside: (n, n_classes) what was added to the head's divided logits; None for nothing, or where it is not known.
    """

    test: Examples
    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]
    baselines: dict[str, Labels] | None
    repeated: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]
    base: str = ""
    features: npt.NDArray[np.float32] | None = None
    beside: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class BaselineMetrics:
    """Metrics of a baseline on the same test examples."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class Overlap:
    """Test examples that were learned from, and the evaluation without them; None where none is left.

    Attributes:
        n: examples that were learned from, up to white space and case.
        near: examples that were learned from with small changes.
    """

    n: int
    near: int
    test_without: SingleLabelMetrics | MultilabelMetrics | None
    baselines_without: dict[str, BaselineMetrics] | None
    comparison_without: Comparison | None


@dataclass(frozen=True)
class Evaluation(Result):
    """Metrics of a classifier on test examples, beside those of the baselines.

    Attributes:
        what: what the examples are, `texts` or `images`.
        baselines: by name; None for a classifier that was saved without any.
        comparison: with the strongest of the baselines.
        overlap: of the test examples with those that were learned from; None where there is none.
        decisions: how labels are chosen by the probabilities; the metrics are of the most probable labels.
    """

    what: str
    test: SingleLabelMetrics | MultilabelMetrics
    baselines: dict[str, BaselineMetrics] | None
    comparison: Comparison | None
    overlap: Overlap | None
    decisions: SingleLabelDecisions | MultilabelDecisions

    @property
    def fair_comparison(self) -> Comparison | None:
        """The comparison on examples that were not learned from."""
        return (self.overlap and self.overlap.comparison_without) or self.comparison


def evaluate_predictions(predictions: Predictions, rule: DecisionRule) -> Evaluation:
    """Return how good predictions are, in all and without the test examples that were learned from."""
    test, near = predictions.test, predictions.near
    measured, baselines, comparison = _on(np.arange(len(test)), predictions)
    overlap = None
    if near.any():
        unseen = np.flatnonzero(~near)
        repeated = predictions.repeated
        without = _on(unseen, predictions) if len(unseen) else (None, None, None)
        overlap = Overlap(int(repeated.sum()), int((near & ~repeated).sum()), *without)
    decisions = rule.measured(predictions.probabilities, test.labels, test.label_names)
    return Evaluation(test.what, measured, baselines, comparison, overlap, decisions)


def _on(
    rows: Index, predictions: Predictions
) -> tuple[SingleLabelMetrics | MultilabelMetrics, dict[str, BaselineMetrics] | None, Comparison | None]:
    """Return metrics of the classifier and of the baselines on some of the test examples, and which is better."""
    test, probabilities = predictions.test, predictions.probabilities[rows]
    labels, weights = test.labels[rows], None if test.weights is None else test.weights[rows]
    measured = measure(probabilities, labels, test.label_names, weights)
    if not predictions.baselines:
        return measured, None, None
    baselines = {
        name: BaselineMetrics(
            float(np.average(are_right(labels, answer[rows]), weights=weights)), macro_f1(labels, answer[rows], weights)
        )
        for name, answer in predictions.baselines.items()
    }
    is_ngrams = predictions.base == TFIDF
    strongest, name = next(iter(rivals(baselines, predictions.base, multilabel=test.multilabel).items()))
    comparison = compare(
        are_right(labels, most_probable(probabilities, test.multilabel)),
        are_right(labels, predictions.baselines[strongest][rows]),
        f"the {name}" if is_ngrams else name,
        "n-grams" if is_ngrams else "language model" if test.images is None else "vision model",
        test.what,
        f"--model {TFIDF}" if strongest == TFIDF else None,
    )
    return measured, baselines, comparison


@dataclass(frozen=True)
class CalibrationEffect:
    """The effect of the temperature, which validation chose, on the test's probabilities.

    Attributes:
        temperature: that the logits were divided by.
        ece_before, log_loss_before: expected calibration error and log loss, had they not been.
    """

    temperature: float
    ece_before: float
    log_loss_before: float


def calibration_effect(predictions: Predictions, temperature: float) -> CalibrationEffect:
    """Return what predictions by calibrated logits would be without the calibration.

    Args:
        predictions: on the test examples.
        temperature: that the head's logits were divided by; what stands beside them was not.
    """
    test = predictions.test
    before = at_temperature(predictions.probabilities, 1 / temperature, test.multilabel)
    logits = likelihood.logits_of(before, test.multilabel)
    if predictions.beside is not None:
        logits -= (temperature - 1) * predictions.beside.astype(np.float64)
        before = likelihood.probabilities(logits, test.multilabel)
    losses = likelihood.losses(logits, test.labels)
    return CalibrationEffect(temperature, calibration_error(before, test.labels), float(losses.mean()))
