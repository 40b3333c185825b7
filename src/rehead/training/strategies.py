"""Train more than the head: which strategies there are, what each costs, and trying one of them.

Each starts from the weights as they were published and leaves backbone and head as they were; what it learned is a
value, which `adopt` writes into them. The head starts from the solved probe (LP-FT: Kumar et al., ICLR 2022, arXiv
2202.10054), at a fifth of its size: a head that is right and sure leaves the layers nothing to learn, and one that is
random takes them the wrong way first. Where no epoch is better than the probe, the probe is what is left.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rehead.evaluation.calibration import Mixture
from rehead.evaluation.likelihood import even_loss
from rehead.models.adapters import Adapters
from rehead.models.backbone import Backbone
from rehead.models.heads import Head, scale_logits
from rehead.models.loading import digest_of_weights
from rehead.runtime import hardware, progress
from rehead.training import depth_search, loop, lora
from rehead.training.callbacks import Callback
from rehead.training.checkpoint import Checkpoint, Resumption
from rehead.training.config import AND, LAST, trained_layers
from rehead.training.contrastive import Contrastive
from rehead.training.encoding import EncodedData
from rehead.training.features import Features, training_flops
from rehead.training.inputs import Computed, Inputs, Kept
from rehead.training.loop import History, Recipe
from rehead.training.tail import Classification, Labelled, Tail
from rehead.training.vocabulary import reached_alone

# These rates suit layers of 768; narrower ones take as much more. Batches of 32 with 1e-4 learn in two epochs what
# batches of 16 with 5e-5 do, in two thirds of the time; see docs/results/recipes.md.
_RATE, _RATE_OF_ALL, _WIDTH = 1e-4, 3e-5, 768
_EPOCHS, _EPOCHS_OF_ALL, _BATCH_SIZE, _BATCH_SIZE_OF_ALL = 2, 3, 32, 16
# Few examples are passed more often, until the optimizer has taken the least steps, but no more often than that.
_LEAST_STEPS, _MOST_EPOCHS = 150, 10
# Of contrastive training: steps in all, examples in each, all of whose pairs are learned from. Half as many steps show
# whether it helps (90.2 % of 400 reviews from 8 a class, three draws); the training that is kept, from all examples,
# takes them all (91.6 %, two draws). Narrow layers take no higher rate: with twice as much for MiniLM's, cr has 74.1
# instead of 75.8 %, tweet_emotion 58.4 instead of 59.5 (8 a class, three draws, 700 of the test).
_CONTRASTIVE_STEPS, _CONTRASTIVE_LOOK, _CONTRASTIVE_BATCH, _CONTRASTIVE_RATE = 40, 20, 64, 5e-5
# Of the solved probe, what a training starts with. Accuracy of tweet_emotion's test after two epochs with this,
# with 1, and from small random weights: MiniLM's last layer 80.2, 78.3, 78.8 %, its last four 81.6, 80.7, 81.4 %.
_START = 0.2
# Regularisation of the head on features that were trained to part the classes; the examples that they were trained on
# cannot say which.
_CONTRASTIVE_STRENGTH = 0.1
# Training reaches about this share of a plain matrix product's speed: measured on a small language model, where
# optimizer, norms and short batches take the rest.
TRAINING_EFFICIENCY = 0.4
# Seconds that a step takes for each trained layer on an accelerator, however little there is to compute: its operations
# have to be launched one by one. 6 ms with `full`, 9 with `lora` (H200).
_LAUNCHING = 0.008
# A training that the time allows for less than this share of is not begun.
_WORTHWHILE = 0.4
# `balanced` spends at most this share of the budget on each point of accuracy that a strategy could win: on articles of
# five topics (bbc), 1 % of which the probe takes wrongly, the last four layers took 483 s and gained nothing.
_BUDGET_A_POINT = 1 / 3
# Bytes of memory for each weight that is trained: itself, its gradient, two moments, the best and the first.
_BYTES_A_WEIGHT = 24


@dataclass(frozen=True)
class Attempt:
    """A classifier that was tried.

    Attributes:
        tune: the strategy; `head` for the probe, two of them for a mean of two.
        logits: (n_validation, n_classes) float32, not calibrated.
        seconds: that it took.
        trainable: number of weights that were trained.
        history: of the training; None for the probe.
        weights: what was learned, by name, see `adopt`; empty for the probe.
        adapters: of `lora`, whose effect is in `weights` already.
        parts: those that it is the mean of; empty for any other.
    """

    tune: str
    logits: npt.NDArray[np.float32]
    seconds: float
    trainable: int
    history: History | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    adapters: Adapters | None = None
    parts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Candidate(Attempt):
    """An attempt that can be compared with others.

    Attributes:
        losses: (n_validation,) log loss after calibration, by which candidates are compared; with the baseline beside
            it, where `mixture` has it.
        mixture: temperature, and how much of the baseline stands beside it.
    """

    losses: npt.NDArray[np.float64]
    mixture: Mixture

    @classmethod
    def of(cls, attempt: Attempt, losses: npt.NDArray[np.float64], mixture: Mixture) -> Candidate:
        """Return an attempt with its losses and its mixture."""
        return cls(**vars(attempt), losses=losses, mixture=mixture)

    @property
    def loss(self) -> float:
        """The mean log loss of the validation examples after calibration."""
        return float(self.losses.mean())


def planned(data: EncodedData, depth: int) -> list[str]:
    """Return the strategies beyond the probe that may be tried on `depth` layers, each costlier than the one before."""
    config = data.config
    if config.tune != "auto":
        return [] if config.tune == "head" else [config.tune]
    if not config.auto_trains_layers:
        return []
    if data.has_few:
        return ["contrastive"]
    if data.train.images is not None and config.preset == "balanced":
        return []  # minutes that gained nothing on 517 images, where all weights in a plain loop lost two points
    last = f"last-{min(LAST, depth)}"
    if config.preset == "balanced":
        return [last]
    n_bytes = _BYTES_A_WEIGHT * sum(weight.numel() for weight in data.base.body.parameters())
    takes_all = n_bytes < hardware.free_device_memory() / 2
    everything = ["full"] if takes_all else ["lora"] if data.base.takes_adapters else []
    return [last, *everything]


def recipe_for(data: EncodedData, tune: str, again: Attempt | None = None) -> Recipe:
    """Return how a strategy trains, with what the user asked for in its place.

    Args:
        again: as of `attempt`; it ends after the epoch that was best then, which the temperature was fitted to.
    """
    narrower = max(1.0, _WIDTH / data.base.hidden_size)
    if tune == "contrastive":
        steps = _CONTRASTIVE_LOOK if data.config.tune == "auto" and again is None else _CONTRASTIVE_STEPS
        epochs = math.ceil(steps * _CONTRASTIVE_BATCH / data.n_train)
        recipe = Recipe(min(epochs, steps), _CONTRASTIVE_BATCH, _CONTRASTIVE_RATE)
        return data.config.adjusted(recipe)
    if tune == "lora":
        recipe = Recipe(_EPOCHS_OF_ALL, _BATCH_SIZE_OF_ALL, lora.LEARNING_RATE)
    elif tune == "full":
        recipe = Recipe(_EPOCHS_OF_ALL, _BATCH_SIZE_OF_ALL, _RATE_OF_ALL * narrower, dropout=True)
    else:
        # Without dropout, which changed nothing (91.4 and 91.5 % of 753 reviews, mpnet): with it attention holds all
        # scores of a step, and of articles 461 of 612 s went there, and 6.8 GB.
        recipe = Recipe(_EPOCHS, _BATCH_SIZE, _RATE * narrower)
    batch_size = data.config.batch_size or recipe.batch_size
    more = min(_MOST_EPOCHS, math.ceil(_LEAST_STEPS * batch_size / max(1, data.n_train)))
    ends_after = again.history.best_epoch or None if again and again.history else None
    return data.config.adjusted(replace(recipe, epochs=max(recipe.epochs, more), ends_after=ends_after))


def cut_for(tune: str, depth: int) -> int:
    """Return how many layers a strategy leaves frozen."""
    return depth - trained_layers(tune, depth)


def cut_of(candidate: Attempt, depth: int) -> int:
    """Return how many layers are in a candidate as they were published."""
    return min(cut_for(part.tune, depth) for part in candidate.parts or (candidate,))


def expected_seconds(data: EncodedData, tune: str, depth: int) -> float:
    """Return what a strategy is likely to take, from its operations and the machine's speed."""
    tokens = int(data.encoded.tokens[: data.n_train].sum())
    cut, recipe = cut_for(tune, depth), recipe_for(data, tune)
    operations = training_flops(data.base, tokens, cut, depth, kept=data.keeps_tokens(cut))
    return training_seconds(data, recipe, recipe.epochs * operations, depth - cut)


def training_seconds(data: EncodedData, recipe: Recipe, operations: float, layers: int) -> float:
    """Return what training some layers is likely to take, with these operations in all epochs together."""
    speed = TRAINING_EFFICIENCY * hardware.product_speed(hardware.native_dtype())
    steps = recipe.epochs * math.ceil(data.n_train / recipe.batch_size)
    launching = 0.0 if hardware.device().type == "cpu" else _LAUNCHING * layers * steps
    return max(operations / speed, launching)


def why_not(data: EncodedData, tune: str, depth: int, best: Candidate, deadline: float | None) -> str | None:
    """Return why `auto` does not try a strategy; None where it does."""
    wrong = 100 * float((best.losses > even_loss(data.validation.labels)).mean())
    # Of few examples that says nothing.
    if not data.has_few and not wrong:
        return f"{tune} has nothing to gain: no validation example is classified wrongly"
    if deadline is None:
        return None
    needed, left = expected_seconds(data, tune, depth), deadline - time.perf_counter()
    if left < _WORTHWHILE * needed:
        return f"{tune} would take about {needed:.0f} s more, and {max(0.0, left):.0f} s of the budget are left"
    if not data.has_few and data.config.preset == "balanced" and needed > _BUDGET_A_POINT * data.config.budget * wrong:
        only = f"and only {wrong:.1f} % of the validation examples are classified wrongly"
        return f"{tune} would take about {needed:.0f} s, {only} (`budget`, `preset='best'`)"
    return None


def attempt(
    data: EncodedData,
    tune: str,
    head: Head,
    features: Features,
    deadline: float | None,
    resumption: Resumption | None,
    callback: Callback | None,
    again: Attempt | None = None,
) -> Attempt:
    """Train with one strategy and return what it learned; backbone and head are afterwards as they were.

    Args:
        head: with the solved probe in it.
        features: with the token states at the cut, if they were kept.
        deadline: on the clock of time.perf_counter, see `rehead.training.loop.train`.
        callback: of the training, see `rehead.training.loop.train`.
        again: what the strategy gave from the training examples, to learn once more from the validation examples, too;
            what the candidate says of these is then worth nothing.

    Raises:
        Interrupted: Ctrl-C.
    """
    begun = time.perf_counter()
    label = f"{tune} from all examples" if again else tune
    changed = _changed_by(data, tune, head)
    before = _copied(changed)
    try:
        # Of the embedding only the rows that these texts reach are there while all weights are trained.
        reached = tune == "full" and data.train.images is None
        with reached_alone(data.base, data.encoded.ids.values) if reached else nullcontext():
            tail, adapted = _tail(data, tune, head)
            weights = tail.weights()
            progress.say(f"training {tune}: {sum(weight.numel() for weight in weights):,} weights")
            examples, held_out = _inputs(data, tail, features, with_validation=again is not None)
            checkpoint = _checkpoint(data, tune, tail, examples, resumption)
            recipe = recipe_for(data, tune, again)
            if tune == "contrastive":
                history = loop.train(Contrastive(tail, examples), recipe, checkpoint, deadline, callback, label)
                seen = tail.features(examples.inputs)
                depth_search.solve_head_at(head, seen, examples.labels.numpy(), _CONTRASTIVE_STRENGTH, examples.weights)
            else:
                trainee, begin = Classification(tail, examples, held_out, recipe), partial(scale_logits, head, _START)
                history = loop.train(trainee, recipe, checkpoint, deadline, callback, label, begin)
            logits = tail.logits(held_out.inputs).numpy()
            tail.trained.to("cpu")
            data.base.model.to("cpu")
        adapters = None if adapted is None else lora.merge(tail.base, data.base, adapted)
        learned = _copied(changed)
    finally:
        _write(changed, before)
    _warn_of_lost(data, tune, history)
    trainable = sum(weight.numel() for weight in weights)
    return Attempt(tune, logits, time.perf_counter() - begun, trainable, history, learned, adapters)


def average(data: EncodedData, head: Head, features: Features, first: Attempt, second: Attempt) -> Attempt:
    """Return the classifier whose weights are the means of two others'; backbone and head stay as they are.

    Both began with the same weights, so that what lies between them is a classifier, too, often a better one (model
    soups: Wortsman et al., ICML 2022, arXiv 2203.05482). What one of them did not change counts as it was published.
    """
    begun = time.perf_counter()
    parts = (first, second)
    named = _named_weights(data.base, head)
    changed = {name: weight for name, weight in named.items() if any(name in part.weights for part in parts)}
    before = _copied(changed)
    means = {
        name: torch.lerp(first.weights.get(name, value), second.weights.get(name, value), 0.5)
        for name, value in before.items()
    }
    depth = len(data.base.layers)
    tail = Tail.of_blocks(data.base, head, min(cut_for(part.tune, depth) for part in parts), depth)
    try:
        _write(changed, means)
        _, held_out = _inputs(data, tail, features, with_validation=False)
        logits = tail.logits(held_out.inputs).numpy()
        tail.trained.to("cpu")
        data.base.model.to("cpu")
    finally:
        _write(changed, before)
    seconds, trainable = time.perf_counter() - begun, max(part.trainable for part in parts)
    tune = AND.join(part.tune for part in parts)
    return Attempt(tune, logits, seconds, trainable, weights=means, parts=parts)


def adopt(data: EncodedData, head: Head, candidate: Attempt) -> None:
    """Write what a candidate learned into backbone and head; nothing for the probe, which is there already."""
    _write(_named_weights(data.base, head), candidate.weights)


def _named_weights(base: Backbone, head: Head) -> dict[str, nn.Parameter]:
    """Return all weights of a classifier by name; shared ones once."""
    return dict(nn.ModuleDict({"backbone": base.body, "head": head}).named_parameters())


def _changed_by(data: EncodedData, tune: str, head: Head) -> dict[str, nn.Parameter]:
    """Return the weights that a strategy changes, by name."""
    weights = _named_weights(data.base, head)
    if tune == "full":
        return weights
    depth = len(data.base.layers)
    modules: list[nn.Module] = [*data.base.layers[cut_for(tune, depth) :], data.base.norm, head]
    touched = {id(weight) for module in modules for weight in module.parameters()}
    return {name: weight for name, weight in weights.items() if id(weight) in touched}


def _copied(weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}


def _write(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            weights[name].copy_(value)


def _tail(data: EncodedData, tune: str, head: Head) -> tuple[Tail, Any]:
    """Return what is trained; for `lora` on a copy of the backbone, with peft's configuration."""
    base, depth = data.base, len(data.base.layers)
    if tune == "full":
        return Tail.of_everything(base, head, depth), None
    if tune == "lora":
        copied = lora.copy_of(base, hardware.native_dtype())
        adapters, config = lora.attach(copied, data.config.seed)
        return Tail.of_adapters(copied, head, depth, adapters), config
    return Tail.of_blocks(base, head, cut_for(tune, depth), depth), None


def _inputs(data: EncodedData, tail: Tail, features: Features, *, with_validation: bool) -> tuple[Labelled, Labelled]:
    """Return what enters the tail, of the training and of the validation examples."""
    everything = torch.arange(len(data.labels))
    n_frozen = sum(read <= tail.cut for read in tail.head.reads)
    below = torch.cat(features.pooled[:n_frozen], dim=1) if n_frozen else None

    def inputs(rows: Tensor, anew: bool) -> Inputs:
        of_rows = None if below is None else below[rows]
        if tail.cut and tail.cut == features.cut and features.tokens is not None:
            return Kept(features.tokens.take(rows), of_rows)
        base = data.frozen if tail.cut else tail.base
        return Computed(base, data.encoded.ids.take(rows), tail.cut, of_rows, anew)

    held_out = everything[data.n_train :]
    train_rows = everything if with_validation else everything[: data.n_train]
    # Where nothing is kept, views cost no more if they are others in each epoch.
    weights, own = data.example_weights(everything.numpy()), data.own_weights

    def labelled(rows: Tensor, anew: bool) -> Labelled:
        of_rows = [None if one is None else one[rows.numpy()] for one in (weights, own)]
        return Labelled(inputs(rows, anew), torch.from_numpy(data.labels[rows.numpy()]), *of_rows)

    return labelled(train_rows, data.views > 1 and not tail.cut), labelled(held_out, False)


def _checkpoint(
    data: EncodedData, tune: str, tail: Tail, examples: Labelled, resumption: Resumption | None
) -> Checkpoint | None:
    if resumption is None:
        return None
    decides = [
        replace(data.config, budget=0.0),
        digest_of_weights(data.base.folder),
        # What was measured and chosen so far, which another machine might measure otherwise.
        [tail.cut, tail.depth, tail.head.pooling],
        [type(examples.inputs).__name__, data.base.frozen_dtype, hardware.native_dtype(), hardware.device().type],
        [version(package) for package in ("rehead", "torch", "transformers", "peft")],
    ]
    digest = hashlib.sha256(repr(decides).encode())
    digest.update(data.labels.tobytes())
    digest.update(repr(data.own_weights if data.own_weights is None else data.own_weights.tolist()).encode())
    digest.update(data.encoded.ids.digests().tobytes())
    return Checkpoint(resumption.folder, tune, digest.hexdigest(), resumption.resume)


def _warn_of_lost(data: EncodedData, tune: str, history: History) -> None:
    if history.lost_rows:
        lines = ", ".join(str(line) for line in data.train.lines[history.lost_rows].tolist())
        progress.warn(
            f"{tune}: {history.stopped} on the batch of rows {lines} of {data.train.source}, so the training ended and "
            f"the weights of epoch {history.best_epoch} are kept; try a lower `learning_rate`"
        )
