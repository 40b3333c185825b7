"""How a classifier does on test examples, beside the baselines and without what it has seen: the facts of a report."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Examples, Index
from rehead.data.labels import Labels, are_right, is_multilabel, most_probable
from rehead.evaluation import likelihood, metrics, multilabel_metrics
from rehead.evaluation.baselines import rivals
from rehead.evaluation.calibration import at_temperature
from rehead.evaluation.comparison import compare
from rehead.models.registry import TFIDF


class Seen(NamedTuple):
    """Which of the test texts were learned from, each (n_test,) bool.

    Attributes:
        same: up to white space and case.
        near: nearly, or the same.
    """

    same: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]


def measure(
    probabilities: npt.NDArray[np.float64], labels: Labels, label_names: tuple[str, ...]
) -> metrics.Evaluation | multilabel_metrics.MultilabelEvaluation:
    """Measures probabilities (n, n_classes) against labels, in the way that is theirs."""
    if is_multilabel(labels):
        return multilabel_metrics.evaluate(probabilities, labels, label_names)
    return metrics.evaluate(probabilities, labels, label_names)


def measured(
    probabilities: npt.NDArray[np.float64],
    test: Examples,
    seen: Seen,
    answers: dict[str, Labels] | None,
    base: str = "",
) -> dict[str, Any]:
    """`test`, `baselines` and `comparison`, and `overlap`: the same without the test texts that were learned from.

    Args:
        answers: of each baseline, (n_test,) class ids or (n_test, n_classes).
        base: of the classifier, which is not compared with itself where it is one of the baselines.
    """
    facts = _on(np.arange(len(test)), probabilities, test, answers, base)
    overlap = None
    if seen.near.any():
        unseen = np.flatnonzero(~seen.near)
        without = _on(unseen, probabilities, test, answers, base) if len(unseen) else dict.fromkeys(facts)
        overlap = {
            "n": int(seen.same.sum()),
            "near": int((seen.near & ~seen.same).sum()),
            **{f"{name}_without": value for name, value in without.items()},
        }
    return {"what": test.what, **facts, "overlap": overlap}


def _on(
    rows: Index, probabilities: npt.NDArray[np.float64], test: Examples, answers: dict[str, Labels] | None, base: str
) -> dict[str, Any]:
    """How the classifier and the baselines do on some of the test examples, and whether it is better."""
    labels = test.labels[rows]
    comparison = None
    if answers:
        right = are_right(labels, most_probable(probabilities[rows], test.multilabel))
        strongest, name = next(iter(rivals(answers, base, multilabel=test.multilabel).items()))
        other = are_right(labels, answers[strongest][rows])
        this = "language model" if test.images is None else "vision model"
        if base == TFIDF:
            this, name = "n-grams", f"the {name}"
        option = f"--base {TFIDF}" if strongest == TFIDF else None
        comparison = compare(right, other, name, this, test.what, option).to_json()
    return {
        "test": measure(probabilities[rows], labels, test.label_names).to_json(),
        "baselines": answers and {name: _short_measure(labels, answer[rows]) for name, answer in answers.items()},
        "comparison": comparison,
    }


def _short_measure(labels: Labels, predicted: Labels) -> dict[str, float]:
    return {"accuracy": float(are_right(labels, predicted).mean()), "macro_f1": metrics.macro_f1(labels, predicted)}


def calibration(probabilities: npt.NDArray[np.float64], test: Examples, divisor: float) -> dict[str, float]:
    """What the temperature that validation chose did to the test's probabilities."""
    before = at_temperature(probabilities, 1 / divisor, test.multilabel)
    room = multilabel_metrics if test.multilabel else metrics
    logits = likelihood.logits_of(before, test.multilabel)
    return {
        "temperature": divisor,
        "ece_before": room.calibration_error(before, test.labels),
        "log_loss_before": float(likelihood.losses(logits, test.labels).mean()),
    }
