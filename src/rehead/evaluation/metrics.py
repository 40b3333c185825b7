"""Measures of a classifier on labelled examples, from its probabilities. scikit-learn and torchmetrics compute."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, f1_score, log_loss, precision_recall_fscore_support

from rehead.data.examples import Index

_ECE_BINS = 15  # Guo et al., ICML 2017, §2


@dataclass(frozen=True)
class PerClass:
    """One class's share of the evaluation; precision of a class never predicted counts as 0."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Evaluation:
    """How good predictions are on n examples.

    Attributes:
        accuracy_ci: 95 % Wilson score interval of the accuracy.
        macro_f1: mean F1 of the classes that occur among labels or predictions.
        log_loss: mean negative log likelihood, in nats.
        ece: expected calibration error, 15 bins.
        per_class: in the order of the classes.
        confusion: (n_classes, n_classes), rows are true classes.
    """

    n: int
    accuracy: float
    accuracy_ci: tuple[float, float]
    macro_f1: float
    log_loss: float
    ece: float
    per_class: list[PerClass]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def evaluate(probabilities: npt.NDArray[np.floating], labels: Index, label_names: tuple[str, ...]) -> Evaluation:
    """Measures probabilities (n, n_classes) against labels (n,); n is at least 1."""
    predicted = probabilities.argmax(1)
    ids = list(range(len(label_names)))
    right = int((predicted == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(method="wilson")
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=ids, zero_division=0)
    return Evaluation(
        n=len(labels),
        accuracy=right / len(labels),
        accuracy_ci=(float(interval.low), float(interval.high)),
        macro_f1=macro_f1(labels, predicted),
        log_loss=float(log_loss(labels, probabilities, labels=ids)),
        ece=_calibration_error(probabilities, labels),
        per_class=[
            PerClass(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(label_names)
        ],
        confusion=confusion_matrix(labels, predicted, labels=ids).tolist(),
    )


def macro_f1(labels: Index, predicted: Index) -> float:
    return float(f1_score(labels, predicted, average="macro", zero_division=0))


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Logits (n, n_classes) → probabilities, in float64."""
    from scipy.special import softmax as scipy_softmax

    result: npt.NDArray[np.float64] = scipy_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)
    return result


def _calibration_error(probabilities: npt.NDArray[np.floating], labels: Index) -> float:
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    return float(
        multiclass_calibration_error(
            torch.from_numpy(np.ascontiguousarray(probabilities)),
            torch.from_numpy(labels),
            num_classes=probabilities.shape[1],
            n_bins=_ECE_BINS,
        )
    )
