"""Test on every example once, by a classifier that has learned from others: k-fold cross-validation."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from sklearn.base import clone

from rehead.classifier import Classifier
from rehead.data.duplicates import kept_together
from rehead.data.examples import Examples
from rehead.data.labels import Labels, are_right, most_probable, strata
from rehead.data.splits import folds
from rehead.evaluation import baselines
from rehead.evaluation.evaluation import Predictions
from rehead.evaluation.metrics import macro_f1
from rehead.runtime import progress
from rehead.runtime.errors import SettingError
from rehead.training.finetune import Limits


@dataclass(frozen=True)
class Fold:
    """Metrics of the classifier of a fold on its n examples."""

    n: int
    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for all examples, by classifiers that have not learned from them.

    Attributes:
        predictions: on all examples, in their order.
        folds: how good the classifiers are, one by one.
    """

    predictions: Predictions
    folds: list[Fold]


def cross_validate(pool: Examples, n_folds: int, model: Classifier, deadline: float) -> OutOfFold:
    """Train a classifier for each fold, with the settings of an unfitted one.

    Groups and texts that are nearly the same are never parted. All folds share the cache of features.

    Args:
        deadline: on the clock of time.perf_counter. With `auto`, each fold may take its share of the time until then,
            of which as large a one is left for a last classifier, of all examples.

    Raises:
        SettingError: there are fewer examples than folds.
    """
    if not 2 <= n_folds <= len(pool):
        raise SettingError(f"`n_folds` must be from 2 to the {len(pool):,} examples that there are, not {n_folds}")
    groups = kept_together(pool)
    probabilities = np.zeros((len(pool), len(pool.label_names)))
    tokens_cut = np.zeros(len(pool), dtype=np.int64)
    answers: dict[str, Labels] = {}
    measured = []
    for number, split in enumerate(folds(strata(pool.labels), n_folds, model.config().seed, groups), start=1):
        progress.say(f"fold {number} of {n_folds}: training {len(split.train):,}, testing {len(split.test):,}")
        train, validation, test = (pool.take(part) for part in (split.train, split.validation, split.test))
        begun = time.perf_counter()
        share = max(1.0, (deadline - begun) / (n_folds + 2 - number))
        one = clone(model).set_params(budget=share)
        learned = baselines.learn(train, validation)
        limits = Limits(begun + share) if model.tune == "auto" else None
        result = one.fit_encoded(one.prepare(train, validation), learned, limits, refits=True)
        stopped = next((tried.history.stopped for tried in result.candidates if tried.history), result.stopped)
        if limits and stopped:
            progress.warn(
                f"fold {number} did not learn all that was planned, so what is saved may do better: {stopped}"
            )
        scores = one.artifact_.scores(test.inputs)
        probabilities[split.test], tokens_cut[split.test] = scores.probabilities, scores.tokens_cut
        for name, answer in learned.predict(test).items():
            answers.setdefault(name, np.zeros_like(pool.labels))[split.test] = answer
        predicted = most_probable(scores.probabilities, pool.multilabel)
        right = are_right(test.labels, predicted)
        measured.append(Fold(len(test), float(right.mean()), macro_f1(test.labels, predicted)))
    nothing = np.zeros(len(pool), dtype=np.bool_)
    predictions = Predictions(pool, probabilities, tokens_cut, answers, nothing, nothing, one.artifact_.manifest.base)
    return OutOfFold(predictions, measured)
