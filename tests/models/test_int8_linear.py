"""Products with int8 weights: exact sums, rows that do not depend on each other, encoders near float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from rehead.models import int8_linear, onednn_linear
from rehead.models.backbone import Backbone
from rehead.models.int8_linear import Int8Linear
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.runtime import hardware, int8
from tests.tiny_models import ENCODERS, N_BLOCKS, VOCABULARY, save_tiny_model

LENGTHS = torch.tensor([1, 3, 7, 9, 11])
needs_kernels = pytest.mark.skipif(
    hardware.device().type != "cpu" or not int8.is_exact(), reason="int8 is not exact on this processor or device"
)


@pytest.fixture(scope="module", params=ENCODERS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder: Path = tmp_path_factory.mktemp("model")
    save_tiny_model(folder, request.param)
    return load(str(folder), 3, seed=0)


def states_of(base: Backbone, only: str | None = None) -> torch.Tensor:
    ids = torch.randint(4, len(VOCABULARY), (int(LENGTHS.sum()),), generator=torch.Generator().manual_seed(1))
    packing = Packing(LENGTHS)
    with torch.inference_mode():
        hidden, packing = base.filled(base.embed(ids, packing), packing)
        states = base.run_layers(hidden, packing, 0, N_BLOCKS, only=only)
        return base.normalise(states if only else packing.unfilled(states)).float()


@needs_kernels
@pytest.mark.parametrize("width", [1, 7, 64, 3072])
def test_product_is_that_of_the_quantised_numbers(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    inputs, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((33, width), (48, width), (48,)))
    inputs[0] = 0
    inputs[1] *= 1e6
    rows = int8.quantise(inputs)
    whole = rows.values.double() - 128
    scale = weight.abs().amax(1, keepdim=True) / 127
    exact = (whole @ (weight / scale).round().double().T) * rows.scale.double() * scale.T.double() + bias.double()
    found = int8.multiply(rows, int8.quantise_weight(weight), bias)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5 * float(rows.scale.max()))
    torch.testing.assert_close(found[0], bias)
    # Half a step of each number is the most that rounding changes.
    assert (whole * rows.scale.double() - inputs.double()).abs().le(rows.scale.double() * 0.5001).all()


@needs_kernels
def test_row_is_the_same_whatever_stands_beside_it() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(40, 64, generator=generator), torch.randn(32, 64, generator=generator)
    layer = Int8Linear(weight, None, ("gelu", "none"))
    alone = layer(inputs[:1])
    inputs[1:20] = torch.nan
    inputs[20:] *= 1e4
    beside = layer(inputs)
    assert torch.equal(beside[:1], alone)
    assert beside[1:20].isnan().all(), "what is no number stays none"


@needs_kernels
@pytest.mark.parametrize("whole", [True, False], ids=["all tokens", "one token in the last layer"])
def test_frozen_encoders_are_near_float32(base: Backbone, whole: bool) -> None:
    only = None if whole else base.summary_position
    frozen = base.frozen_in(torch.int8)
    kinds = {type(module) for module in frozen.layers.modules()}
    assert Int8Linear in kinds
    assert nn.Linear not in kinds
    assert any(isinstance(module, nn.Linear) for module in base.layers.modules())
    assert frozen.products_in == torch.int8
    assert frozen.flops_a_token(1, 3) == base.flops_a_token(1, 3)
    exact, ours = states_of(base, only), states_of(frozen, only)
    error = (ours - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert 0 < error.max() < 0.05


@needs_kernels
def test_queries_keys_and_values_share_what_they_multiply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_model(tmp_path, "bert")
    frozen = load(str(tmp_path), 3, seed=0).frozen_in(torch.int8)
    quantised = []
    quantise = int8.quantise

    def counted(rows: torch.Tensor) -> int8.Rows:
        quantised.append(rows.shape)
        return quantise(rows)

    monkeypatch.setattr(int8, "quantise", counted)
    states_of(frozen)
    assert len(quantised) == 4 * N_BLOCKS, "one for attention, one for its output, two for the feed-forward layers"


def test_every_activation_of_the_kernels_has_one_in_int8() -> None:
    assert set(onednn_linear._ACTIVATIONS.values()) == set(int8_linear._ACTIVATIONS)


@pytest.mark.parametrize(("speed", "expected"), [(1.4, torch.float32), (1.6, torch.int8)])
def test_int8_is_taken_where_it_is_that_much_faster_and_bfloat16_is_not(
    speed: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "device", lambda: torch.device("cpu"))
    monkeypatch.setattr(hardware, "usual_speed", lambda dtype: speed if dtype == torch.int8 else 1.0)
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    assert hardware.frozen_dtype() == expected
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    assert hardware.frozen_dtype() == torch.bfloat16


def test_language_models_are_never_in_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "frozen_dtype", lambda: torch.int8)
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    of_family = {name: load(str(save_tiny_model(tmp_path / name, name)), 2, seed=0) for name in ("llama", "bert")}
    assert {name: base.frozen_dtype for name, base in of_family.items()} == {
        "llama": torch.float32,
        "bert": torch.int8,
    }
