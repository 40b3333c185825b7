"""Choose depth and pooling: a probe for each, on some of the examples, judged by examples that it has not seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.data.examples import Index
from rehead.data.labels import Labels, Weights, strata
from rehead.data.splits import folds
from rehead.models.heads import Head, build, part_of_both, read_after, set_linear
from rehead.runtime import hardware, progress
from rehead.runtime.progress import Input, Output
from rehead.training import probe
from rehead.training.encoding import EncodedData
from rehead.training.features import Features, trunk_pass
from rehead.training.probe import Probe

# Depth and pooling are chosen on these numbers of examples at most: the others pass only the layers that are kept;
# a probe's ranking of depths changes little beyond.
TRAIN, VALIDATION = 800, 400
# Where there are fewer to judge by, all examples are divided into parts, and as many as it takes are judged by.
_FOLDS = 5
# How many standard errors worse than the best a shallower one may be.
_WITHIN = 0.5
# A first token that varies less than this share of its size is no feature: dropout, int8 and the first steps of further
# training change it by more than texts do. Of MiniLM it is 0.001 to 0.03 below the last layer, and 0.6 behind that.
_LEAST_VARIATION = 0.1


@dataclass(frozen=True)
class DepthChoice:
    """The pooling and depth to use.

    Attributes:
        of_one_layer: the pooling that layers are trained with, which reads the last layer alone where it may.
        profile: calibrated held-out log loss by pooling and depth; empty where there was nothing to choose.
        passed: the trunk pass that it rests on; None where there was nothing to choose.
        probe_seconds: that the probes took.
    """

    pooling: str
    depth: int
    of_one_layer: str
    profile: dict[str, dict[int, float]] = field(default_factory=dict)
    passed: Features | None = None
    probe_seconds: float = 0.0


def search_depth(data: EncodedData, cut: int | None) -> DepthChoice:
    """Measure what there is to choose of depth and pooling.

    Args:
        cut: where token states are wanted later; they are kept where there is but one depth, so that these examples do
            not pass again.
    """
    candidates = data.candidates
    if len(candidates) == 1:
        return DepthChoice(*candidates[0], of_one_layer=candidates[0][0])
    depths = sorted({read for pooling, depth in candidates for read in read_after(pooling, depth)})
    rows, n_train = sample_rows(data)
    pooled_as = data.config.pool if data.config.pool != "auto" else "both"
    label = f"trunk pass, {len(rows):,} {data.train.what}"
    passed = pass_rows(data, rows, depths, pooled_as, f"{label} to all depths" if len(depths) > 1 else label, cut)
    begun = time.perf_counter()
    heads = {where: build(data.base, where[0], data.n_classes, data.config.seed, where[1]) for where in candidates}
    features = {}
    for pooling, depth in candidates:
        seen = torch.cat([passed.pooled[depths.index(read)] for read in read_after(pooling, depth)], dim=1)
        is_part = pooled_as == "both"
        features[pooling, depth] = part_of_both(seen, pooling, data.base.summary_position) if is_part else seen
    features = {where: seen for where, seen in features.items() if where[0] != "cls" or varies(seen)} or features
    chosen = choose(features, heads, data.labels[rows], n_train, data.example_weights(rows), data.config.seed)
    return replace(chosen, passed=passed, probe_seconds=time.perf_counter() - begun)


def pass_rows(
    data: EncodedData, rows: Index, depths: list[int], pooling: str, label: str, cut: int | None = None
) -> Features:
    """Return what `trunk_pass` makes of some rows; of texts in windows, one vector a text."""
    texts = data.encoded.take(torch.from_numpy(rows))
    result = trunk_pass(data.frozen, texts.ids, depths=depths, pooling=pooling, cut=cut, store=data.store, label=label)
    data.base.model.to("cpu")  # where the head is solved, if the trunk pass had it elsewhere
    return replace(result, pooled=[texts.by_text(pooled) for pooled in result.pooled])


def sample_rows(data: EncodedData) -> tuple[Index, int]:
    """Return rows to choose on, in order, and how many of them are for training; of an image its first view."""
    generator = np.random.default_rng(data.config.seed)
    n_inputs = data.n_train // data.views
    train = np.sort(generator.permutation(n_inputs)[:TRAIN]) * data.views
    held_out = np.sort(generator.permutation(np.arange(data.n_train, len(data.labels)))[:VALIDATION])
    return np.concatenate([train, held_out]), len(train)


def varies(pooled: Tensor) -> bool:
    """Return whether features (n, width) vary enough beside their size for a head that is trained further."""
    deviation = float(pooled.var(0, correction=0).sum())
    return deviation >= _LEAST_VARIATION**2 * float(pooled.square().mean(0).sum())


def choose(
    candidates: dict[tuple[str, int], Tensor],
    heads: dict[tuple[str, int], Head],
    labels: Labels,
    n_train: int,
    weights: Weights | None,
    seed: int,
) -> DepthChoice:
    """Solve probes for each pooling and depth and take the shallowest that is as good as any.

    They are judged by the validation examples, or, where these are few, by parts of all examples in turn: on 65
    validation images the best depth is a matter of luck.

    Args:
        candidates: pooled features (n, width) by pooling and depth.
        heads: likewise.
        labels: (n,) class ids, or (n, n_classes); the first `n_train` are for training.
        weights: (n, 1) or (n, n_classes), see `probe.solve`.
        seed: of the parts.
    """
    divided = _divided(labels, n_train, seed)

    def judged(where: tuple[str, int]) -> npt.NDArray[np.float64]:
        return held_out_losses(heads[where], candidates[where], labels, divided, weights)

    depths = len({depth for _, depth in candidates})
    label = "probing poolings" if depths == 1 else f"probing {depths} depths"
    results = in_threads(judged, list(candidates), label)
    losses = dict(zip(candidates, results, strict=True))
    pooling, depth = shallowest(losses)
    of_one = {where: values for where, values in losses.items() if where[0] != "layers" and where[1] == depth}
    of_one_layer = shallowest(of_one)[0] if of_one else pooling
    profile: dict[str, dict[int, float]] = {}
    for (name, at), result in losses.items():
        profile.setdefault(name, {})[at] = float(result.mean())
    return DepthChoice(pooling, depth, of_one_layer, profile)


def held_out_losses(
    head: Head,
    pooled: Tensor,
    labels: Labels,
    divided: list[tuple[Index, Index]],
    weights: Weights | None = None,
) -> npt.NDArray[np.float64]:
    """Return the calibrated log loss of every held-out example under a probe that has learned from the others.

    Args:
        pooled: (n, width) features.
        labels: (n,) or (n, n_classes).
        divided: which rows to learn from and which to judge by, as often as it takes.
        weights: see `probe.solve`.
    """
    losses = []
    for train, held_out in divided:
        rows = np.concatenate([train, held_out])
        weighted = None if weights is None else weights[train]
        of_rows = pooled[torch.from_numpy(rows)]
        losses.append(solve_head(head, of_rows, labels[rows], len(train), probe.RANKED, weighted).losses)
    return np.concatenate(losses)


def in_parts(labels: Labels, n_parts: int, seed: int) -> list[tuple[Index, Index]]:
    """Return which rows to learn from and which to judge by, so that each row is judged by once."""
    return [
        (np.sort(np.concatenate([split.train, split.validation])), split.test)
        for split in folds(strata(labels), n_parts, seed)
    ]


def _divided(labels: Labels, n_train: int, seed: int) -> list[tuple[Index, Index]]:
    """Return which rows to learn from and which to judge by, as often as it takes."""
    rows = np.arange(len(labels))
    if len(labels) - n_train >= VALIDATION or len(labels) < 2 * _FOLDS:
        return [(rows[:n_train], rows[n_train:])]
    divided: list[tuple[Index, Index]] = []
    for part in in_parts(labels, _FOLDS, seed):
        if sum(len(held_out) for _, held_out in divided) < VALIDATION:
            divided.append(part)
    return divided


def shallowest(losses: Mapping[tuple[str, int], npt.NDArray[np.float64]]) -> tuple[str, int]:
    """Return the shallowest that is not worse than the best by more than half a standard error.

    After the one-standard-error rule of Breiman et al., *Classification and Regression Trees*, 1984, §3.4.3, but the
    error is that of the difference, example by example, because two probes err on the same examples; and half of one,
    because a whole one gave away 0.4 points of accuracy on Reuters' eight topics and half of one none.

    Args:
        losses: (n,) log loss of each held-out example, by pooling and depth; of several at the same depth, which cost
            the same, the best is taken, or instead of `both` one of its halves that is as good as the best, too: a head
            of half the width has less to learn from few examples.
    """
    best = min(losses.values(), key=lambda values: float(values.mean()))

    def is_as_good(values: npt.NDArray[np.float64]) -> bool:
        worse_by = values - best
        n = len(worse_by)
        return n < 2 or float(worse_by.mean()) <= _WITHIN * float(worse_by.std(ddof=1)) / np.sqrt(n)

    as_good = {where: float(values.mean()) for where, values in losses.items() if is_as_good(values)}
    pooling, depth = min(as_good, key=lambda where: (where[1], as_good[where]))
    if pooling == "both":
        halves = [where for where in as_good if where[1] == depth and where[0] not in ("both", "layers")]
        return min(halves, key=as_good.__getitem__, default=(pooling, depth))
    return pooling, depth


def in_threads(work: Callable[[Input], Output], items: Sequence[Input], label: str) -> list[Output]:
    """Return what the work makes of each item, in order; several at a time, each with its products in one thread.

    Args:
        label: what the progress bar says.
    """

    def one(item: Input) -> Output:
        torch.set_num_threads(1)
        return work(item)

    with hardware.one_thread():
        return progress.mapped(one, items, label)


def solve_head(
    head: Head,
    pooled: Tensor,
    labels: Labels,
    n_train: int,
    tolerance: float,
    weights: Weights | None,
    validation_weights: Weights | None = None,
) -> Probe:
    """Solve the probe of a head, for pooled features (n, width) of which the first `n_train` are for training."""
    seen_by_linear = head.seen_by_linear(pooled)
    return probe.solve(
        seen_by_linear[:n_train],
        labels[:n_train],
        (seen_by_linear[n_train:], labels[n_train:]),
        head.linear.out_features,
        head.linear.bias is not None,
        tolerance,
        weights,
        validation_weights,
    )


def solve_head_at(
    head: Head,
    pooled: Tensor,
    labels: Labels,
    strength: float,
    weights: Weights | None,
    start: tuple[probe.Array, probe.Array] | None = None,
) -> None:
    """Write into a head the linear layer that all of the pooled features (n, width) give at one strength."""
    linear, seen = head.linear, head.seen_by_linear(pooled)
    weight, bias = probe.solve_at(strength, seen, labels, linear.out_features, linear.bias is not None, weights, start)
    set_linear(head, {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
