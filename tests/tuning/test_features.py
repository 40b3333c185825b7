"""The trunk pass: batching, pooling and token states equal the plain model's."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rehead import heads
from rehead.bases.cut import Base
from rehead.bases.loading import load
from rehead.bases.tokens import encode
from rehead.tuning import features
from rehead.tuning.features import batches, trunk_pass
from tests.tiny_models import CONFIGS, WORDS, save_tiny_model

TEXTS = [" ".join(WORDS[start : start + n]) for start, n in [(0, 3), (2, 9), (5, 1), (0, 3), (7, 9), (1, 14), (4, 2)]]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 1500))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    tensor = torch.tensor(lengths)
    divided = batches(tensor, budget)
    assert sorted(torch.cat(divided).tolist()) == list(range(len(lengths)))
    for rows in divided:
        assert len(rows) == 1 or len(rows) * int(tensor[rows].max()) <= budget


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80))
def test_batches_go_from_short_to_long(lengths: list[int]) -> None:
    tensor = torch.tensor(lengths)
    assert tensor[torch.cat(batches(tensor, 100))].tolist() == sorted(lengths)


@pytest.fixture(params=CONFIGS)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Base:
    return load(str(save_tiny_model(tmp_path, request.param)), 2, seed=0)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_trunk_pass_equals_transformers_one_text_at_a_time(
    base: Base, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "TOKEN_BUDGET", budget)
    encoded = encode(base, TEXTS, 64)
    passed = trunk_pass(base, encoded.ids, depths=[1, 4], pooling="both", cut=2)
    own = heads.resolved("both", base.family.causal)
    assert passed.tokens is not None
    for i in range(len(TEXTS)):
        ids = encoded.ids.padded(torch.tensor([i]))[0]
        states = base.backbone(input_ids=ids, output_hidden_states=True).hidden_states
        whole = torch.ones_like(ids)
        at_cut = passed.tokens.padded(torch.tensor([i]))[0]
        torch.testing.assert_close(at_cut, states[2], rtol=1e-4, atol=1e-5)
        first = heads.pool(base.norm(states[1]), whole, own)
        torch.testing.assert_close(passed.pooled[i, :1], first, rtol=1e-4, atol=1e-5)
        # Transformers gives the last of its hidden states behind the final norm.
        torch.testing.assert_close(passed.pooled[i, 1:], heads.pool(states[4], whole, own), rtol=1e-4, atol=1e-5)


def test_identical_texts_pass_once(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    once = trunk_pass(base, encode(base, TEXTS[:1], 64).ids, depths=[2], pooling="last")
    often = trunk_pass(base, encode(base, TEXTS[:1] * 5, 64).ids, depths=[2], pooling="last", cut=1)
    assert often.forward_flops == once.forward_flops
    assert torch.equal(often.pooled, once.pooled.expand(5, -1, -1))
    assert often.tokens is not None
    assert often.tokens.lengths.tolist() == [3] * 5


def test_products_in_bf16_stay_close_to_float32(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    exact = trunk_pass(base, ids, depths=[4], pooling="mean").pooled
    fast = trunk_pass(base.with_products_in(torch.bfloat16), ids, depths=[4], pooling="mean").pooled
    assert not torch.equal(exact, fast)
    assert ((exact - fast).norm(dim=-1) / exact.norm(dim=-1)).max() < 0.05
    assert next(base.blocks[0].parameters()).dtype == torch.float32
