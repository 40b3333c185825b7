"""Show how far measures may be off because the test examples are but a sample: percentile bootstrap intervals.

Examples are drawn with replacement as many times as there are, a thousand times over; what the middle 95 % of these
draws give is the interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, §13.3).
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from rehead.data.examples import Index
from rehead.data.labels import Labels, as_indicator, class_counts, is_multilabel, most_probable, of_class
from rehead.evaluation import likelihood

_RESAMPLES = 1000
_LEVEL = 0.95
_SEED = 0
# Numbers that one portion of the resamples holds at most: few enough to stay in the processor's cache.
_PORTION = 200_000
# scikit-learn's guard against the logarithm of 0.
_LEAST = float(np.finfo(np.float64).eps)


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy, which unlike a bootstrap's is right close to 1 too."""
    ends = binomtest(n_right, n).proportion_ci(_LEVEL, method="wilson")
    return float(ends.low), float(ends.high)


def bootstrap(probabilities: npt.NDArray[np.floating], labels: Labels) -> dict[str, tuple[float, float]]:
    """Return the intervals of `macro_f1`, `weighted_f1`, `log_loss`, `brier`, `roc_auc` and `pr_auc`.

    Where each text has one label also of `balanced_accuracy` and `mcc`, where it may have several of `micro_f1` and
    `hamming_loss`. There is none of the expected calibration error: resampling adds noise to each bin, and so to the
    error itself.

    Args:
        probabilities: (n, n_classes).
        labels: (n,) class ids, or (n, n_classes) of 0 and 1.
    """
    of_rows = (_several_labels if is_multilabel(labels) else _one_label)(probabilities.astype(np.float64), labels)
    portions = [of_rows(rows) for rows in _resamples(len(labels), max(labels.size, probabilities.shape[1]))]
    intervals = {name: _interval([measures[name] for measures in portions]) for name in portions[0]}
    return intervals | _areas(probabilities, labels)


# From positions drawn with replacement, (resamples, n), to measures by name, (resamples,).
_OfRows = Callable[[Index], dict[str, npt.NDArray[np.float64]]]


def _one_label(probabilities: npt.NDArray[np.float64], labels: Index) -> _OfRows:
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(1)
    of_label = probabilities[np.arange(n), labels]
    losses = -np.log(np.clip(of_label, _LEAST, 1 - _LEAST))
    squares = (probabilities**2).sum(1) - 2 * of_label + 1
    cells, cell_of = np.unique(labels * n_classes + predicted, return_inverse=True)
    truth, answer = np.divmod(cells, n_classes)

    def of_rows(rows: Index) -> dict[str, npt.NDArray[np.float64]]:
        of_predictions = _of_counts(_counted(cell_of[rows], len(cells)), truth, answer, n_classes)
        return {"log_loss": losses[rows].mean(1), "brier": squares[rows].mean(1), **of_predictions}

    return of_rows


def _several_labels(probabilities: npt.NDArray[np.float64], labels: Labels) -> _OfRows:
    predicted = most_probable(probabilities, multilabel=True)
    losses = likelihood.losses(likelihood.logits_of(probabilities, multilabel=True), labels)
    squares = ((probabilities - labels) ** 2).mean(1)
    wrong = (predicted != labels).mean(1)

    def of_rows(rows: Index) -> dict[str, npt.NDArray[np.float64]]:
        times = _counted(rows, len(labels))
        supports, predictions, hits = times @ labels, times @ predicted, times @ (labels * predicted)
        f1 = 2 * hits / np.maximum(supports + predictions, 1)
        both = supports.sum(1) + predictions.sum(1)
        return {
            "micro_f1": 2 * hits.sum(1) / np.maximum(both, 1),
            "macro_f1": np.ma.masked_where(supports + predictions == 0, f1).mean(1).filled(1.0),
            "weighted_f1": (f1 * supports).sum(1) / np.maximum(supports.sum(1), 1),
            "hamming_loss": wrong[rows].mean(1),
            "log_loss": losses[rows].mean(1),
            "brier": squares[rows].mean(1),
        }

    return of_rows


def _areas(probabilities: npt.NDArray[np.floating], labels: Labels) -> dict[str, tuple[float, float]]:
    """Return the intervals of `roc_auc` and `pr_auc`, means over the classes that have one; none where no class has."""
    n, n_classes = probabilities.shape
    counts = class_counts(labels, n_classes)
    known = np.flatnonzero((counts > 0) & (counts < n)).tolist()
    if not known:
        return {}
    drawn: dict[str, list[npt.NDArray[np.float64]]] = {"roc_auc": [], "pr_auc": []}
    for rows in _resamples(n, n):
        times = _counted(rows, n)
        by_class = [_areas_of(times, probabilities[:, label], of_class(labels, label)) for label in known]
        for name, values in zip(drawn, zip(*by_class, strict=True), strict=True):
            # A class that a resample has none of, or nothing else, has no area in it.
            stacked = np.ma.masked_invalid(np.stack(values))
            drawn[name].append(stacked.mean(0).compressed())
    return {name: _interval(values) for name, values in drawn.items()}


def _areas_of(
    times: npt.NDArray[np.float64], scores: npt.NDArray[np.floating], is_label: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the areas under the receiver operating characteristic and the precision-recall curve in each resample.

    Args:
        times: (resamples, n) how often each example was drawn.
        scores, is_label: (n,) of one class.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores count as one
    yes = np.cumsum(times[:, order] * is_label[order], axis=1)[:, ends]
    no = np.cumsum(times[:, order] * ~is_label[order], axis=1)[:, ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, false_rate = yes / yes[:, -1:], no / no[:, -1:]
        precision = yes / np.maximum(yes + no, 1)
        before = np.zeros((len(times), 1))
        rises = np.diff(recall, axis=1, prepend=before)
        heights = recall - rises / 2
        roc = (np.diff(false_rate, axis=1, prepend=before) * heights).sum(1)
        return roc, (rises * precision).sum(1)


def _counted(drawn: Index, n_kinds: int) -> npt.NDArray[np.float64]:
    """Return (resamples, n_kinds): how often each kind, from 0, is among what was drawn, (resamples, n)."""
    n_resamples = len(drawn)
    places = drawn + n_kinds * np.arange(n_resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=n_kinds * n_resamples)
    return counts.reshape(n_resamples, n_kinds).astype(np.float64)


def _interval(values: list[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Return what the middle 95 % of the resamples' values lie between."""
    low, high = np.quantile(np.concatenate(values), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def _resamples(n: int, width: int) -> Iterator[Index]:
    """Yield positions drawn with replacement, (resamples, n), in portions that fit into memory."""
    generator = np.random.default_rng(_SEED)
    at_once = max(1, _PORTION // width)
    for start in range(0, _RESAMPLES, at_once):
        yield generator.integers(0, n, (min(at_once, _RESAMPLES - start), n))


def _of_counts(
    counts: npt.NDArray[np.float64], truth: Index, answer: Index, n_classes: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Return measures that hang on labels and predictions alone, one value a resample.

    Args:
        counts: (resamples, cells), how many examples fell into each cell of the confusion matrix that is not empty.
        truth, answer: (cells,) the row and column of each.
    """
    supports = counts @ as_indicator(truth, n_classes)
    predictions = counts @ as_indicator(answer, n_classes)
    hits = counts @ (as_indicator(truth, n_classes) * (truth == answer)[:, None])
    occurs = supports > 0
    mentioned = occurs | (predictions > 0)
    f1 = 2 * hits / np.maximum(supports + predictions, 1)
    recall = hits / np.maximum(supports, 1)
    # Gorodkin, Computational Biology and Chemistry 28, 2004, equation 8.
    n = supports.sum(1)
    together = hits.sum(1) * n - (supports * predictions).sum(1)
    apart = (n**2 - (supports**2).sum(1)) * (n**2 - (predictions**2).sum(1))
    return {
        "mcc": together / np.sqrt(np.maximum(apart, 1)),
        "balanced_accuracy": (recall * occurs).sum(1) / occurs.sum(1),
        "macro_f1": (f1 * mentioned).sum(1) / mentioned.sum(1),
        "weighted_f1": (f1 * supports).sum(1) / supports.sum(1),
    }
