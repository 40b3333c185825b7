"""The trunk pass: batching, pooling and token states equal the plain model's."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rehead.models import forward_pass, heads
from rehead.models.backbone import Backbone
from rehead.models.forward_pass import batches
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training import feature_cache, features
from rehead.training.features import are_kept, store_for, trunk_pass
from tests.tiny_models import CONFIGS, WORDS, save_tiny_model

TEXTS = [" ".join(WORDS[start : start + n]) for start, n in [(0, 3), (2, 9), (5, 1), (0, 3), (7, 9), (1, 14), (4, 2)]]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 1500))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    tensor = torch.tensor(lengths)
    divided = batches(tensor, budget)
    assert torch.cat(divided).tolist() == list(range(len(lengths)))
    for rows in divided:
        assert len(rows) == 1 or int(tensor[rows].sum()) <= budget


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.data())
def test_batches_that_go_on_at_a_border_are_the_same(lengths: list[int], data: st.DataObject) -> None:
    tensor = torch.tensor(lengths)
    whole = batches(tensor, 100)
    done = data.draw(st.integers(0, len(whole) - 1))
    begin = int(whole[done][0])
    assert [(rows + begin).tolist() for rows in batches(tensor[begin:], 100)] == [
        rows.tolist() for rows in whole[done:]
    ]


@pytest.fixture(params=CONFIGS)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Backbone:
    return load(str(save_tiny_model(tmp_path, request.param)), 2, seed=0)


@pytest.mark.parametrize("budget", [1, 20, 10_000])
def test_trunk_pass_equals_transformers_one_text_at_a_time(
    base: Backbone, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_pass, "TOKEN_BUDGET", budget)
    encoded = encode(base, TEXTS, 64)
    passed = trunk_pass(base, encoded.ids, depths=[1, 4], pooling="both", cut=2)
    own = heads.halves("both", base.summary_position)
    assert passed.tokens is not None
    for i in range(len(TEXTS)):
        ids = encoded.ids.take(torch.tensor([i])).values
        alone = Packing(torch.tensor([len(ids)]))
        states = base.body(input_ids=ids[None], output_hidden_states=True).hidden_states
        at_cut = passed.tokens.packed(torch.tensor([i]))
        torch.testing.assert_close(at_cut, states[2][0], rtol=1e-4, atol=1e-5)
        normed = base.norm(states[1][0])
        first = torch.cat([alone.pooled(normed, part) for part in own], dim=1)
        torch.testing.assert_close(passed.pooled[0][i : i + 1], first, rtol=1e-4, atol=1e-5)
        # Transformers gives the last of its hidden states behind the final norm.
        last = torch.cat([alone.pooled(states[4][0], part) for part in own], dim=1)
        torch.testing.assert_close(passed.pooled[1][i : i + 1], last, rtol=1e-4, atol=1e-5)


def test_one_token_a_text_in_the_last_block_gives_the_same_features(base: Backbone) -> None:
    own = "last" if base.family.causal else "cls"
    ids = encode(base, TEXTS, 64).ids
    alone = trunk_pass(base, ids, depths=[2, 4], pooling=own, cut=3)
    both = trunk_pass(base, ids, depths=[2, 4], pooling="both")
    for narrow, wide in zip(alone.pooled, both.pooled, strict=True):
        torch.testing.assert_close(narrow, wide[:, : base.hidden_size], rtol=1e-4, atol=1e-5)


def test_cached_features_are_those_that_were_computed(base: Backbone, empty_cache: Path) -> None:
    ids = encode(base, TEXTS, 64).ids
    arguments = {"depths": [1, 4], "pooling": "both", "cut": 2}
    uncached = trunk_pass(base, ids, **arguments)
    computed = trunk_pass(base, ids, **arguments, store=store_for(base))
    read = trunk_pass(base, ids, **arguments, store=store_for(base))
    assert computed.forward_flops > 0
    assert read.forward_flops == 0
    everything = torch.arange(len(TEXTS))
    for passed in (computed, read):
        assert torch.equal(passed.seen, uncached.seen)
        assert passed.tokens is not None
        assert uncached.tokens is not None
        assert torch.equal(passed.tokens.packed(everything), uncached.tokens.packed(everything))


def test_features_with_a_flipped_byte_are_computed_again_with_a_warning(
    base: Backbone, empty_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ids, arguments = encode(base, TEXTS, 64).ids, {"depths": [1, 4], "pooling": "both", "cut": 2}
    computed = trunk_pass(base, ids, **arguments, store=store_for(base))
    (path,) = feature_cache.folder().glob("*/*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = trunk_pass(base, ids, **arguments, store=store_for(base))
    assert again.forward_flops == computed.forward_flops > 0
    assert torch.equal(again.seen, computed.seen)
    assert [f"{path} is damaged" in message for message in caplog.messages] == [True]
    assert trunk_pass(base, ids, **arguments, store=store_for(base)).forward_flops == 0


def test_pass_that_was_broken_off_goes_on_with_the_same_numbers(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward_pass, "TOKEN_BUDGET", 12)
    monkeypatch.setattr(features, "_SEGMENT_BYTES", 1)
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0).with_products_in(torch.bfloat16)
    ids = encode(base, TEXTS, 64).ids
    undisturbed = trunk_pass(base, ids, depths=[4], pooling="both")
    honest = features._Pass.add
    calls = []

    def broken_off(self: features._Pass, rows: torch.Tensor, values: torch.Tensor, lengths: torch.Tensor) -> None:
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        honest(self, rows, values, lengths)

    with monkeypatch.context() as patch:
        patch.setattr(features._Pass, "add", broken_off)
        with pytest.raises(KeyboardInterrupt):
            trunk_pass(base, ids, depths=[4], pooling="both", store=store_for(base))
    resumed = trunk_pass(base, ids, depths=[4], pooling="both", store=store_for(base))
    assert 0 < resumed.forward_flops < undisturbed.forward_flops
    assert torch.equal(resumed.seen, undisturbed.seen)


def test_store_is_that_of_weights_and_arithmetic(tmp_path: Path, empty_cache: Path) -> None:
    base = load(str(save_tiny_model(tmp_path / "a", "llama")), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    trunk_pass(base, ids, depths=[4], pooling="both", store=store_for(base))
    shallow = load(str(tmp_path / "a"), 3, seed=1, depth=2)
    copied = load(str(save_tiny_model(tmp_path / "b", "llama")), 2, seed=0)
    other = load(str(save_tiny_model(tmp_path / "c", "qwen3")), 2, seed=0)
    keys = ids.digests()
    assert not store_for(copied).missing(keys, ["mean.4"]).any()
    assert not store_for(shallow).missing(keys, ["mean.4"]).any()
    assert store_for(other).missing(keys, ["mean.4"]).all()
    assert store_for(base.with_products_in(torch.bfloat16)).missing(keys, ["mean.4"]).all()


def test_identical_texts_pass_once(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    once = trunk_pass(base, encode(base, TEXTS[:1], 64).ids, depths=[2], pooling="last")
    often = trunk_pass(base, encode(base, TEXTS[:1] * 5, 64).ids, depths=[2], pooling="last", cut=1)
    assert often.forward_flops == once.forward_flops
    assert torch.equal(often.seen, once.seen.expand(5, -1))
    assert often.tokens is not None
    assert often.tokens.lengths.tolist() == [3] * 5


def test_products_in_bf16_stay_close_to_float32(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    exact = trunk_pass(base, ids, depths=[4], pooling="mean").seen
    fast = trunk_pass(base.with_products_in(torch.bfloat16), ids, depths=[4], pooling="mean").seen
    assert not torch.equal(exact, fast)
    assert ((exact - fast).norm(dim=-1) / exact.norm(dim=-1)).max() < 0.05
    assert next(base.layers[0].parameters()).dtype == torch.float32


def test_token_states_that_fit_nowhere_are_let_go(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load(str(save_tiny_model(tmp_path / "model", "llama")), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    empty_cache.write_text("a file, so that nothing can be written here")
    expected = trunk_pass(base, ids, depths=[2], pooling="mean", cut=1)
    assert expected.tokens is not None
    kept = trunk_pass(base, ids, depths=[2], pooling="mean", cut=1, store=store_for(base))
    assert kept.tokens is not None
    monkeypatch.setattr(hardware, "free_memory", lambda: 0)
    store = store_for(base)
    let_go = trunk_pass(base, ids, depths=[2], pooling="mean", cut=1, store=store)
    assert let_go.tokens is None
    assert not are_kept(ids, 1, store)
    assert torch.equal(let_go.seen, expected.seen)


def test_token_states_on_the_store_are_known_to_be_there(tmp_path: Path, empty_cache: Path) -> None:
    base = load(str(save_tiny_model(tmp_path / "model", "llama")), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    trunk_pass(base, ids, depths=[], pooling="mean", cut=1, store=store_for(base))
    assert are_kept(ids, 1, store_for(base))
    assert not are_kept(ids, 2, store_for(base))
    assert not are_kept(encode(base, [*TEXTS, "home"], 64).ids, 1, store_for(base))
