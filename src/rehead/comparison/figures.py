"""Draw what approaches reach by the time that they learned, and by the number of labelled examples."""

import math
from collections.abc import Sequence
from itertools import cycle

from rehead.comparison.results import ApproachResult
from rehead.evaluation.plots import DOTTED, LINES, SERIES, SHAPES, SOFT, Plot

_WIDE = 468
# Seconds that are drawn of what took next to none: a logarithm knows no zero.
_SHORTEST = 0.01


def by_compute(approaches: Sequence[ApproachResult]) -> str:
    """Draw the accuracy of approaches by the seconds that they learned, features that were cached included."""
    plot = Plot("seconds of learning", "test accuracy", log_x=True, width=_WIDE)
    for row, shape, color in zip(approaches, cycle(SHAPES), cycle(SERIES), strict=False):
        seconds = max(_SHORTEST, row.learning_seconds)
        plot.add([seconds, seconds], row.accuracy_ci, color)
        plot.add([seconds], [row.accuracy], color, shape=shape, label=row.title)
    return plot.svg()


def by_examples(approaches: Sequence[ApproachResult], sizes: Sequence[int]) -> str:
    """Draw accuracy by number of labelled examples; approaches that learned once are points or lines."""
    plot = Plot("labelled examples", "accuracy", log_x=True, width=_WIDE)
    for row, shape, color, dash in zip(approaches, cycle(SHAPES), cycle(SERIES), cycle(LINES), strict=False):
        if row.curve:
            plot.add(sizes, row.curve, color, dash=dash, label=row.title)
        elif row.n_learned:
            plot.add([row.n_learned], [row.accuracy], color, shape=shape, label=row.title)
        else:
            plot.add([-math.inf, math.inf], [row.accuracy] * 2, SOFT, dash=DOTTED, label=row.title)
    return plot.svg()
