"""Rows that only fill a batch, with garbage in them, reach neither values nor gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rehead.models.heads import build, candidates
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training.features import trunk_pass
from rehead.training.inputs import Computed
from rehead.training.loop import Recipe
from rehead.training.tail import Classification, Labelled, Tail
from tests.tiny_models import CONFIGS, DECODERS, N_BLOCKS, save_tiny_model
from tests.tiny_texts import messages

TEXTS, NAMES = messages(13)
LABELS = torch.tensor([name == "spam" for name in NAMES]).long()


def filled_with(value: float, seen: list[int]) -> object:
    """`Packing.filled` whose rows hold large numbers of both signs instead of zeros.

    Not NaN: the gradient of a weight is a sum over all rows of what goes back times what came in, and 0 · NaN is NaN.
    No number that a zero row becomes on its way through the blocks is one.
    """

    def filled(self: Packing, hidden: Tensor) -> tuple[Tensor, Packing]:
        missing = -len(hidden) % 16 or 16
        signs = torch.arange(missing * hidden.shape[1]).view(missing, -1) % 3 - 1
        seen.append(missing)
        return torch.cat([hidden, value * signs.to(hidden)]), replace(self, filler=missing)

    return filled


@pytest.mark.parametrize("family", CONFIGS)
def test_garbage_in_filler_reaches_no_value_and_no_gradient(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    data = Labelled(Computed(base, ids, 0), LABELS)
    for pooling in (*candidates("last" if family in DECODERS else "cls"), "layers"):
        tail = Tail.of_everything(base, build(base, pooling, 2, seed=0), N_BLOCKS)
        found = []
        for value in (0.0, 1e3):
            seen: list[int] = []
            monkeypatch.setattr(Packing, "filled", filled_with(value, seen))
            trainee = Classification(tail, data, data, Recipe())
            weights = trainee.weights()
            gradients = torch.autograd.grad(trainee.loss(torch.arange(len(TEXTS))), weights, allow_unused=True)
            assert min(seen) > 0
            found.append([tail.logits(data.inputs), *(gradient for gradient in gradients if gradient is not None)])
        for zeros, garbage in zip(*found, strict=True):
            assert garbage.isfinite().all()
            torch.testing.assert_close(garbage, zeros, rtol=0, atol=0)


@pytest.mark.parametrize("family", CONFIGS)
def test_filler_is_no_part_of_what_the_trunk_pass_keeps(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    found = []
    for value in (0.0, float("nan")):  # nothing is summed over rows here
        seen: list[int] = []
        monkeypatch.setattr(Packing, "filled", filled_with(value, seen))
        passed = trunk_pass(base.frozen_in(torch.bfloat16), ids, depths=[2, 4], pooling="both", cut=3)
        assert seen
        assert passed.tokens is not None
        found.append([*passed.pooled, passed.tokens.packed(torch.arange(len(TEXTS)))])
    for zeros, garbage in zip(*found, strict=True):
        torch.testing.assert_close(garbage, zeros, rtol=0, atol=0)
