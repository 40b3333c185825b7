"""Fine-tune a classifier: the story of one training run, from encoded examples to trained weights.

Sees training and validation examples only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from rehead.evaluation.baselines import Baselines
from rehead.models.adapters import Adapters
from rehead.models.backbone import Backbone
from rehead.models.heads import (
    Head,
    MeansAtOneLength,
    build,
    describe,
    parameters,
    part_of_both,
    scale_logits,
    set_linear,
)
from rehead.runtime import hardware, progress
from rehead.runtime.errors import Interrupted
from rehead.training import depth_search, parallel, probe, strategies
from rehead.training.beside import BesideHead
from rehead.training.callbacks import Callback
from rehead.training.checkpoint import Resumption
from rehead.training.depth_search import DepthChoice, pass_rows, search_depth
from rehead.training.encoding import EncodedData
from rehead.training.features import Features, forward_flops
from rehead.training.loop import History
from rehead.training.probe import Probe
from rehead.training.strategies import Attempt, Candidate, cut_for, cut_of

# Intervals, report, saving and verifying, on a slow laptop.
_LAST_SECONDS = 6.0
# How sure a one-sided t-test on the validation examples must be that what costs more is worse, with few examples: two
# of them, all that is held out of 16, say next to nothing.
_SURE = 0.95


@dataclass(frozen=True)
class Structure:
    """What a classifier is made of, as the entries of those names in rehead.json; None without a network."""

    pool: str | None = None
    depth: int | None = None
    cut: int | None = None
    blocks_of_base: int | None = None
    means_at_one_length: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
    """A trained classifier of any kind and how it came about.

    Attributes:
        baseline_factor: what the baseline's logits are multiplied by before they are added to the head's; 0 where it
            does not stand beside it.
        temperature: that the logits were divided by, or are to be.
        tune: the strategy that was kept: what was asked for, or what `auto` chose.
        validation_logits: (n_validation, n_classes) float32, calibrated, of a classifier that has not learned from
            these examples.
        refitted: whether what was kept has then learned from the validation examples, too.
        truncated: how many texts of training and validation were too long.
        profile: calibrated validation log loss of the probe by pooling and depth; empty where both were set.
        candidates: what was tried, in order; the probe first.
        stopped: why `auto` went no further, or None.
        replaced: the line that says what was replaced.
        parameters: number of weights.
        seconds: by stage.
        flops, trunk_flops: operations of trunk pass and training, and of the trunk pass alone.
        trunk_speed, trunk_share: floating-point operations a second that the trunk pass reached, and what share that is
            of a matrix product's; 0 where all was cached.
        structure: what the classifier is made of, in the place of what was asked for.
    """

    baseline_factor: float = 0.0
    temperature: float
    tune: str
    validation_logits: npt.NDArray[np.float32]
    refitted: bool
    truncated: int = 0
    profile: dict[str, dict[int, float]] = field(default_factory=dict)
    candidates: list[Candidate]
    stopped: str | None = None
    replaced: str
    parameters: int
    seconds: dict[str, float]
    flops: float = 0.0
    trunk_flops: float = 0.0
    trunk_speed: float = 0.0
    trunk_share: float = 0.0
    structure: Structure = Structure()

    @property
    def kept(self) -> Candidate:
        """The candidate that became the classifier."""
        return next(candidate for candidate in self.candidates if candidate.tune == self.tune)

    @property
    def history(self) -> History | None:
        """The training that was kept; None where only the head was trained."""
        return self.kept.history


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork(TrainedClassifier):
    """A backbone with a trained head.

    Attributes:
        base: with the layers that were kept, float32.
        head: the trained head; what it gives is divided by the temperature already.
        adapters: of the low-rank training that was kept, whose effect is in the backbone's weights already.
    """

    base: Backbone
    head: Head
    adapters: Adapters | None


@dataclass(frozen=True)
class Limits:
    """The time that a fine-tuning may take.

    Attributes:
        deadline: on the clock of time.perf_counter.
        afterwards: seconds to leave for what follows, as a share of the trunk pass's; the test passes, too.
    """

    deadline: float
    afterwards: float = 0.0

    def training_deadline(self, trunk_seconds: float) -> float:
        """Return when the training of layers has to end."""
        return self.deadline - self.afterwards * trunk_seconds - _LAST_SECONDS


def finetune(
    data: EncodedData,
    baseline: Baselines | None = None,
    limits: Limits | None = None,
    resumption: Resumption | None = None,
    callback: Callback | None = None,
    *,
    refits: bool = False,
) -> TrainedNetwork:
    """Train a classifier; validation chooses regularisation, depth, epoch and, with `auto`, the strategy.

    Args:
        baseline: may stand beside the head, where validation says that it helps; None leaves it out.
        limits: of the time, with `auto`; None for as long as it takes.
        callback: learns of what is tried, and of each step and epoch of the training of layers.
        refits: whether what was chosen learns once more, from training and validation examples together, where that
            pays.

    Raises:
        Interrupted: Ctrl-C during the training of layers.
        SettingError: what is to be resumed was begun with something else.
    """
    callback = callback or Callback()
    seconds = {"load": data.seconds, "trunk": 0.0, "probe": 0.0, "tail": 0.0}
    with _timed(seconds, "trunk"):
        choice = search_depth(data, _kept_cut(data, data.depths[0]) if len(data.depths) == 1 else None)
        # Another machine may round otherwise, and what all of them train has to be the same.
        depth, pooling, of_one = parallel.of_first(lambda: (choice.depth, choice.pooling, choice.of_one_layer))
        choice = replace(choice, depth=depth, pooling=pooling, of_one_layer=of_one)
        data.truncate(choice.depth)  # layers above it are freed
        head = build(data.base, choice.pooling, data.n_classes, data.config.seed)
        features = _trunk_features(data, head, _kept_cut(data, choice.depth))
    with _timed(seconds, "probe"):
        probed = _solve_probe(data, head, features)
        beside = BesideHead.of(baseline, data, folds=refits)
        first = beside.put_beside_probe(probed.attempt, data, head, features, probed.solved)
        callback.on_candidate(first)
    deadline = limits.training_deadline(_trunk_seconds(data, features)) if limits else None
    with _timed(seconds, "tail"):
        search = _train_further(data, choice, probed, first, beside, deadline, resumption, callback)
    best = _best_of(data, search.candidates)
    start = probed if best is first else search.start
    final: Attempt | None = None
    if refits and not search.interrupted and _pays_to_refit(data, best, deadline):
        with _timed(seconds, "probe" if best is first else "tail"):
            try:
                final = _refit(data, start, best, callback)
            except Interrupted:
                search = replace(search, stopped=_interrupted("learning from all examples"))
    strategies.adopt(data, start.head, final or best)
    scale_logits(start.head, 1 / best.mixture.divisor)  # so that the saved weights give calibrated probabilities
    # The depth search has solved probes while the clock of the trunk pass ran.
    seconds["trunk"] -= choice.probe_seconds
    seconds["probe"] += choice.probe_seconds
    return _trained(data, choice, start, search, best, final, beside, seconds)


def _kept_cut(data: EncodedData, depth: int) -> int | None:
    """Return where the first strategy's inputs are kept; None where nothing is, or is to be."""
    planned = strategies.planned(data, depth)
    cut = cut_for(planned[0], depth) if planned else depth
    return cut if planned and data.keeps_tokens(cut) else None


def _trunk_features(data: EncodedData, head: Head, cut: int | None) -> Features:
    """Return pooled features of all rows, and token states at the cut if there is one."""
    return pass_rows(data, np.arange(len(data.labels)), head.reads, head.pooling, "trunk pass", cut)


@dataclass(frozen=True)
class _Probed:
    """A head with its probe in it, what it sees of all rows, and the attempt that it is."""

    head: Head
    features: Features
    solved: Probe
    attempt: Attempt


def _solve_probe(data: EncodedData, head: Head, features: Features) -> _Probed:
    """Write the solved linear layer into the head, and return it as the first attempt."""
    begun = time.perf_counter()
    weights = data.example_weights(np.arange(data.n_train))
    n, held_out = data.n_train, data.validation.weights
    solved = depth_search.solve_head(head, features.seen, data.labels, n, probe.CONVERGED, weights, held_out)
    set_linear(head, {"weight": torch.from_numpy(solved.weight), "bias": torch.from_numpy(solved.bias)})
    with torch.inference_mode():
        logits: npt.NDArray[np.float32] = head(features.seen[data.n_train :]).numpy()
    trainable = sum(weight.numel() for weight in head.linear.parameters())
    return _Probed(head, features, solved, Attempt("head", logits, time.perf_counter() - begun, trainable))


def _start_of_training(data: EncodedData, choice: DepthChoice, probed: _Probed) -> _Probed:
    """Return what layers are trained from: the probe, or where that reads several layers, one of the last layer.

    What lower layers make of a text stays as it was, and a trained head that reads them, too, is no better: with it
    cr has 92.6, tweet_irony 73.5 % of the test, without it 93.0 and 75.3.
    """
    if choice.of_one_layer == choice.pooling:
        return probed
    head = build(data.base, choice.of_one_layer, data.n_classes, data.config.seed)
    pooled = part_of_both(probed.features.pooled[-1], choice.of_one_layer, data.base.summary_position)
    return _solve_probe(data, head, replace(probed.features, pooled=[pooled]))


@dataclass(frozen=True)
class _Search:
    """Candidates that were tried, the probe first, and what layers were trained from; why no more were, or None, and
    whether that was Ctrl-C.
    """

    candidates: list[Candidate]
    start: _Probed
    stopped: str | None = None
    interrupted: bool = False


def _train_further(
    data: EncodedData,
    choice: DepthChoice,
    probed: _Probed,
    first: Candidate,
    beside: BesideHead,
    deadline: float | None,
    resumption: Resumption | None,
    callback: Callback,
) -> _Search:
    """Try what is planned beyond the probe."""
    candidates, start, stopped, interrupted = [first], probed, None, False
    for tune in strategies.planned(data, len(data.base.layers)):
        best = min(candidates, key=lambda candidate: candidate.loss)
        if data.config.tune == "auto":
            stopped = strategies.why_not(data, tune, len(data.base.layers), best, deadline)
            if stopped:
                break
        if start is probed:
            start = _start_of_training(data, choice, probed)
        try:
            tried = strategies.attempt(data, tune, start.head, start.features, deadline, resumption, callback)
            candidates.append(beside.put_beside(tried, data))
            callback.on_candidate(candidates[-1])
        except Interrupted:
            if data.config.tune != "auto":
                raise
            # Whoever lets a search choose can end it and still have what it has found.
            stopped, interrupted = _interrupted(tune), True
            break
    trained = sorted(candidates[1:], key=lambda candidate: candidate.loss)
    if data.config.tune == "auto" and len(trained) > 1:
        mean = strategies.average(data, start.head, start.features, *trained[:2])
        candidates.append(beside.put_beside(mean, data))
        callback.on_candidate(candidates[-1])
    return _Search(candidates, start, stopped, interrupted)


def _interrupted(what: str) -> str:
    return f"{what} was interrupted; what was best so far is kept"


def _best_of(data: EncodedData, candidates: list[Candidate]) -> Candidate:
    """Return the candidate that becomes the classifier: the one that was asked for, or the best on validation.

    With few examples there are too few to judge by, and what costs more is kept unless it is worse beyond chance.
    """
    if data.config.tune != "auto":
        return candidates[-1]
    if not data.has_few:
        return min(candidates, key=lambda candidate: candidate.loss)
    best = candidates[0]
    for candidate in candidates[1:]:
        worse_by = candidate.losses - best.losses
        n = len(worse_by)
        if n < 2 or worse_by.mean() <= stats.t.ppf(_SURE, n - 1) * worse_by.std(ddof=1) / np.sqrt(n):
            best = candidate
    return best


def _pays_to_refit(data: EncodedData, best: Candidate, deadline: float | None) -> bool:
    """Whether the best candidate learns once more, from training and validation examples together.

    A head does, in a second. Layers, which take as long as before, do with `auto` alone: where examples are few, since
    the eighth of them that validation holds out is worth most then; and where the best is asked for, in time.
    """
    trained = [candidate for candidate in best.parts or (best,) if candidate.history]
    if not trained:
        return True
    lost = any(candidate.history and candidate.history.lost_rows for candidate in trained)
    if lost or not (data.has_few or data.config.preset == "best") or data.config.tune != "auto":
        return False
    seconds = sum(candidate.seconds for candidate in trained) * len(data.labels) / data.n_train
    return deadline is None or time.perf_counter() + seconds < deadline


def _refit(data: EncodedData, start: _Probed, best: Attempt, callback: Callback) -> Attempt:
    """Learn once more, with regularisation and strategy as they were chosen, from all examples together."""
    head, features, solved = start.head, start.features, start.solved
    if best.parts:
        first, second = (_refit(data, start, part, callback) for part in best.parts)
        return strategies.average(data, head, features, first, second)
    if best.history is not None:
        return strategies.attempt(data, best.tune, head, features, None, None, callback, best)
    weights = data.example_weights(np.arange(len(data.labels)))
    # The head is the only thing that changes, and it changes in place.
    begin = solved.weight, solved.bias
    depth_search.solve_head_at(head, features.seen, data.labels, solved.strength, weights, begin)
    return best


def _trained(
    data: EncodedData,
    choice: DepthChoice,
    start: _Probed,
    search: _Search,
    best: Candidate,
    final: Attempt | None,
    beside: BesideHead,
    seconds: dict[str, float],
) -> TrainedNetwork:
    """Return the backbone and head that the best candidate's weights are in, and how they came about.

    Args:
        final: what the best one learned from all examples; None where it learned from the training examples alone.
    """
    head = start.head
    replaced = describe(data.base, head, data.base.architectures, best.trainable)
    progress.say(replaced)
    passes = [start.features, *([choice.passed] if choice.passed else [])]
    trunk_flops, trunk_seconds = sum(one.forward_flops for one in passes), sum(one.seconds for one in passes)
    trained = [candidate.history.flops for candidate in search.candidates if candidate.history]
    at_one_length = isinstance(head.projection, MeansAtOneLength)
    cut, published = cut_of(best, choice.depth), data.base.published_layers
    speed = trunk_flops / trunk_seconds if trunk_flops else 0.0
    return TrainedNetwork(
        base=data.base,
        head=head,
        baseline_factor=best.mixture.factor,
        temperature=best.mixture.divisor,
        tune=best.tune,
        structure=Structure(head.pooling, choice.depth, cut, published, at_one_length),
        validation_logits=best.mixture.of(best.logits, beside.logits).astype(np.float32),
        refitted=final is not None,
        truncated=data.encoded.texts_cut,
        profile=choice.profile,
        # Without weights, which are half a gigabyte with `full`.
        candidates=[replace(candidate, weights={}, parts=()) for candidate in search.candidates],
        adapters=(final or best).adapters,
        stopped=search.stopped,
        replaced=replaced,
        parameters=parameters(data.base, head),
        seconds=seconds,
        flops=trunk_flops + sum(trained),
        trunk_flops=trunk_flops,
        trunk_speed=speed,
        trunk_share=speed / hardware.product_speed(data.base.frozen_dtype),
    )


def _trunk_seconds(data: EncodedData, features: Features) -> float:
    """Return what a trunk pass over all examples takes, however many of them were in the cache."""
    operations = forward_flops(data.base, data.base.tokens_of(data.encoded.ids.lengths), 0, len(data.base.layers))
    return max(features.seconds, operations / hardware.product_speed(data.base.frozen_dtype))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[stage] += time.perf_counter() - begun
