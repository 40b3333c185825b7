"""The search for depth and pooling: by how much a shallower one may be worse, and what it is judged by."""

import numpy as np
import pytest
import torch

from rehead.training import depth_search
from rehead.training.depth_search import shallowest, varies


def test_shallowest_within_half_a_standard_error_of_the_difference_is_chosen() -> None:
    # Depth 3 is best; depth 2 is worse by 0.033 and depth 1 by 0.1, with standard errors of 0.088 and 0.115.
    losses = {1: [0.4, 0.3, 0.5], 2: [0.1, 0.5, 0.4], 3: [0.1, 0.3, 0.5]}
    assert shallowest({("last", depth): np.array(values) for depth, values in losses.items()}) == ("last", 2)


def test_difference_that_is_small_but_steady_counts() -> None:
    # Each has a standard error of 0.4; their difference has none.
    best = np.array([0.1, 0.9, 0.1, 0.9])
    assert shallowest({("last", 1): best + 0.01, ("last", 2): best}) == ("last", 2)


def test_of_poolings_at_the_same_depth_the_best_is_taken() -> None:
    worse, better = np.array([0.25, 0.25]), np.array([0.1, 0.3])
    assert shallowest({("mean", 2): better, ("last", 2): worse}) == ("mean", 2)
    assert shallowest({("mean", 2): worse + 0.01, ("both", 2): better}) == ("both", 2)
    assert shallowest({("layers", 2): better, ("both", 2): worse}) == ("layers", 2)


def test_half_of_what_is_as_good_is_taken_for_the_whole() -> None:
    # Worse by 0.05 than the best, with a standard error of 0.15.
    best, as_good = np.array([0.1, 0.3]), np.array([0.3, 0.2])
    assert shallowest({("both", 2): best, ("mean", 2): as_good}) == ("mean", 2)
    assert shallowest({("both", 2): best, ("mean", 2): as_good, ("cls", 2): as_good - 0.01}) == ("cls", 2)
    assert shallowest({("both", 2): best, ("layers", 2): as_good, ("mean", 3): as_good}) == ("both", 2)
    assert shallowest({("layers", 2): best, ("mean", 2): as_good}) == ("layers", 2)


@pytest.mark.parametrize(("n_train", "n", "parts"), [(800, 1200, 1), (800, 1199, 2), (500, 560, 4), (60, 70, 5)])
def test_few_validation_examples_are_not_what_is_judged_by(n_train: int, n: int, parts: int) -> None:
    labels = np.arange(n) % 3
    divided = depth_search._divided(labels, n_train, seed=0)
    assert len(divided) == parts
    for train, held_out in divided:
        assert sorted([*train, *held_out]) == list(range(n))
    judged = np.concatenate([held_out for _, held_out in divided])
    assert len(set(judged)) == len(judged) >= min(n, depth_search.VALIDATION)


def test_too_few_examples_for_parts_are_judged_as_they_were_divided() -> None:
    ((train, held_out),) = depth_search._divided(np.array([0, 1, 0, 1, 0]), 4, seed=0)
    assert (train.tolist(), held_out.tolist()) == ([0, 1, 2, 3], [4])


@pytest.mark.parametrize(("deviation", "expected"), [(0.03, False), (0.3, True)])
def test_a_first_token_that_hardly_varies_is_no_feature(deviation: float, expected: bool) -> None:
    noise = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([5.0, *[0.01] * 15])  # one of an encoder's is far larger than the others
    assert varies(sizes + deviation * sizes.square().mean().sqrt() * noise) is expected
