"""Which depth and which pooling: a probe for each, on some of the examples; validation decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead import hardware, progress
from rehead.data.examples import Index
from rehead.data.labels import Labels
from rehead.heads import Head
from rehead.tuning import probe
from rehead.tuning.probe import Probe

# Depth and pooling are chosen on so many examples at most, so that the others pass only the blocks that are kept;
# a probe's ranking of depths changes little beyond.
TRAIN, VALIDATION = 800, 400

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


@dataclass(frozen=True)
class Found:
    """Which pooling and depth to use.

    Attributes:
        profile: validation log loss by pooling and depth; empty where there was nothing to choose.
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
) -> Found:
    """Solves a probe for each pooling and depth and takes the shallowest that is as good as any.

    Args:
        candidates: pooled features (n, width) by pooling and depth.
        heads: likewise.
        labels: (n,) class ids, or (n, n_classes); the first `n_train` are for training.
        weights: of the training examples, see `probe.solve`.
    """

    def solved(where: tuple[str, int]) -> Probe:
        return solve(heads[where], candidates[where], labels, n_train, probe.RANKED, weights)

    depths = len({depth for _, depth in candidates})
    probes = dict(zip(candidates, in_threads(solved, list(candidates), f"probing {depths} depths"), strict=True))
    pooling, depth = probe.shallowest(probes)
    profile: dict[str, dict[int, float]] = {}
    for (name, at), result in probes.items():
        profile.setdefault(name, {})[at] = result.log_loss
    return Found(pooling, depth, profile)


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
