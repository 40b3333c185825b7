"""How far measures may be off because the test examples are but a sample: percentile bootstrap intervals.

Examples are drawn with replacement as many times as there are, a thousand times over; what the middle 95 % of these
draws give is the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3).
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Index

_RESAMPLES = 1000
_LEVEL = 0.95
_SEED = 0
# Numbers that one portion of the resamples holds at most.
_PORTION = 4_000_000
# scikit-learn's guard against the logarithm of 0.
_LEAST = float(np.finfo(np.float64).eps)


def bootstrap(probabilities: npt.NDArray[np.floating], labels: Index) -> dict[str, tuple[float, float]]:
    """Intervals of `balanced_accuracy`, `macro_f1`, `weighted_f1`, `log_loss` and `brier`.

    Args:
        probabilities: (n, n_classes).
        labels: (n,) class ids.
    """
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(1)
    of_label = probabilities[np.arange(n), labels].astype(np.float64)
    losses = -np.log(np.clip(of_label, _LEAST, 1 - _LEAST))
    squares = (probabilities.astype(np.float64) ** 2).sum(1) - 2 * of_label + 1
    cells, cell_of = np.unique(labels * n_classes + predicted, return_inverse=True)
    truth, answer = np.divmod(cells, n_classes)
    drawn: dict[str, list[npt.NDArray[np.float64]]] = {}
    for rows in _resamples(n, max(n, n_classes)):
        measures = {"log_loss": losses[rows].mean(1), "brier": squares[rows].mean(1)}
        places = cell_of[rows] + len(cells) * np.arange(len(rows))[:, None]
        counts = np.bincount(places.ravel(), minlength=len(cells) * len(rows)).reshape(len(rows), -1)
        measures |= _of_counts(counts, truth, answer, n_classes)
        for name, values in measures.items():
            drawn.setdefault(name, []).append(values)
    return {name: interval(np.concatenate(values)) for name, values in drawn.items()}


def bootstrap_of(measure: Callable[[Index], float], n: int, resamples: int = _RESAMPLES) -> tuple[float, float]:
    """The interval of any measure of n examples.

    Args:
        measure: of the examples at the given positions, which may repeat.
        resamples: how often it is called.
    """
    generator = np.random.default_rng(_SEED)
    return interval(np.array([measure(generator.integers(0, n, n)) for _ in range(resamples)]))


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """What the middle 95 % of the resamples' values lie between."""
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _resamples(n: int, width: int) -> Iterator[Index]:
    """Positions drawn with replacement, (resamples, n), in portions that fit into memory."""
    generator = np.random.default_rng(_SEED)
    at_once = max(1, _PORTION // width)
    for start in range(0, _RESAMPLES, at_once):
        yield generator.integers(0, n, (min(at_once, _RESAMPLES - start), n))


def _of_counts(counts: Index, truth: Index, answer: Index, n_classes: int) -> dict[str, npt.NDArray[np.float64]]:
    """Measures that hang on labels and predictions alone, one value a resample.

    Args:
        counts: (resamples, cells), how many examples fell into each cell of the confusion matrix that is not empty.
        truth, answer: (cells,) the row and column of each.
    """
    supports = counts @ _one_hot(truth, n_classes)
    predictions = counts @ _one_hot(answer, n_classes)
    hits = counts @ (_one_hot(truth, n_classes) * (truth == answer)[:, None])
    occurs = supports > 0
    mentioned = occurs | (predictions > 0)
    f1 = 2 * hits / np.maximum(supports + predictions, 1)
    recall = hits / np.maximum(supports, 1)
    return {
        "balanced_accuracy": (recall * occurs).sum(1) / occurs.sum(1),
        "macro_f1": (f1 * mentioned).sum(1) / mentioned.sum(1),
        "weighted_f1": (f1 * supports).sum(1) / supports.sum(1),
    }


def _one_hot(ids: Index, n_classes: int) -> npt.NDArray[np.float64]:
    return np.eye(n_classes)[ids]
