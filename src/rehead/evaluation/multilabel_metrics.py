"""Measures where a text may have several labels, or none: each class is a decision for itself, at even odds."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, hamming_loss

from rehead.data.labels import Labels, are_right, most_probable
from rehead.evaluation import likelihood
from rehead.evaluation.intervals import bootstrap_several, wilson
from rehead.evaluation.metrics import Measures, calibration_gap, macro_f1, mean_of_known, per_class


@dataclass(frozen=True)
class MultilabelEvaluation(Measures):
    """Of predictions where a text may have several labels.

    `accuracy` is the share of the examples of which all labels are right and none is missing (exact match); `log_loss`,
    `brier` (from 0 to 1) and `ece` are means over all single decisions, one a class and example.

    Attributes:
        hamming_loss: share of all single decisions that are wrong.
        micro_f1: F1 of all single decisions together.
        labels_a_text: how many an example has on average.
    """

    hamming_loss: float
    micro_f1: float
    labels_a_text: float


def evaluate(
    probabilities: npt.NDArray[np.float64], labels: Labels, label_names: tuple[str, ...]
) -> MultilabelEvaluation:
    """Measures probabilities against labels, both (n, n_classes); n is at least 1."""
    predicted = most_probable(probabilities, multilabel=True)
    right = are_right(labels, predicted)
    by_class = per_class(probabilities, labels, predicted, label_names)

    def averaged(how: str) -> float:
        return float(f1_score(labels, predicted, average=how, zero_division=0))

    return MultilabelEvaluation(
        n=len(labels),
        accuracy=float(right.mean()),
        accuracy_ci=wilson(right),
        hamming_loss=float(hamming_loss(labels, predicted)),
        micro_f1=averaged("micro"),
        macro_f1=macro_f1(labels, predicted),
        weighted_f1=averaged("weighted"),
        roc_auc=mean_of_known([row.roc_auc for row in by_class]),
        pr_auc=mean_of_known([row.pr_auc for row in by_class]),
        log_loss=float(likelihood.losses(likelihood.logits_of(probabilities, multilabel=True), labels).mean()),
        brier=float(((probabilities - labels) ** 2).mean()),
        ece=calibration_error(probabilities, labels),
        intervals=bootstrap_several(probabilities, labels),
        per_class=by_class,
        labels_a_text=float(labels.sum(1).mean()),
    )


def calibration_error(probabilities: npt.NDArray[np.float64], labels: Labels) -> float:
    """Expected calibration error of all single decisions; both arrays are (n, n_classes)."""
    return calibration_gap(probabilities.ravel(), labels.ravel() > 0)
