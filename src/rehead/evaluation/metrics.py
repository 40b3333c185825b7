"""Measure a classifier on labelled examples, from its probabilities. scikit-learn computes most of it.

Where a text may have several labels, or none, each class is a decision for itself, at even odds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    hamming_loss,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from rehead.data.examples import Index
from rehead.data.labels import Labels, Weights, are_right, class_counts, is_multilabel, most_probable, of_class
from rehead.evaluation import likelihood
from rehead.evaluation.intervals import bootstrap, wilson
from rehead.runtime.results import Result

# At which the sensitivity is measured.
SPECIFICITY = 0.95
_ECE_BINS = 15  # Guo et al., ICML 2017, §2


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class.

    Attributes:
        precision: 0 for a class that is never predicted.
        support: examples that have the label.
        roc_auc: area under the receiver operating characteristic, this class against the rest; None where all
            examples are of this class or none is.
        pr_auc: average precision of this class against the rest; None likewise.
        sensitivity: recall at a threshold where 95 % of the others are kept from it (specificity), which is how
            diagnostic tests are compared; None likewise.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float | None
    pr_auc: float | None
    sensitivity: float | None


@dataclass(frozen=True)
class Metrics(Result):
    """Metrics of predictions, whether a text has one label or may have several.

    Attributes:
        n: examples.
        accuracy: share that is right; where a text may have several labels, of which all are right and none is missing.
        accuracy_ci: 95 % Wilson score interval of the accuracy, which unlike a bootstrap's is right close to 1 too.
        macro_f1, weighted_f1: mean F1 of the classes that occur among labels or predictions; weighted by examples.
        roc_auc, pr_auc: mean over the classes that have one, each class counting the same; None if none has.
        log_loss: mean negative log likelihood, in nats.
        brier: mean squared distance of the probabilities from the truth: from 0 to 2; where a text may have several
            labels from 0 to 1.
        ece: expected calibration error, 15 bins.
        intervals: 95 % bootstrap intervals, by measure (see `rehead.evaluation.intervals`).
        per_class: in the order of the classes.
    """

    n: int
    accuracy: float
    accuracy_ci: tuple[float, float]
    macro_f1: float
    weighted_f1: float
    roc_auc: float | None
    pr_auc: float | None
    log_loss: float
    brier: float
    ece: float
    intervals: dict[str, tuple[float, float]]
    per_class: list[ClassMetrics]


@dataclass(frozen=True)
class SingleLabelMetrics(Metrics):
    """Metrics of predictions where each text has one label.

    Attributes:
        balanced_accuracy: mean recall of the classes that occur among labels.
        mcc: Matthews correlation coefficient.
        confusion: (n_classes, n_classes), rows are true classes.
    """

    balanced_accuracy: float
    mcc: float
    confusion: list[list[int]]


@dataclass(frozen=True)
class MultilabelMetrics(Metrics):
    """Metrics of predictions where a text may have several labels; a single decision is of one class and example.

    Attributes:
        hamming_loss: share of all single decisions that are wrong.
        micro_f1: F1 of all single decisions together.
        labels_a_text: how many an example has on average.
    """

    hamming_loss: float
    micro_f1: float
    labels_a_text: float


def measure(
    probabilities: npt.NDArray[np.float64], labels: Labels, label_names: tuple[str, ...], weights: Weights | None = None
) -> SingleLabelMetrics | MultilabelMetrics:
    """Return how good probabilities are.

    Args:
        probabilities: (n, n_classes); n is at least 1.
        labels: (n,) class ids, or (n, n_classes) of 0 and 1 where a text may have several.
        weights: (n,) how much each example counts, for all but numbers of examples and intervals; None for all alike.
    """
    multilabel = is_multilabel(labels)
    predicted = most_probable(probabilities, multilabel)
    right = are_right(labels, predicted)
    per_class = _per_class(probabilities, labels, predicted, label_names, weights)
    ids = list(range(len(label_names)))
    if multilabel:
        losses = likelihood.losses(likelihood.logits_of(probabilities, multilabel=True), labels)
        loss = np.average(losses, weights=weights)
        brier = np.average(((probabilities - labels) ** 2).mean(1), weights=weights)
    else:
        loss = log_loss(labels, probabilities, labels=ids, sample_weight=weights)
        brier = brier_score_loss(labels, probabilities, labels=ids, scale_by_half=False, sample_weight=weights)
    common = Metrics(
        n=len(labels),
        accuracy=float(np.average(right, weights=weights)),
        accuracy_ci=wilson(int(right.sum()), len(right)),
        macro_f1=macro_f1(labels, predicted, weights),
        weighted_f1=float(f1_score(labels, predicted, average="weighted", zero_division=0, sample_weight=weights)),
        roc_auc=_mean_of_known([row.roc_auc for row in per_class]),
        pr_auc=_mean_of_known([row.pr_auc for row in per_class]),
        log_loss=float(loss),
        brier=float(brier),
        ece=calibration_error(probabilities, labels, weights),
        intervals=bootstrap(probabilities, labels),
        per_class=per_class,
    )
    if multilabel:
        return MultilabelMetrics(
            **vars(common),
            hamming_loss=float(hamming_loss(labels, predicted, sample_weight=weights)),
            micro_f1=float(f1_score(labels, predicted, average="micro", zero_division=0, sample_weight=weights)),
            labels_a_text=float(labels.sum(1).mean()),
        )
    several = len(np.union1d(labels, predicted)) > 1  # of one class alone scikit-learn would warn
    return SingleLabelMetrics(
        **vars(common),
        balanced_accuracy=float(np.mean([row.recall for row in per_class if row.support])),
        mcc=float(matthews_corrcoef(labels, predicted, sample_weight=weights)) if several else 0.0,
        confusion=confusion_matrix(labels, predicted, labels=ids).tolist(),
    )


def _per_class(
    probabilities: npt.NDArray[np.floating],
    labels: Labels,
    predicted: Labels,
    label_names: tuple[str, ...],
    weights: Weights | None,
) -> list[ClassMetrics]:
    ids = list(range(len(label_names)))
    *shares, _ = precision_recall_fscore_support(labels, predicted, labels=ids, zero_division=0, sample_weight=weights)
    columns = *shares, class_counts(labels, len(ids))
    areas = [_areas(probabilities, labels, label, weights) for label in ids]
    return [
        ClassMetrics(name, float(precision), float(recall), float(f1), int(support), *areas[i])
        for i, (name, precision, recall, f1, support) in enumerate(zip(label_names, *columns, strict=True))
    ]


def _areas(
    probabilities: npt.NDArray[np.floating], labels: Labels, label: int, weights: Weights | None
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Return the areas under the two curves of a class against the rest, and the sensitivity."""
    is_label, scores = of_class(labels, label), probabilities[:, label]
    if is_label.all() or not is_label.any():
        return None, None, None
    false_rates, rates, _ = roc_curve(is_label, scores, drop_intermediate=False, sample_weight=weights)
    sensitivity = float(rates[false_rates <= 1 - SPECIFICITY].max())
    areas = [measure(is_label, scores, sample_weight=weights) for measure in (roc_auc_score, average_precision_score)]
    return float(areas[0]), float(areas[1]), sensitivity


def _mean_of_known(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def macro_f1(labels: Labels, predicted: Labels, weights: Weights | None = None) -> float:
    """Return the mean F1 of the classes that occur among labels or predictions."""
    if is_multilabel(labels):
        occurs = (labels | predicted).any(0)
        labels, predicted = labels[:, occurs], predicted[:, occurs]
        if not occurs.any():
            return 1.0
    return float(f1_score(labels, predicted, average="macro", zero_division=0, sample_weight=weights))


def calibration_error(probabilities: npt.NDArray[np.floating], labels: Labels, weights: Weights | None = None) -> float:
    """Return the expected calibration error of the predicted classes, or of all single decisions.

    Args:
        probabilities: (n, n_classes).
        labels: (n,), or (n, n_classes) where a text may have several.
    """
    if is_multilabel(labels):
        of_decisions = None if weights is None else np.repeat(weights, labels.shape[1])
        return calibration_gap(probabilities.ravel(), labels.ravel() > 0, of_decisions)
    return calibration_gap(probabilities.max(1), probabilities.argmax(1) == labels, weights)


def calibration_gap(
    confidence: npt.NDArray[np.floating], came_true: npt.NDArray[np.bool_], weights: Weights | None = None
) -> float:
    """Return how far n confidences are from how often they came true, in 15 bins of equal width, each by its share.

    Ours, because torchmetrics, which has it, takes a second to import: a tenth of a short fit.
    """
    counts = np.ones(len(confidence)) if weights is None else weights
    gaps = np.bincount(bins_of(confidence, _ECE_BINS), weights=counts * (came_true - confidence.astype(np.float64)))
    return float(np.abs(gaps).sum() / counts.sum())


def bins_of(confidence: npt.NDArray[np.floating], n_bins: int) -> Index:
    """Return (n,) in which of the bins of equal width between 0 and 1 each lies; 1 itself lies in the last."""
    return np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
