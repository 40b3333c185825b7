"""Dropout of attention weights: how many are dropped, what becomes of the others, and whose generator decides."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rehead.models.dropout import dropped
from rehead.models.packing import Attention, Packing, attend


@given(st.floats(0.01, 0.99), st.integers(0, 2**32 - 1), st.sampled_from([torch.float32, torch.bfloat16]))
def test_so_many_are_dropped_and_the_others_are_scaled_up(probability: float, seed: int, dtype: torch.dtype) -> None:
    torch.manual_seed(seed)
    n = 40_000
    result = dropped(torch.full((n,), 2.0, dtype=dtype), probability)
    kept = result[result != 0]
    deviation = (probability * (1 - probability) / n) ** 0.5
    assert abs(1 - len(kept) / n - probability) < 6 * deviation
    torch.testing.assert_close(kept.float(), torch.full((len(kept),), 2 / (1 - probability)), rtol=0.008, atol=0)


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (5, 7), (2, 3, 4)])
def test_any_shape_is_kept(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    assert dropped(torch.ones(shape), 0.5).shape == shape


def test_without_a_probability_nothing_is_drawn() -> None:
    values, state = torch.ones(8), torch.get_rng_state()
    assert dropped(values, 0.0) is values
    assert torch.equal(torch.get_rng_state(), state)


def test_torchs_seed_decides() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropped(torch.ones(1000), 0.3)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    is_dropped = (dropped(torch.ones(400_000), 0.5) == 0).double()
    for distance in (1, 2, 3, 4):
        together = (is_dropped[distance:] * is_dropped[:-distance]).mean()
        assert abs(float(together) - 0.25) < 0.005


def test_the_gradient_is_that_of_what_was_kept() -> None:
    torch.manual_seed(0)
    values = torch.rand(1000).add(1).requires_grad_()
    result = dropped(values, 0.25)
    result.sum().backward()
    torch.testing.assert_close(values.grad, (result != 0) / 0.75)


@pytest.mark.parametrize("longest", [7, 130], ids=["short", "long"])
def test_attention_is_right_on_average(longest: int) -> None:
    torch.manual_seed(0)
    packing = Packing(torch.tensor([3, longest]))
    queries, keys, values = (torch.randn(3 + longest, 2, 4) for _ in range(3))
    exact = attend(queries, keys, values, packing, Attention(0.5, causal=False))
    drawn = [attend(queries, keys, values, packing, Attention(0.5, causal=False, dropout=0.2)) for _ in range(2000)]
    assert not torch.equal(drawn[0], drawn[1])
    mean, deviation = torch.stack(drawn).mean(0), torch.stack(drawn).std(0) / len(drawn) ** 0.5
    assert ((mean - exact).abs() < 6 * deviation + 1e-4).all()
