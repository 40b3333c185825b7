"""Draw the figures of a report as SVG that stands in a page: text stays text, lines take the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_curve

from rehead.data.labels import Labels, class_counts, is_multilabel, of_class
from rehead.evaluation.metrics import bins_of

_INK, SOFT, _ACCENT = "var(--ink)", "var(--soft)", "var(--accent)"
# Six hues of the page that those who do not see all colours tell apart (Okabe and Ito, "Color universal design", 2008),
# darkened where they would be too pale on paper.
SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
# A second difference beside the hue: lengths of the dashes and of the gaps between them.
LINES = ("", "6 3", "8 2 2 2", "2 2", "8 2 2 2 2 2", "2 5")
DOTTED = "1 3"
# Shapes around a point: circle, square, diamond and triangles.
SHAPES = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "m-3-3h6v6h-6z",
    "m0-4l4 4l-4 4l-4-4z",
    "m0-4l4 7h-8z",
    "m0 4l4-7h-8z",
)
_BINS = 10
# More classes than this would be a tangle; those with the most examples are drawn.
_CURVES = 6
# More points than this make a file large and a curve no finer.
_POINTS = 200
# Points of the page: a plot with what stands around it, and a row of the legend.
_WIDTH, _HEIGHT, _ROW = 346, 230, 14
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 22, 36
# Of the axes' length, what is left free beside the outermost points.
_FREE = 0.04


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
    plot = Plot(
        "probability of the label" if several else "probability of the prediction",
        "share that has it" if several else "share that is right",
        y_range=(-0.03, 1.05),
    )
    plot.add([0, 1], [0, 1], SOFT, dash=DOTTED)
    radii = np.sqrt((12 + 120 * counts[there] / counts.max()) / np.pi)
    for x, y, radius, count in zip(means, accuracies, radii, counts[there], strict=True):
        plot.add([x], [y], _ACCENT, shape=_circle(radius), note=f"{count:,}")
    return plot.svg()


def curves(probabilities: npt.NDArray[np.float64], labels: Labels, label_names: tuple[str, ...]) -> str:
    """Draw the receiver operating characteristic and precision-recall curve of each class against the rest."""
    counts = class_counts(labels, len(label_names))
    shown = [i for i in np.argsort(-counts, kind="stable")[:_CURVES] if 0 < counts[i] < len(labels)]
    if len(label_names) == 2 and not is_multilabel(labels):
        shown = shown[-1:]  # the rarer of two: the other's curve is the same one mirrored
    roc = Plot("false positive rate", "true positive rate", title="ROC")
    precise = Plot("recall", "precision", title="precision and recall", y_range=(-0.03, 1.05))
    roc.add([0, 1], [0, 1], SOFT, dash=DOTTED)
    for label, color, dash in zip(shown, SERIES, LINES, strict=False):
        is_label = of_class(labels, label)
        false_rate, true_rate, _ = roc_curve(is_label, probabilities[:, label])
        precision, recall, _ = precision_recall_curve(is_label, probabilities[:, label])
        roc.add(*_thinned(false_rate, true_rate), color, dash=dash, label=label_names[label])
        precise.add(*_thinned(recall, precision), color, dash=dash, label=label_names[label])
    return roc.svg() + precise.svg()


def depth_profile(profile: dict[str, dict[int, float]], depth: int) -> str:
    """Draw the validation log loss of a probe after each layer, by pooling."""
    plot = Plot("layers", "validation log loss", y_range=(0, None), whole_x=True)
    for (pooling, losses), color, dash in zip(profile.items(), SERIES, LINES, strict=False):
        plot.add(list(losses), list(losses.values()), color, dash=dash, label=pooling)
    plot.add([depth, depth], [-math.inf, math.inf], SOFT)
    return plot.svg()


def training_curve(losses: dict[str, list[float]]) -> str:
    """Draw the validation log loss of each strategy that trained layers, before its first epoch and after each."""
    plot = Plot("epoch", "validation log loss", y_range=(0, None), whole_x=True)
    for (strategy, by_epoch), color, dash in zip(losses.items(), SERIES, LINES, strict=False):
        plot.add(range(len(by_epoch)), by_epoch, color, dash=dash, label=strategy)
        for epoch, loss in enumerate(by_epoch):
            plot.add([epoch], [loss], color, shape=SHAPES[0])
    return plot.svg()


def learning_curve(sizes: list[int], errors: list[list[float]]) -> str:
    """Draw the share of wrong predictions by number of labels, each repetition a point."""
    plot = Plot("labels", "share of wrong predictions", y_range=(0, None), log_x=True, x_ticks=sizes)
    plot.add(sizes, [sum(values) / len(values) for values in errors], _ACCENT)
    for size, values in zip(sizes, errors, strict=True):
        for value in values:
            plot.add([size], [value], SOFT, shape=SHAPES[0])
    return plot.svg()


def thresholds(probabilities: npt.NDArray[np.float64], labels: Labels, label: int) -> dict[str, list[float]]:
    """Return precision and recall of one class by the probability from which on it is predicted, rising.

    Returns:
        `threshold`, `precision`, `recall` and `predicted`, the share of all examples that are then predicted so.
    """
    precision, recall, at = precision_recall_curve(of_class(labels, label), probabilities[:, label])
    kept = np.unique(np.linspace(0, len(at) - 1, _POINTS).round().astype(np.int64))
    predicted = [(probabilities[:, label] >= threshold).mean() for threshold in at[kept]]
    columns = {"threshold": at[kept], "precision": precision[kept], "recall": recall[kept], "predicted": predicted}
    return {name: [round(float(value), 4) for value in values] for name, values in columns.items()}


class _Mark(NamedTuple):
    """A line through points, or a shape around one.

    Attributes:
        shape: path of the shape, from its middle; empty for a line.
        dash: see `LINES`.
        note: what is written beside a shape.
        label: in the legend; empty for none.
    """

    x: Sequence[float]
    y: Sequence[float]
    color: str
    shape: str = ""
    dash: str = ""
    note: str = ""
    label: str = ""


@dataclass
class Plot:
    """Two axes, what is drawn on them, and below them a legend.

    Attributes:
        y_range: where the vertical axis ends; where one is None, that follows from what is drawn.
        log_x, whole_x: whether the horizontal axis is logarithmic, or has ticks at whole numbers alone.
        x_ticks: where it has ticks; None for round numbers.
    """

    x_label: str
    y_label: str
    title: str = ""
    y_range: tuple[float | None, float | None] = (None, None)
    log_x: bool = False
    whole_x: bool = False
    x_ticks: Sequence[float] | None = None
    width: int = _WIDTH
    marks: list[_Mark] = field(default_factory=list)

    def add(self, x: Sequence[float], y: Sequence[float], color: str, **look: Any) -> None:
        """Add a mark; see `_Mark`."""
        self.marks.append(_Mark(x, y, color, **look))

    def svg(self) -> str:
        """Return the drawing."""
        right, bottom = self.width - _RIGHT, _HEIGHT - _BOTTOM
        x_low, x_high = _ends(self._scaled(x) for mark in self.marks for x in mark.x)
        y_low, y_high = _ends((y for mark in self.marks for y in mark.y), *self.y_range)

        def across(x: float) -> float:
            return _LEFT + (right - _LEFT) * (min(max(self._scaled(x), x_low), x_high) - x_low) / (x_high - x_low)

        def down(y: float) -> float:
            return bottom - (bottom - _TOP) * (min(max(y, y_low), y_high) - y_low) / (y_high - y_low)

        labelled = [mark for mark in self.marks if mark.label]
        height = _HEIGHT + _ROW * len(labelled)
        parts = [
            f'<svg width="{self.width}pt" height="{height}pt" viewBox="0 0 {self.width} {height}" '
            'style="font: 9px sans-serif; overflow: visible">',
            _path(f"M{_LEFT} {_TOP}V{bottom}H{right}", SOFT, 0.8),
            _text(_LEFT, _TOP - 10, self.title, "start", _INK, size=10),
            _text((_LEFT + right) / 2, _HEIGHT - 8, self.x_label, "middle", _INK),
            _text(0, 0, self.y_label, "middle", _INK, f"translate(11 {(_TOP + bottom) / 2:.1f}) rotate(-90)"),
        ]
        for value, shown in self._ticks(x_low, x_high):
            parts += [_path(f"M{across(value):.1f} {bottom}v3.5", SOFT, 0.8)]
            parts += [_text(across(value), bottom + 13, shown, "middle", SOFT)]
        for value, shown in _round_ticks(y_low, y_high):
            parts += [_path(f"M{_LEFT} {down(value):.1f}h-3.5", SOFT, 0.8)]
            parts += [_text(_LEFT - 6, down(value) + 3, shown, "end", SOFT)]
        for mark in self.marks:
            places = [(across(x), down(y)) for x, y in zip(mark.x, mark.y, strict=True)]
            parts.append(_drawn(mark, places))
            if mark.note:
                parts.append(_text(places[0][0] + 4, places[0][1] + 16, mark.note, "start", SOFT))
        for row, mark in enumerate(labelled):
            y = _HEIGHT + _ROW * row + 4
            parts.append(_drawn(mark, [(_LEFT + 12, y)] if mark.shape else [(_LEFT, y), (_LEFT + 24, y)]))
            parts.append(_text(_LEFT + 32, y + 3, mark.label, "start", _INK))
        return "".join([*parts, "</svg>"])

    def _scaled(self, x: float) -> float:
        return math.log10(x) if self.log_x and math.isfinite(x) else x

    def _ticks(self, low: float, high: float) -> list[tuple[float, str]]:
        """Return where the horizontal axis has ticks, and what is written there; it ends at two (scaled) numbers."""
        if self.x_ticks is not None:
            return [(tick, f"{tick:,}") for tick in self.x_ticks]
        if not self.log_x:
            return _round_ticks(low, high, whole=self.whole_x)
        # Of less than three powers of ten their doubles and quintuples, too.
        factors = (1, 2, 5) if high - low < 3 else (1,)
        powers = range(math.floor(low), math.ceil(high) + 1)
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        return [(tick, f"{tick:,g}") for tick in ticks if low <= math.log10(tick) <= high]


def _ends(values: Iterable[float], low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """Return where an axis begins and ends: as asked for, or so that all finite values have a place."""
    finite = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    free = _FREE * (max(finite) - min(finite)) or 0.5
    return min(finite) - free if low is None else low, max(finite) + free if high is None else high


def _round_ticks(low: float, high: float, *, whole: bool = False) -> list[tuple[float, str]]:
    """Return about five round numbers between two, and how they are written."""
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    step = max(1.0, step) if whole else step
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, f"{number * step:.{decimals}f}") for number in range(first, last + 1)]


def _drawn(mark: _Mark, places: list[tuple[float, float]]) -> str:
    if mark.shape:
        x, y = places[0]
        return _path(f"M{x:.1f} {y:.1f}{mark.shape}", mark.color, 1, fill=mark.color)
    return _path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places), mark.color, 1.5, dash=mark.dash)


def _path(path: str, color: str, width: float, *, fill: str = "none", dash: str = "") -> str:
    dashes = f";stroke-dasharray:{dash}" if dash else ""
    return f'<path d="{path}" style="fill:{fill};stroke:{color};stroke-width:{width}{dashes}"/>'


def _circle(radius: float) -> str:
    """Return a circle as one of `SHAPES`."""
    half = f"a{radius:.1f} {radius:.1f} 0 1 0"
    return f"m-{radius:.1f} 0{half} {2 * radius:.1f} 0{half}-{2 * radius:.1f} 0z"


def _text(x: float, y: float, text: str, anchor: str, color: str, transform: str = "", size: int = 9) -> str:
    moved = f' transform="{transform}"' if transform else ""
    style = f"fill:{color};text-anchor:{anchor};font-size:{size}px"
    return f'<text x="{x:.1f}" y="{y:.1f}"{moved} style="{style}">{escape(text)}</text>' if text else ""


def _thinned(*columns: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    kept = np.unique(np.linspace(0, len(columns[0]) - 1, _POINTS).round().astype(np.int64))
    return [column[kept] for column in columns]
