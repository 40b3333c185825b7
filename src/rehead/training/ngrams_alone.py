"""Train a classifier without a network: the regression on word and character n-grams that others are compared with.

It is the baseline as it is, calibrated like every classifier: validation chooses regularisation and temperature, then
it learns once more from training and validation examples together.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields

import numpy as np

from rehead.data.examples import Examples
from rehead.evaluation import likelihood
from rehead.evaluation.baselines import NAMES, Baselines, relearn
from rehead.evaluation.calibration import Mixture, temperature
from rehead.models.heads import finite
from rehead.models.registry import TFIDF
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError
from rehead.training.callbacks import Callback
from rehead.training.config import TrainingConfig
from rehead.training.finetune import TrainedClassifier
from rehead.training.strategies import Attempt, Candidate

# The strategy's name: one linear layer is learned, as with every solved head.
_TUNE = "head"
# Settings of a network, and why n-grams have no such thing. The preset and the budget hold whatever they say: what is
# learned in seconds exceeds neither.
_OF_NETWORKS = {
    "tune": "has no layers to train",
    "depth": "has no layers",
    "pool": "has no states to pool",
    "max_length": "reads every text whole",
    "long": "reads every text whole",
    "views": "is for texts",
    "average_views": "is for texts",
    "ngrams": "is word and character n-grams and nothing else",
    "epochs": "is solved to convergence, not trained in epochs",
    "batch_size": "is solved on all texts at once",
    "learning_rate": "is solved to convergence, without a learning rate",
    "label_smoothing": "is solved on the labels as they are",
    "class_weight": "weighs every class the same",
}
# A parameter of `Classifier` with the value that is to be left out.
_PARAMETERS = {"ngrams": "ngrams=False"}


@dataclass(frozen=True)
class NgramData:
    """The examples of a fit without a network.

    Raises:
        SettingError: they are images.
    """

    config: TrainingConfig
    train: Examples
    validation: Examples

    def __post_init__(self) -> None:
        if self.train.images is not None:
            raise SettingError(f"`base={TFIDF!r}` is for texts, and these are images; use `base='efficientnet-lite0'`")


@dataclass(frozen=True, kw_only=True)
class TrainedNgrams(TrainedClassifier):
    """A regression on n-grams and how it came about.

    Attributes:
        regression: as it learned last; its logits are to be divided by the temperature.
    """

    regression: Baselines


def require_no_layers(config: TrainingConfig) -> None:
    """Raise SettingError where a setting is not left out that is a network's."""
    plain = {field.name: field.default for field in fields(TrainingConfig)}
    for name, why in _OF_NETWORKS.items():
        if getattr(config, name) != plain[name] and (name, config.tune) != ("tune", _TUNE):
            parameter = _PARAMETERS.get(name, name)
            raise SettingError(
                f"`base={TFIDF!r}` {why}; leave `{parameter}` out, or give a pretrained base such as minilm"
            )


def learn_ngrams(data: NgramData, baseline: Baselines, callback: Callback, *, refits: bool) -> TrainedNgrams:
    """Make a classifier of the baseline.

    Args:
        baseline: learned from the same training examples, at the strength that validation chose.
        callback: learns of it.
        refits: whether it learns once more, from training and validation examples together.

    Raises:
        DataError: no two texts have an n-gram in common.
    """
    assert baseline.strength is not None  # it was learned just now
    if not baseline.features.width:
        raise DataError(
            f"{data.train.source}: no word or run of characters is in two of the texts, so there is nothing to count; "
            "give more texts, or a pretrained base such as minilm"
        )
    begun = time.perf_counter()
    labels, weights = data.validation.labels, data.validation.weights
    logits = finite(baseline.logits(data.validation.texts))
    mixture = Mixture(temperature(logits, labels, weights), 0.0)
    regression = relearn(data.train.followed_by(data.validation), baseline.strength) if refits else baseline
    n_weights = regression.weight.size + regression.bias.size
    learned = f"{NAMES[TFIDF]}: {regression.features.width:,} n-grams, {n_weights:,} weights"
    progress.say(learned)
    seconds = time.perf_counter() - begun
    losses = likelihood.losses(mixture.of(logits, logits), labels, weights)
    candidate = Candidate.of(Attempt(_TUNE, logits, seconds, n_weights), losses, mixture)
    callback.on_candidate(candidate)
    return TrainedNgrams(
        regression=regression,
        temperature=mixture.divisor,
        tune=_TUNE,
        validation_logits=(logits / mixture.divisor).astype(np.float32),
        refitted=refits,
        candidates=[candidate],
        replaced=learned,
        parameters=n_weights,
        seconds={"load": 0.0, "trunk": 0.0, "probe": seconds, "tail": 0.0},
    )
