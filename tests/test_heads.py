"""Pooling and the new output layer."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rehead import heads
from rehead.bases.loading import load
from rehead.errors import SettingError
from tests.tiny_models import DECODERS, save_tiny_model


@st.composite
def padded_batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random states of ragged texts, padded on the right and on the left, with the mask of each."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rows = [torch.randn(length, 4, generator=generator) for length in lengths]
    right = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=99.0)
    left = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=99.0, padding_side="left")
    return right, left, torch.tensor(lengths)


@pytest.mark.parametrize("pooling", ["last", "cls", "mean", "last+mean"])
@given(batch=padded_batches())
def test_pooling_ignores_the_padding_side(pooling: str, batch: tuple[torch.Tensor, ...]) -> None:
    right, left, lengths = batch
    steps = torch.arange(right.shape[1])
    on_right = (steps < lengths[:, None]).long()
    on_left = (steps >= right.shape[1] - lengths[:, None]).long()
    torch.testing.assert_close(heads.pool(right, on_right, pooling), heads.pool(left, on_left, pooling))


def test_last_is_the_last_real_token_and_cls_the_first() -> None:
    hidden = torch.arange(12.0).reshape(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
    assert heads.pool(hidden, mask, "last").flatten().tolist() == [3.0, 11.0]
    assert heads.pool(hidden, mask, "cls").flatten().tolist() == [0.0, 8.0]
    assert heads.pool(hidden, mask, "mean").flatten().tolist() == [1.5, 9.5]


@pytest.mark.parametrize("family", DECODERS)
def test_decoder_heads_have_no_bias(tmp_path: Path, family: str) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    assert heads.build(base, "last", 2, seed=0).linear.bias is None
    assert heads.build(base, "mean", 2, seed=0).linear.bias is not None


def test_line_says_what_was_replaced(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    head = heads.build(base, "last", 2, seed=0)
    total = sum(weight.numel() for weight in base.model.parameters())
    line = heads.describe(base, head, ["LlamaForCausalLM"], trainable=64)
    assert line == f"output layer 32 → 28 replaced by 32 → 2; trainable 64 of {total:,}"


def test_new_head_depends_on_the_seed_alone(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path, "roberta"))
    torch.manual_seed(1)
    first = load(folder, 2, seed=7)
    torch.manual_seed(2)
    second, other = load(folder, 2, seed=7), load(folder, 2, seed=8)
    assert torch.equal(first.model.classifier.dense.weight, second.model.classifier.dense.weight)
    assert not torch.equal(first.model.classifier.dense.weight, other.model.classifier.dense.weight)


@pytest.mark.parametrize(("family", "pooling"), [("llama", "cls"), ("bert", "last"), ("bert", "nonsense")])
def test_pooling_that_does_not_suit_the_base_is_refused(tmp_path: Path, family: str, pooling: str) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    with pytest.raises(SettingError, match="--pool"):
        heads.build(base, pooling, 2, seed=0)
