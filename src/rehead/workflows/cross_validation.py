"""Every example is tested on once, by a classifier that has learned from others: k-fold cross-validation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from rehead.classifier import Classifier
from rehead.data.duplicates import near_of
from rehead.data.examples import Examples
from rehead.data.labels import Labels, are_right, most_probable, strata
from rehead.data.splits import folds, joined
from rehead.evaluation import baselines
from rehead.evaluation.metrics import macro_f1
from rehead.runtime import progress
from rehead.runtime.errors import SettingError
from rehead.training.finetune import Limits


@dataclass(frozen=True)
class OutOfFold:
    """What classifiers said of examples that they had not learned from, in the order of the examples.

    Attributes:
        probabilities: (n, n_classes).
        tokens_cut: (n,) how many tokens of each text were cut off.
        answers: of each baseline, (n,) class ids or (n, n_classes).
        folds: accuracy and macro F1 in each fold.
    """

    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]
    answers: dict[str, Labels]
    folds: list[dict[str, Any]]


def cross_validate(pool: Examples, n_folds: int, model: Classifier, deadline: float) -> OutOfFold:
    """Trains a classifier for each fold, with the settings of an unfitted one.

    Groups and texts that are nearly the same are never parted. All folds share the cache of features.

    Args:
        deadline: on the clock of time.perf_counter. With `auto`, each fold may take its share of the time until then,
            of which as large a one is left for a last classifier, of all examples.

    Raises:
        SettingError: there are fewer examples than folds.
    """
    if not 2 <= n_folds <= len(pool):
        raise SettingError(f"`n_folds` must be from 2 to the {len(pool):,} examples that there are, not {n_folds}")
    groups = near_of(pool) if pool.groups is None else joined(near_of(pool), pool.groups)
    probabilities = np.zeros((len(pool), len(pool.label_names)))
    tokens_cut = np.zeros(len(pool), dtype=np.int64)
    answers: dict[str, Labels] = {}
    told = []
    for number, split in enumerate(folds(strata(pool.labels), n_folds, model.random_state, groups), start=1):
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
        told.append(
            {
                "n": len(test),
                "accuracy": float(are_right(test.labels, predicted).mean()),
                "macro_f1": macro_f1(test.labels, predicted),
            }
        )
    return OutOfFold(probabilities, tokens_cut, answers, told)
