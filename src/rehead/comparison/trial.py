"""One approach is tried: it learns, answers the test texts, and is measured as far as the budget allows."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rehead.comparison import curves, robustness
from rehead.comparison.approaches import IN_WORDS, TITLES, Approach, ComparisonTask, Learned
from rehead.comparison.results import ApproachResult
from rehead.data.examples import Index
from rehead.evaluation import metrics
from rehead.evaluation.intervals import bootstrap, wilson

# Share of what is left of the budget that one approach may take to be tried with noise.
_SHARE_FOR_NOISE = 0.1
# Share of what is left of the budget within which a language model answers; it is planned to need half of that.
_SHARE_FOR_ANSWERS = 0.5
# Texts that a language model is asked about before the clock is looked at.
_PORTION = 64


def run_trial(task: ComparisonTask, name: str, approach: Approach) -> ApproachResult:
    """Let an approach learn and measure it on the test examples.

    Raises:
        NotTriedError: it does not fit into what is left of the budget, or lacks what it needs.
    """
    learned = approach(task)
    begun = time.perf_counter()
    rows, probabilities = _answer(task, learned)
    seconds = time.perf_counter() - begun
    test = task.test.take(rows)
    predicted = probabilities.argmax(1)
    tested, right = np.zeros((2, len(task.test)), dtype=np.bool_)
    tested[rows], right[rows] = True, predicted == test.labels
    # Disturbed texts are answered several times over.
    again = robustness.ANSWERED * len(robustness.DISTURBANCES) + len(task.validation)
    quick = name not in IN_WORDS and again * seconds / len(test) < _SHARE_FOR_NOISE * task.seconds_left()
    return ApproachResult(
        name=name,
        title=title(name),
        right=right,
        tested=tested,
        seconds=learned.seconds,
        milliseconds=1000 * seconds / len(test),
        cached_seconds=learned.cached_seconds,
        accuracy_ci=wilson(int(right[rows].sum()), len(rows)),
        macro_f1=metrics.macro_f1(test.labels, predicted),
        macro_f1_ci=bootstrap(probabilities, test.labels)["macro_f1"],
        n_learned=learned.n_learned,
        tflops=learned.flops / 1e12,
        megabytes=learned.megabytes,
        outside=None if learned.outside is None else learned.outside(test.texts),
        takes_new_labels=name in IN_WORDS,
        new_label_recall=None if learned.new_label is None else learned.new_label(),
        lost_by=robustness.losses_of_accuracy(learned.scores, test, predicted, task.seed) if quick else None,
        notices_other_subjects=robustness.noticed(learned.scores, task.validation) if quick else None,
        curve=_curve(task, name, learned),
    )


def title(name: str) -> str:
    """Return what an approach is called in tables and sentences."""
    kind, _, base = name.partition(":")
    return f"{TITLES[kind]}, {Path(base).name}" if base else TITLES[kind]


def _answer(task: ComparisonTask, learned: Learned) -> tuple[Index, npt.NDArray[np.float64]]:
    """Answer the test texts that the approach is tried on; where it is slower than planned, only the first of them.

    Returns:
        (n,) which test examples were answered, in rising order, and (n, n_classes) probabilities.
    """
    if learned.tested is None:
        return np.arange(len(task.test)), learned.scores(task.test.texts)
    deadline = time.perf_counter() + _SHARE_FOR_ANSWERS * task.seconds_left()
    answered: list[npt.NDArray[np.float64]] = []
    for start in range(0, len(learned.tested), _PORTION):
        if answered and time.perf_counter() >= deadline:
            break
        answered.append(learned.scores([task.test.texts[i] for i in learned.tested[start : start + _PORTION]]))
    probabilities = np.concatenate(answered)
    rows = learned.tested[: len(probabilities)]
    order = np.argsort(rows)
    return rows[order], probabilities[order]


def _curve(task: ComparisonTask, name: str, learned: Learned) -> list[float] | None:
    """Return accuracy by number of examples; None where learning again and again would take too much of the budget."""
    if name == "tfidf":
        repetitions = curves.REPEATS * len(curves.totals(task))  # most of them with fewer examples
        affordable = repetitions * learned.seconds < 2 * _SHARE_FOR_NOISE * task.seconds_left()
        return curves.of_words(task) if affordable else None
    if learned.model is not None and name.startswith("probe:"):
        return curves.of_features(task, learned.model)
    return None
