"""Accuracy by number of labelled examples, for the approaches that learn in a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rehead.classifier import Classifier
from rehead.comparison.approaches import ComparisonTask
from rehead.data.examples import Index
from rehead.data.splits import Split, of_each_class
from rehead.evaluation import baselines
from rehead.training.frozen_probes import frozen_features

# Examples of each class; each number is four times the one before.
_LEAST, _FACTOR = 8, 4
# Draws of each size.
REPEATS = 3


def of_words(task: ComparisonTask) -> list[float]:
    """Return the validation accuracy of TF-IDF at each of `totals`."""

    def accuracy(rows: Index) -> float:
        learned = baselines.learn(task.train.take(rows), task.validation)
        return float((learned.predict_regression(task.validation.texts) == task.validation.labels).mean())

    return _curve(task, accuracy)


def of_features(task: ComparisonTask, model: Classifier) -> list[float]:
    """Return the validation accuracy of probes on the features that a classifier reads, at each of `totals`."""
    examples = task.train.followed_by(task.validation)
    frozen = frozen_features(examples, model.artifact_.manifest.to_json())
    held_out = np.arange(len(task.train), len(examples))

    def accuracy(rows: Index) -> float:
        predicted = frozen.tested(Split(rows, held_out, held_out)).argmax(1)
        return float((predicted == examples.labels[held_out]).mean())

    return _curve(task, accuracy)


def _curve(task: ComparisonTask, accuracy: Callable[[Index], float]) -> list[float]:
    generator = np.random.default_rng(task.seed)
    means = []
    for size in _sizes(task):
        drawn = [of_each_class(task.train.labels, size, generator) for _ in range(REPEATS)]
        means.append(float(np.mean([accuracy(rows) for rows in drawn])))
    return [*means, accuracy(np.arange(len(task.train)))]


def totals(task: ComparisonTask) -> list[int]:
    """Return the numbers of examples that a curve is measured at, rising; the last is all there are."""
    counts = np.bincount(task.train.labels, minlength=len(task.train.label_names))
    return [*(int(np.minimum(counts, size).sum()) for size in _sizes(task)), len(task.train)]


def _sizes(task: ComparisonTask) -> list[int]:
    """Return numbers of examples of each class; a class with fewer gives all it has."""
    largest = int(np.bincount(task.train.labels).max())
    return [_LEAST * _FACTOR**i for i in range(16) if _LEAST * _FACTOR**i < largest]


def enough(sizes: Sequence[int], accuracies: Sequence[float], least: float) -> int | None:
    """Return the smallest number of examples, of rising `sizes`, that reaches an accuracy; None where none does."""
    return next((n for n, accuracy in zip(sizes, accuracies, strict=True) if accuracy >= least), None)
