"""How a classifier does on test examples, beside the baselines and without what it has seen: the facts of a report."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss

from rehead.data.examples import Examples, Index
from rehead.evaluation.calibration import at_temperature
from rehead.evaluation.comparison import compare
from rehead.evaluation.metrics import calibration_error, evaluate, macro_f1


class Seen(NamedTuple):
    """Which of the test texts were learned from, each (n_test,) bool.

    Attributes:
        same: up to white space and case.
        near: nearly, or the same.
    """

    same: npt.NDArray[np.bool_]
    near: npt.NDArray[np.bool_]


def measured(
    probabilities: npt.NDArray[np.float64], test: Examples, seen: Seen, answers: dict[str, Index] | None
) -> dict[str, Any]:
    """`test`, `baselines` and `comparison`, and `overlap`: the same without the test texts that were learned from.

    Args:
        answers: of each baseline, (n_test,) class ids.
    """
    facts = _on(np.arange(len(test)), probabilities, test, answers)
    overlap = None
    if seen.near.any():
        unseen = np.flatnonzero(~seen.near)
        without = _on(unseen, probabilities, test, answers) if len(unseen) else dict.fromkeys(facts)
        overlap = {
            "n": int(seen.same.sum()),
            "near": int((seen.near & ~seen.same).sum()),
            **{f"{name}_without": value for name, value in without.items()},
        }
    return {**facts, "overlap": overlap}


def _on(
    rows: Index, probabilities: npt.NDArray[np.float64], test: Examples, answers: dict[str, Index] | None
) -> dict[str, Any]:
    """How the classifier and the baselines do on some of the test examples, and whether it is better."""
    labels = test.labels[rows]
    comparison = None
    if answers:
        right = probabilities[rows].argmax(1) == labels
        comparison = compare(right, answers["tfidf"][rows] == labels, "TF-IDF + logistic regression").to_json()
    return {
        "test": evaluate(probabilities[rows], labels, test.label_names).to_json(),
        "baselines": answers and {name: _short_measure(labels, answer[rows]) for name, answer in answers.items()},
        "comparison": comparison,
    }


def _short_measure(labels: Index, predicted: Index) -> dict[str, float]:
    return {"accuracy": float((predicted == labels).mean()), "macro_f1": macro_f1(labels, predicted)}


def calibration(probabilities: npt.NDArray[np.float64], test: Examples, divisor: float) -> dict[str, float]:
    """What the temperature that validation chose did to the test's probabilities."""
    before = at_temperature(probabilities, 1 / divisor)
    return {
        "temperature": divisor,
        "ece_before": calibration_error(before, test.labels),
        "log_loss_before": float(log_loss(test.labels, before, labels=range(len(test.label_names)))),
    }
