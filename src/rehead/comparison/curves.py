"""Accuracy by number of labelled examples, for the approaches that learn in a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rehead.classifier import Classifier
from rehead.comparison.approaches import Task
from rehead.data.examples import Index
from rehead.data.splits import Split, of_each_class
from rehead.evaluation import baselines
from rehead.training.frozen_probes import frozen_features

# Examples of each class; each number is four times the one before.
_LEAST, _FACTOR = 8, 4
REPEATS = 3


def sizes(task: Task) -> list[int]:
    """Numbers of examples of each class that are tried; a class with fewer gives all it has."""
    largest = int(np.bincount(task.train.labels).max())
    return [_LEAST * _FACTOR**i for i in range(16) if _LEAST * _FACTOR**i < largest]


def of_words(task: Task) -> list[float]:
    """Validation accuracy of TF-IDF at each of `sizes`, and at the end with all examples."""

    def accuracy(rows: Index) -> float:
        learned = baselines.learn(task.train.take(rows), task.validation)
        assert isinstance(learned, baselines.Baselines)
        return float((learned.predict_regression(task.validation.texts) == task.validation.labels).mean())

    return _curve(task, accuracy)


def of_features(task: Task, model: Classifier) -> list[float]:
    """The same of a probe on the features that a classifier reads."""
    told = model.artifact_.manifest.to_json()
    everything = task.train.followed_by(task.validation)
    frozen = frozen_features(everything, told)
    held_out = np.arange(len(task.train), len(everything))

    def accuracy(rows: Index) -> float:
        predicted = frozen.tested(Split(rows, held_out, held_out)).argmax(1)
        return float((predicted == everything.labels[held_out]).mean())

    return _curve(task, accuracy)


def enough(at: Sequence[int], accuracies: Sequence[float], wanted: float) -> int | None:
    """The smallest number of labelled examples that reaches an accuracy; None where none does.

    Args:
        at: numbers of examples in all, rising.
    """
    return next((n for n, accuracy in zip(at, accuracies, strict=True) if accuracy >= wanted), None)


def totals(task: Task) -> list[int]:
    """How many examples in all `sizes` come to, and at the end all there are."""
    counts = np.bincount(task.train.labels, minlength=len(task.train.label_names))
    return [*(int(np.minimum(counts, size).sum()) for size in sizes(task)), len(task.train)]


def _curve(task: Task, accuracy: Callable[[Index], float]) -> list[float]:
    generator = np.random.default_rng(task.seed)
    means = []
    for size in sizes(task):
        drawn = [of_each_class(task.train.labels, size, generator) for _ in range(REPEATS)]
        means.append(float(np.mean([accuracy(rows) for rows in drawn])))
    return [*means, accuracy(np.arange(len(task.train)))]
