"""Draw the figures of a report as SVG that stands in a page: text stays text, lines take the page's own colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from rehead.data.labels import EVEN, Labels, class_counts, is_multilabel, of_class
from rehead.evaluation.metrics import bins_of
from rehead.runtime.interrupts import deferred

# Stand for the page's colours in what matplotlib draws, which knows no variables of CSS.
_INK, _SOFT, _ACCENT = "#010203", "#040506", "#070809"
# Six hues that those who do not see all colours tell apart (Okabe and Ito, "Color universal design", 2008), darkened
# where they would be too pale on paper.
_SERIES = tuple(f"#0a0b{number:02x}" for number in range(1, 7))
_VARIABLES = {_INK: "var(--ink)", _SOFT: "var(--soft)", _ACCENT: "var(--accent)"} | {
    color: f"var(--series-{number})" for number, color in enumerate(_SERIES, start=1)
}
# A second difference beside the hue.
_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 3)))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rehead",  # the same figure is the same text each time
    "font.size": 9,
    "font.family": "sans-serif",
    "text.color": _INK,
    "text.parse_math": False,  # a label may hold dollars
    "axes.labelcolor": _INK,
    "axes.edgecolor": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}
_BINS = 10
# More classes than this would be a tangle; those with the most examples are drawn.
_CURVES = 6
# More points than this make a file large and a curve no finer.
_POINTS = 200
# Seconds that are drawn of what took next to none: a logarithm knows no zero.
_SHORTEST = 0.01
_MARKERS = "osD^v<>pX*"


def reliability(probabilities: npt.NDArray[np.float64], labels: Labels) -> str:
    """Draw how often a prediction is right by its probability, and how many predictions have such a one.

    Where a text may have several labels: how often a label is there, by its probability.
    """
    several = is_multilabel(labels)
    if several:
        confidence, right = probabilities.ravel(), labels.ravel()
    else:
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = bins_of(confidence, _BINS)
    counts = np.bincount(bins, minlength=_BINS)
    there = np.flatnonzero(counts)
    means = np.bincount(bins, confidence, minlength=_BINS)[there] / counts[there]
    accuracies = np.bincount(bins, right, minlength=_BINS)[there] / counts[there]
    with _figure() as (plot, drawn):
        plot.plot([0, 1], [0, 1], color=_SOFT, linestyle=":", linewidth=1)
        plot.scatter(means, accuracies, s=12 + 120 * counts[there] / counts.max(), color=_ACCENT)
        for mean, accuracy, count in zip(means, accuracies, counts[there], strict=True):
            plot.annotate(f"{count:,}", (mean, accuracy), (4, -10), textcoords="offset points", color=_SOFT, fontsize=8)
        plot.set(
            xlabel="probability of the label" if several else "probability of the prediction",
            ylabel="share that has it" if several else "share that is right",
            ylim=(-0.03, 1.05),
        )
    return drawn[0]


def curves(probabilities: npt.NDArray[np.float64], labels: Labels, label_names: tuple[str, ...]) -> str:
    """Draw the receiver operating characteristic and precision-recall curve of each class against the rest."""
    counts = class_counts(labels, len(label_names))
    shown = [i for i in np.argsort(-counts, kind="stable")[:_CURVES] if 0 < counts[i] < len(labels)]
    if len(label_names) == 2 and not is_multilabel(labels):
        shown = shown[-1:]  # the rarer of two: the other's curve is the same one mirrored
    with _figure() as (roc, drawn), _figure() as (precise, drawn_beside):
        for label, color, style in zip(shown, _SERIES, _LINES, strict=False):
            look: Any = {"color": color, "linestyle": style, "label": label_names[label]}
            is_label = of_class(labels, label)
            false_rate, true_rate, _ = roc_curve(is_label, probabilities[:, label])
            precision, recall, _ = precision_recall_curve(is_label, probabilities[:, label])
            roc.plot(*_thinned(false_rate, true_rate), **look)
            precise.plot(*_thinned(recall, precision), **look)
        roc.plot([0, 1], [0, 1], color=_SOFT, linestyle=":", linewidth=1)
        roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
        precise.set(xlabel="recall", ylabel="precision", title="precision and recall", ylim=(-0.03, 1.05))
        if shown:
            roc.legend(loc="lower right")
            precise.legend(loc="lower left")
    return drawn[0] + drawn_beside[0]


def depth_profile(profile: dict[str, dict[int, float]], depth: int) -> str:
    """Draw the validation log loss of a probe after each layer, by pooling."""
    return _losses(profile, "layers", kept=depth)


def training_curve(losses: dict[str, list[float]]) -> str:
    """Draw the validation log loss of each strategy that trained layers, before its first epoch and after each."""
    by_epoch = {strategy: dict(enumerate(values)) for strategy, values in losses.items()}
    return _losses(by_epoch, "epoch", marker="o", markersize=4)


def _losses(lines: dict[str, dict[int, float]], unit: str, kept: int | None = None, **look: Any) -> str:
    """Draw validation log losses by whole numbers of a unit, a line each, and mark the number that was kept."""
    with _figure() as (plot, drawn):
        for (name, losses), color, style in zip(lines.items(), _SERIES, _LINES, strict=False):
            plot.plot(list(losses), list(losses.values()), color=color, linestyle=style, label=name, **look)
        if kept is not None:
            plot.axvline(kept, color=_SOFT, linewidth=1)
        plot.set(xlabel=unit, ylabel="validation log loss", ylim=(0, None))
        plot.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.legend()
    return drawn[0]


def learning_curve(sizes: list[int], errors: list[list[float]]) -> str:
    """Draw the share of wrong predictions by number of labels, each repetition a point."""
    with _figure() as (plot, drawn):
        plot.plot(sizes, [sum(values) / len(values) for values in errors], color=_ACCENT)
        for size, values in zip(sizes, errors, strict=True):
            plot.scatter([size] * len(values), values, color=_SOFT, s=8)
        plot.set(xlabel="labels", ylabel="share of wrong predictions", xscale="log", ylim=(0, None))
        plot.set_xticks(sizes, [f"{size:,}" for size in sizes])
        plot.minorticks_off()
    return drawn[0]


class Approach(Protocol):
    """Of an approach that is compared with others, what is drawn; see `rehead.comparison.results.ApproachResult`."""

    @property
    def title(self) -> str: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def accuracy_ci(self) -> tuple[float, float]: ...
    @property
    def learning_seconds(self) -> float: ...
    @property
    def n_learned(self) -> int: ...
    @property
    def curve(self) -> list[float] | None: ...


def by_compute(approaches: Sequence[Approach]) -> str:
    """Draw the accuracy of approaches by the seconds that they learned, features that were cached included."""
    with _figure(width=6.5) as (plot, drawn):
        for row, marker in zip(approaches, _MARKERS * len(approaches), strict=False):
            low, high = row.accuracy_ci
            plot.errorbar(
                max(_SHORTEST, row.learning_seconds),
                row.accuracy,
                yerr=[[row.accuracy - low], [high - row.accuracy]],
                color=_ACCENT,
                marker=marker,
                markersize=5,
                linestyle="",
                label=row.title,
            )
        plot.set(xlabel="seconds of learning", ylabel="test accuracy")
        _by_tenfold(plot)
    return drawn[0]


def by_examples(approaches: Sequence[Approach], sizes: Sequence[int]) -> str:
    """Draw accuracy by number of labelled examples; approaches that learned once are points or lines."""
    styles = ["-", "--", "-.", ":"]
    with _figure(width=6.5) as (plot, drawn):
        curved = [row for row in approaches if row.curve]
        for row, style in zip(curved, styles * len(curved), strict=False):
            plot.plot(sizes, row.curve or [], color=_ACCENT, linestyle=style, label=row.title)
        others = [row for row in approaches if row.curve is None]
        for row, marker in zip(others, _MARKERS * len(others), strict=False):
            if row.n_learned:
                place = [row.n_learned], [row.accuracy]
                plot.plot(*place, color=_SOFT, marker=marker, markersize=5, linestyle="", label=row.title)
            else:
                plot.axhline(row.accuracy, color=_SOFT, linestyle=":", linewidth=1, label=row.title)
        plot.set(xlabel="labelled examples", ylabel="accuracy")
        _by_tenfold(plot)
    return drawn[0]


def _by_tenfold(plot: Axes) -> None:
    """Give a plot a logarithmic axis with plain numbers, and the legend beside it."""
    plot.set_xscale("log")
    plot.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    plot.minorticks_off()
    plot.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)


def thresholds(probabilities: npt.NDArray[np.float64], labels: Labels, label: int) -> dict[str, list[float]]:
    """Return precision and recall of one class by the probability from which on it is predicted, rising.

    Returns:
        `threshold`, `precision`, `recall` and `predicted`, the share of all examples that are then predicted so. An
        even chance is among the thresholds; above all probabilities precision is 1, as scikit-learn has it.
    """
    of_label, is_label = probabilities[:, label], of_class(labels, label).astype(bool)
    (kept,) = _thinned(np.unique(of_label))
    columns: dict[str, list[float]] = {"threshold": [], "precision": [], "recall": [], "predicted": []}
    for threshold in np.union1d(kept, EVEN):
        predicted = of_label >= threshold
        right = (predicted & is_label).sum()
        precision = right / predicted.sum() if predicted.any() else 1.0
        values = (threshold, precision, right / is_label.sum(), predicted.mean())
        for column, value in zip(columns.values(), values, strict=True):
            column.append(round(float(value), 4))
    return columns


@contextmanager
def _figure(width: float = 4.8) -> Iterator[tuple[Axes, list[str]]]:
    """Yield a plot of this width in inches, and a list that holds the drawing afterwards.

    Ctrl-C is raised after it: matplotlib looks after weak references all the time, and what is raised there is ignored.
    """
    drawn: list[str] = []
    with deferred(), rc_context(_STYLE):
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        yield figure.subplots(), drawn
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn.append(_as_part_of_a_page(file.getvalue()))


def _as_part_of_a_page(drawing: str) -> str:
    drawing = drawing[drawing.index("<svg") :]
    # Metadata and name spaces are addresses, which a page that asks the network for nothing need not mention.
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r' xmlns(:\w+)?="[^"]*"', "", drawing).replace("xlink:href", "href")
    for stand_in, variable in _VARIABLES.items():
        drawing = drawing.replace(stand_in, variable)
    return drawing


def _thinned(*columns: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    kept = np.unique(np.linspace(0, len(columns[0]) - 1, _POINTS).round().astype(np.int64))
    return [column[kept] for column in columns]
