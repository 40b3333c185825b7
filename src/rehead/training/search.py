"""Which depth and which pooling: a probe for each, on some of the examples, judged by examples that it has not seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead import hardware, progress
from rehead.data.examples import Index
from rehead.data.labels import Labels, strata
from rehead.data.splits import folds
from rehead.heads import Head
from rehead.training import probe
from rehead.training.probe import Probe

# Depth and pooling are chosen on so many examples at most, so that the others pass only the blocks that are kept;
# a probe's ranking of depths changes little beyond.
TRAIN, VALIDATION = 800, 400
# Where there are fewer to judge by, all examples are divided into so many parts, and as many as it takes are judged by.
_FOLDS = 5
# How many standard errors worse than the best a shallower one may be.
_WITHIN = 0.5

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


@dataclass(frozen=True)
class Found:
    """Which pooling and depth to use.

    Attributes:
        profile: held-out log loss by pooling and depth; empty where there was nothing to choose.
    """

    pooling: str
    depth: int
    profile: dict[str, dict[int, float]] = field(default_factory=dict)


def sample_rows(n_train: int, n: int, seed: int) -> tuple[Index, int]:
    """Rows to choose on, in order, and how many of them are for training; training rows come first of all n."""
    generator = np.random.default_rng(seed)
    train = np.sort(generator.permutation(n_train)[:TRAIN])
    held_out = np.sort(generator.permutation(np.arange(n_train, n))[:VALIDATION])
    return np.concatenate([train, held_out]), len(train)


def choose(
    candidates: dict[tuple[str, int], Tensor],
    heads: dict[tuple[str, int], Head],
    labels: Labels,
    n_train: int,
    weights: npt.NDArray[np.float64] | None,
    seed: int,
) -> Found:
    """Solves probes for each pooling and depth and takes the shallowest that is as good as any.

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

    def held_out_losses(where: tuple[str, int]) -> npt.NDArray[np.float64]:
        losses = []
        for train, held_out in divided:
            rows = np.concatenate([train, held_out])
            pooled = candidates[where][torch.from_numpy(rows)]
            weighted = None if weights is None else weights[train]
            losses.append(solve(heads[where], pooled, labels[rows], len(train), probe.RANKED, weighted).losses)
        return np.concatenate(losses)

    depths = len({depth for _, depth in candidates})
    results = in_threads(held_out_losses, list(candidates), f"probing {depths} depths")
    losses = dict(zip(candidates, results, strict=True))
    pooling, depth = shallowest(losses)
    profile: dict[str, dict[int, float]] = {}
    for (name, at), result in losses.items():
        profile.setdefault(name, {})[at] = float(result.mean())
    return Found(pooling, depth, profile)


def _divided(labels: Labels, n_train: int, seed: int) -> list[tuple[Index, Index]]:
    """Which rows to learn from and which to judge by, as often as it takes."""
    rows = np.arange(len(labels))
    if len(labels) - n_train >= VALIDATION or len(labels) < 2 * _FOLDS:
        return [(rows[:n_train], rows[n_train:])]
    divided: list[tuple[Index, Index]] = []
    for split in folds(strata(labels), _FOLDS, seed):
        if sum(len(held_out) for _, held_out in divided) < VALIDATION:
            divided.append((np.sort(np.concatenate([split.train, split.validation])), split.test))
    return divided


def shallowest(losses: Mapping[tuple[str, int], npt.NDArray[np.float64]]) -> tuple[str, int]:
    """The shallowest that is not worse than the best by more than half a standard error.

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


def in_threads(work: Callable[[_Input], _Output], items: Sequence[_Input], label: str) -> list[_Output]:
    """What the work makes of each item, in order; several at a time, each with its products in one thread.

    Args:
        label: what the progress bar says.
    """

    def one(item: _Input) -> _Output:
        torch.set_num_threads(1)
        return work(item)

    with (
        hardware.one_thread(),
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        progress.bar(label, len(items)) as advance,
    ):
        results = []
        for result in pool.map(one, items):
            results.append(result)
            advance(1)
    return results


def solve(
    head: Head,
    pooled: Tensor,
    labels: Labels,
    n_train: int,
    tolerance: float,
    weights: npt.NDArray[np.float64] | None,
) -> Probe:
    """The probe of a head, for pooled features (n, width) of which the first `n_train` are for training."""
    with torch.inference_mode():
        seen_by_linear = head.projection(pooled).numpy()
    return probe.solve(
        seen_by_linear[:n_train],
        labels[:n_train],
        (seen_by_linear[n_train:], labels[n_train:]),
        head.linear.out_features,
        head.linear.bias is not None,
        tolerance,
        weights,
    )
