"""Measures where a text may have several labels, or none: each class is a decision for itself, at even odds."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, hamming_loss, precision_recall_fscore_support

from rehead import likelihood
from rehead.data.labels import Labels, are_right, most_probable
from rehead.evaluation.intervals import bootstrap_several, wilson
from rehead.evaluation.metrics import PerClass, areas, macro_f1, mean_of_known

_ECE_BINS = 15


@dataclass(frozen=True)
class MultilabelEvaluation:
    """How good predictions are on n examples.

    Attributes:
        accuracy: share of the examples of which all labels are right and none is missing (exact match).
        accuracy_ci: its 95 % Wilson score interval.
        hamming_loss: share of all single decisions, one a class and example, that are wrong.
        micro_f1: F1 of all single decisions together.
        macro_f1, weighted_f1: mean F1 of the classes that occur among labels or predictions; weighted by examples.
        roc_auc, pr_auc: mean over the classes that have one; None if none has.
        log_loss: binary cross-entropy in nats, the mean of all single decisions; brier: likewise, their squared error.
        ece: expected calibration error of all single decisions, 15 bins.
        intervals: 95 % bootstrap intervals, by measure.
        per_class: in the order of the classes.
        labels_a_text: how many an example has on average.
    """

    n: int
    accuracy: float
    accuracy_ci: tuple[float, float]
    hamming_loss: float
    micro_f1: float
    macro_f1: float
    weighted_f1: float
    roc_auc: float | None
    pr_auc: float | None
    log_loss: float
    brier: float
    ece: float
    intervals: dict[str, tuple[float, float]]
    per_class: list[PerClass]
    labels_a_text: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(
    probabilities: npt.NDArray[np.float64], labels: Labels, label_names: tuple[str, ...]
) -> MultilabelEvaluation:
    """Measures probabilities against labels, both (n, n_classes); n is at least 1."""
    predicted = most_probable(probabilities, multilabel=True)
    right = are_right(labels, predicted)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, zero_division=0)
    roc_aucs, pr_aucs = areas(probabilities, labels)

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
        roc_auc=mean_of_known(roc_aucs),
        pr_auc=mean_of_known(pr_aucs),
        log_loss=float(likelihood.losses(likelihood.logits_of(probabilities, multilabel=True), labels).mean()),
        brier=float(((probabilities - labels) ** 2).mean()),
        ece=calibration_error(probabilities, labels),
        intervals=bootstrap_several(probabilities, labels),
        per_class=[
            PerClass(
                name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]), roc_aucs[i], pr_aucs[i]
            )
            for i, name in enumerate(label_names)
        ],
        labels_a_text=float(labels.sum(1).mean()),
    )


def calibration_error(probabilities: npt.NDArray[np.float64], labels: Labels) -> float:
    """Expected calibration error of all single decisions, 15 bins; both arrays are (n, n_classes)."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    return float(
        binary_calibration_error(
            torch.from_numpy(np.ascontiguousarray(probabilities.ravel())),
            torch.from_numpy(labels.ravel()),
            n_bins=_ECE_BINS,
        )
    )
