"""Scores predictions, packs them into a few characters, and tests two methods' against each other."""

import base64
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BINS = 15
# (n, width) uint8: a class id a row, or a bit a class where a text may have several labels.
Answers = npt.NDArray[np.uint8]


def encode(labels: Sequence[Sequence[str]], classes: Sequence[str], multilabel: bool) -> Answers:
    """Turns labels into numbers that can be compared row by row.

    Args:
        labels: (n,) the labels of each row; one each unless `multilabel`.
        classes: all labels there are, at most 256.

    Returns:
        (n, width) uint8, see `Answers`.
    """
    assert len(classes) <= 256
    position = {name: i for i, name in enumerate(classes)}
    if not multilabel:
        return np.array([[position[label] for label in row] for row in labels], dtype=np.uint8)
    bits = np.zeros((len(labels), len(classes)), dtype=np.uint8)
    for i, row in enumerate(labels):
        bits[i, [position[label] for label in row]] = 1
    return np.packbits(bits, axis=1)


def pack(answers: Answers) -> str:
    """Compresses answers to text."""
    return base64.b85encode(zlib.compress(answers.tobytes(), 9)).decode()


def unpack(packed: str, n: int) -> Answers:
    """Returns what `pack` was given, of n rows."""
    return np.frombuffer(zlib.decompress(base64.b85decode(packed)), dtype=np.uint8).reshape(n, -1)


def score(
    truth: Answers,
    predicted: Answers,
    classes: Sequence[str],
    probabilities: npt.NDArray[np.float64] | None,
    positive: str | None,
    multilabel: bool,
) -> dict[str, float | None]:
    """Measures predictions.

    Args:
        truth, predicted: (n, width), see `encode`.
        probabilities: (n, n_classes), columns in the order of `classes`; None where a method has none.
        positive: the class whose F1 is told.

    Returns:
        `accuracy`, which is subset accuracy where a text may have several labels, `macro_f1`, `micro_f1`, `f1` of the
        positive class or None, and `log_loss` and `ece`, None without probabilities.
    """
    right, given = _indicators(truth, len(classes), multilabel), _indicators(predicted, len(classes), multilabel)
    hits, total = (right & given).sum(0), right.sum(0) + given.sum(0)
    # As scikit-learn counts: classes that are neither there nor predicted are left out of the mean.
    f1 = 2 * hits[total > 0] / total[total > 0]
    return {
        "accuracy": float(are_right(truth, predicted).mean()),
        "macro_f1": float(f1.mean()),
        "micro_f1": float(2 * hits.sum() / total.sum()),
        "f1": None if positive is None else _f1(hits, total, list(classes).index(positive)),
        "log_loss": None if probabilities is None else _log_loss(right, probabilities, multilabel),
        "ece": None if probabilities is None else _ece(right, probabilities, multilabel),
    }


def are_right(truth: Answers, predicted: Answers) -> npt.NDArray[np.bool_]:
    """Says of each row whether all of it is right, (n,)."""
    right: npt.NDArray[np.bool_] = (truth == predicted).all(axis=1)
    return right


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Tests whether two methods that answered the same rows are right equally often (McNemar's exact test, two-sided).

    Args:
        first, second: (n,) whether each row's answer is right.

    Returns:
        How many rows only the first has right, how many only the second, and p.
    """
    from scipy.stats import binomtest

    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    return only_first, only_second, float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def _indicators(answers: Answers, n_classes: int, multilabel: bool) -> npt.NDArray[np.bool_]:
    """Returns (n, n_classes): which labels each row has."""
    if multilabel:
        return np.unpackbits(answers, axis=1)[:, :n_classes].astype(bool)
    return answers == np.arange(n_classes)


def _f1(hits: npt.NDArray[np.int64], total: npt.NDArray[np.int64], label: int) -> float:
    return float(2 * hits[label] / total[label]) if total[label] else 0.0


def _log_loss(right: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float64], multilabel: bool) -> float:
    """Returns the mean over rows; where a text may have several labels over rows and classes, as rehead tells it."""
    # A wrong answer that was given without any doubt would cost infinitely much.
    kept = np.clip(probabilities, 1e-15, 1 - 1e-15)
    if multilabel:
        return float(-np.where(right, np.log(kept), np.log1p(-kept)).mean())
    return float(-np.log(kept[right]).mean())


def _ece(right: npt.NDArray[np.bool_], probabilities: npt.NDArray[np.float64], multilabel: bool) -> float:
    """Returns the expected calibration error over bins of equal width (Guo et al., ICML 2017)."""
    if multilabel:
        confidence, correct = probabilities.ravel(), right.ravel()
    else:
        best = probabilities.argmax(axis=1)
        rows = np.arange(len(best))
        confidence, correct = probabilities[rows, best], right[rows, best]
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(bins))
