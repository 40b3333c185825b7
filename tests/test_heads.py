"""The new output layer."""

from pathlib import Path

import pytest
import torch

from rehead.models import heads
from rehead.models.loading import load
from rehead.runtime.errors import SettingError
from tests.tiny_models import DECODERS, save_tiny_model


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


@pytest.mark.parametrize(
    ("depth", "reads"), [(1, [1]), (4, [1, 2, 3, 4]), (18, [3, 6, 9, 12, 15, 18]), (7, [2, 3, 4, 5, 6, 7])]
)
def test_layers_are_read_evenly_up_to_the_depth(depth: int, reads: list[int]) -> None:
    assert heads.read_after("layers", depth) == reads
    assert heads.read_after("mean", depth) == [depth]


@pytest.mark.parametrize(("family", "pooling"), [("llama", "cls"), ("bert", "last"), ("bert", "nonsense")])
def test_pooling_that_does_not_suit_the_base_is_refused(tmp_path: Path, family: str, pooling: str) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    with pytest.raises(SettingError, match="`pool"):
        heads.build(base, pooling, 2, seed=0)


@pytest.mark.parametrize("pooling", ["mean", "both", "layers"])
def test_an_encoders_mean_has_one_length_however_long_it_was(tmp_path: Path, pooling: str) -> None:
    base = load(str(save_tiny_model(tmp_path, "bert")), 2, seed=0)
    head = heads.build(base, pooling, 2, seed=0)
    parts = heads.halves(pooling, base.summary_position) * len(head.reads)
    pooled = torch.randn(5, len(parts) * base.hidden_size)
    for part, before, after in zip(
        parts, pooled.chunk(len(parts), -1), head.projection(pooled).chunk(len(parts), -1), strict=True
    ):
        if part == "mean":
            expected = before / before.norm(dim=-1, keepdim=True) * base.hidden_size**0.5
            torch.testing.assert_close(after, expected)
        else:
            assert torch.equal(after, before)
    assert torch.isfinite(head(torch.zeros(1, len(parts) * base.hidden_size))).all()


@pytest.mark.parametrize(("family", "pooling"), [("llama", "both"), ("gpt2", "mean"), ("llama", "last")])
def test_a_decoders_states_are_seen_as_they_are(tmp_path: Path, family: str, pooling: str) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    head = heads.build(base, pooling, 2, seed=0)
    pooled = torch.randn(5, head.linear.in_features)
    assert torch.equal(head.projection(pooled), pooled)
