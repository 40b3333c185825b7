"""Packed texts: to a padded layout and back, pooling, and attention that keeps texts apart."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from rehead.models import packing as packing_module
from rehead.models.packing import Attention, Packing, ScoreBias, attend

lengths_of_texts = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(lengths_of_texts)
def test_padding_and_back_gives_the_same_tokens(lengths: list[int]) -> None:
    packing = Packing(torch.tensor(lengths))
    values = torch.arange(2.0 * sum(lengths)).view(-1, 2)
    padded = packing.pad(values)
    assert padded.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(packing.unpad(padded), values)
    start = 0
    for row, length in zip(padded, lengths, strict=True):
        assert torch.equal(row[:length], values[start : start + length])
        start += length


@given(lengths_of_texts)
def test_pooling_takes_each_text_for_itself(lengths: list[int]) -> None:
    packing = Packing(torch.tensor(lengths))
    values = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(0))
    texts = values.split(lengths)
    assert torch.equal(packing.pooled(values, "last"), torch.stack([text[-1] for text in texts]))
    assert torch.equal(packing.pooled(values, "cls"), torch.stack([text[0] for text in texts]))
    means = torch.stack([text.mean(0) for text in texts])
    torch.testing.assert_close(packing.pooled(values, "mean"), means)


@given(lengths_of_texts)
def test_filler_is_no_text(lengths: list[int]) -> None:
    plain = Packing(torch.tensor(lengths))
    values = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(0))
    rows, packing = plain.filled(values)
    assert len(rows) % 16 == 0
    assert len(rows) - packing.filler == len(values)
    assert torch.equal(packing.unfilled(rows), values)
    assert torch.equal(packing.pad(rows), plain.pad(values))
    assert torch.equal(packing.unfilled(packing.unpad(packing.pad(rows))), values)
    assert len(packing.unpad(packing.pad(rows))) == len(packing.positions) == len(rows)
    for pooling in ("last", "cls", "mean"):
        assert torch.equal(packing.pooled(rows, pooling), plain.pooled(values, pooling))


@pytest.mark.parametrize(
    ("lengths", "stretches"),
    [
        ([5, 8, 20, 30, 60, 150], [(0, 3), (3, 5), (5, 6)]),
        ([30, 31, 40, 59], [(0, 4)]),  # little is padding
        ([150, 5, 8, 20, 30, 70], [(0, 6)]),  # not in order
        ([3, 4, 24], [(0, 3)]),
        ([90, 95, 96, 97], [(0, 3), (3, 4)]),  # long ones are not padded at all
        ([97, 97, 120, 120, 121], [(0, 2), (2, 4), (4, 5)]),
        ([7], [(0, 1)]),
    ],
)
def test_texts_of_similar_length_lie_side_by_side(lengths: list[int], stretches: list[tuple[int, int]]) -> None:
    packing = Packing(torch.tensor(lengths))
    found = [range(len(lengths))[texts] for _, texts, _ in packing.stretches]
    assert [(part.start, part.stop) for part in found] == stretches
    offsets = packing.offsets.tolist()
    for (start, stop), (tokens, _, stretch) in zip(stretches, packing.stretches, strict=True):
        assert range(sum(lengths))[tokens] == range(offsets[start], offsets[stop])
        assert stretch.lengths.tolist() == lengths[start:stop]
        assert len(stretch.stretches) == 1


@pytest.mark.parametrize("short", [0, 96], ids=["fused", "plain"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize("only", [None, "last", "cls"])
@given(lengths=lengths_of_texts | lengths_of_texts.map(sorted))
def test_attention_equals_that_of_each_text_alone(
    lengths: list[int], causal: bool, window: int | None, only: str | None, short: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    queries, keys, values = (torch.randn(sum(lengths), heads, 4, generator=generator) for heads in (6, 2, 2))
    packing = Packing(torch.tensor(lengths))
    asking = {None: slice(None), "last": packing.last, "cls": packing.first}[only]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "_SHORT", short)
        patch.setattr(packing_module, "_LEAST_STRETCH", 2)
        attended = attend(queries[asking], keys, values, packing, Attention(0.5, causal, window), only)
    alone = []
    for q, k, v in zip(queries.split(lengths), keys.split(lengths), values.split(lengths), strict=True):
        steps = torch.arange(len(q))
        distance = steps[:, None] - steps
        seen = (distance >= 0) | (not causal)
        seen &= distance.abs() < (window or len(q))
        k, v = (part.repeat_interleave(3, dim=1).transpose(0, 1) for part in (k, v))
        mixed = scaled_dot_product_attention(q.transpose(0, 1), k, v, attn_mask=seen, scale=0.5)
        alone.append(mixed.transpose(0, 1).flatten(1))
    torch.testing.assert_close(attended, torch.cat(alone)[asking], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("short", [0, 96], ids=["fused", "plain"])
@pytest.mark.parametrize("only", [None, "last", "cls"])
@given(lengths=lengths_of_texts | lengths_of_texts.map(sorted))
def test_bias_on_the_scores_is_that_of_each_text_alone(lengths: list[int], only: str | None, short: int) -> None:
    generator = torch.Generator().manual_seed(1)
    queries, keys, values = (torch.randn(sum(lengths), 3, 4, generator=generator) for _ in range(3))
    bias = torch.randn(3, max(lengths), max(lengths), generator=generator, requires_grad=True)
    packing = Packing(torch.tensor(lengths))
    asking = {None: slice(None), "last": packing.last, "cls": packing.first}[only]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "_SHORT", short)
        patch.setattr(packing_module, "_LEAST_STRETCH", 2)
        biases = ScoreBias.of_stretches(bias, packing)
        attended = attend(queries[asking], keys, values, packing, Attention(0.5, causal=False), only, biases)
    alone = []
    for q, k, v in zip(queries.split(lengths), keys.split(lengths), values.split(lengths), strict=True):
        scores = torch.einsum("ihs,jhs->hij", q, k) * 0.5 + bias[:, : len(q), : len(q)]
        alone.append(torch.einsum("hij,jhs->ihs", scores.softmax(-1), v).flatten(1))
    expected = torch.cat(alone)[asking]
    torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-5)
    found, wanted = (torch.autograd.grad((given**2).sum(), bias)[0] for given in (attended, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
