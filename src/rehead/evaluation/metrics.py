"""Measures of a classifier on labelled examples, from its probabilities. scikit-learn computes most of them."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from rehead.data.examples import Index
from rehead.data.labels import Labels, is_multilabel, of_class
from rehead.evaluation.intervals import bootstrap, wilson

# At which the sensitivity is told.
SPECIFICITY = 0.95
_ECE_BINS = 15  # Guo et al., ICML 2017, §2


@dataclass(frozen=True)
class PerClass:
    """One class's share of the evaluation; precision of a class never predicted counts as 0.

    Attributes:
        roc_auc: area under the receiver operating characteristic, this class against the rest; None where all
            examples are of this class or none is.
        pr_auc: average precision of this class against the rest; None likewise.
        sensitivity: recall at a threshold where 95 % of the others are told from it (specificity), which is how
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
class Measures:
    """How good predictions are on n examples: what is measured whether a text has one label or may have several.

    Attributes:
        accuracy_ci: 95 % Wilson score interval of the accuracy, which unlike a bootstrap's is right close to 1 too.
        macro_f1, weighted_f1: mean F1 of the classes that occur among labels or predictions; weighted by examples.
        roc_auc, pr_auc: mean over the classes that have one, each class counting the same; None if none has.
        log_loss: mean negative log likelihood, in nats.
        brier: mean squared distance of the probabilities from the truth.
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
    per_class: list[PerClass]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Evaluation(Measures):
    """Of predictions where each text has one label; `brier` is from 0 to 2.

    Attributes:
        balanced_accuracy: mean recall of the classes that occur among labels.
        mcc: Matthews correlation coefficient.
        confusion: (n_classes, n_classes), rows are true classes.
    """

    balanced_accuracy: float
    mcc: float
    confusion: list[list[int]]


def evaluate(probabilities: npt.NDArray[np.floating], labels: Index, label_names: tuple[str, ...]) -> Evaluation:
    """Measures probabilities (n, n_classes) against labels (n,); n is at least 1."""
    predicted = probabilities.argmax(1)
    ids = list(range(len(label_names)))
    right = predicted == labels
    by_class = per_class(probabilities, labels, predicted, label_names)
    return Evaluation(
        n=len(labels),
        accuracy=float(right.mean()),
        accuracy_ci=wilson(right),
        balanced_accuracy=float(np.mean([row.recall for row in by_class if row.support])),
        macro_f1=macro_f1(labels, predicted),
        weighted_f1=float(f1_score(labels, predicted, average="weighted", zero_division=0)),
        mcc=_correlation(labels, predicted),
        roc_auc=mean_of_known([row.roc_auc for row in by_class]),
        pr_auc=mean_of_known([row.pr_auc for row in by_class]),
        log_loss=float(log_loss(labels, probabilities, labels=ids)),
        brier=float(brier_score_loss(labels, probabilities, labels=ids, scale_by_half=False)),
        ece=calibration_error(probabilities, labels),
        intervals=bootstrap(probabilities, labels),
        per_class=by_class,
        confusion=confusion_matrix(labels, predicted, labels=ids).tolist(),
    )


def _correlation(labels: Index, predicted: Index) -> float:
    """Matthews correlation coefficient; 0 where there is one class only, of which scikit-learn would warn."""
    return float(matthews_corrcoef(labels, predicted)) if len(np.union1d(labels, predicted)) > 1 else 0.0


def per_class(
    probabilities: npt.NDArray[np.floating], labels: Labels, predicted: Labels, label_names: tuple[str, ...]
) -> list[PerClass]:
    """What is measured of each class; labels and predictions as in `rehead.data.labels`."""
    ids = list(range(len(label_names)))
    columns = precision_recall_fscore_support(labels, predicted, labels=ids, zero_division=0)
    return [
        PerClass(name, float(precision), float(recall), float(f1), int(support), *areas)
        for name, precision, recall, f1, support, *areas in zip(
            label_names, *columns, *_areas(probabilities, labels), strict=True
        )
    ]


def _areas(
    probabilities: npt.NDArray[np.floating], labels: Labels
) -> tuple[list[float | None], list[float | None], list[float | None]]:
    """Areas under the receiver operating characteristic and the precision-recall curve, and the sensitivity, one each a
    class.
    """
    roc: list[float | None] = []
    precision_recall: list[float | None] = []
    sensitivity: list[float | None] = []
    for label in range(probabilities.shape[1]):
        is_label = of_class(labels, label)
        if is_label.all() or not is_label.any():
            roc.append(None)
            precision_recall.append(None)
            sensitivity.append(None)
            continue
        roc.append(float(roc_auc_score(is_label, probabilities[:, label])))
        precision_recall.append(float(average_precision_score(is_label, probabilities[:, label])))
        false_rates, rates, _ = roc_curve(is_label, probabilities[:, label], drop_intermediate=False)
        sensitivity.append(float(rates[false_rates <= 1 - SPECIFICITY].max()))
    return roc, precision_recall, sensitivity


def mean_of_known(values: list[float | None]) -> float | None:
    """The mean of those that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def macro_f1(labels: Labels, predicted: Labels) -> float:
    """Mean F1 of the classes that occur among labels or predictions."""
    if is_multilabel(labels):
        occurs = (labels | predicted).any(0)
        labels, predicted = labels[:, occurs], predicted[:, occurs]
        if not occurs.any():
            return 1.0
    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def calibration_error(probabilities: npt.NDArray[np.floating], labels: Index) -> float:
    """Expected calibration error of the classes predicted, from probabilities (n, n_classes)."""
    return calibration_gap(probabilities.max(1), probabilities.argmax(1) == labels)


def calibration_gap(confidence: npt.NDArray[np.floating], came_true: npt.NDArray[np.bool_]) -> float:
    """How far n confidences are from how often they came true, in 15 bins of equal width, each bin by its share of n.

    Ours, because torchmetrics, which has it, takes a second to import: a tenth of a short fit.
    """
    gaps = np.bincount(bins_of(confidence, _ECE_BINS), weights=came_true - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(confidence))


def bins_of(confidence: npt.NDArray[np.floating], n_bins: int) -> Index:
    """(n,) which of so many bins of equal width between 0 and 1 each lies in; 1 itself lies in the last."""
    return np.minimum((confidence * n_bins).astype(np.int64), n_bins - 1)
