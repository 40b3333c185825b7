"""Frozen layers that are laid out for the kernels compute what torch's own do, in every family."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import activations
from transformers.pytorch_utils import Conv1D

from rehead.models import onednn_linear
from rehead.models.backbone import Backbone
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.runtime import hardware
from tests.tiny_models import CONFIGS, N_BLOCKS, VOCABULARY, save_tiny_model

LENGTHS = torch.tensor([1, 3, 7, 9, 11])
needs_kernels = pytest.mark.skipif(
    hardware.device().type != "cpu" or not onednn_linear.available(torch.bfloat16),
    reason="this torch or device has no such kernels",
)


@pytest.fixture(scope="module", params=CONFIGS)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder: Path = tmp_path_factory.mktemp("model")
    save_tiny_model(folder, request.param)
    return load(str(folder), 3, seed=0)


def states_of(base: Backbone, in_bf16: bool, only: str | None = None) -> torch.Tensor:
    ids = torch.randint(4, len(VOCABULARY), (int(LENGTHS.sum()),), generator=torch.Generator().manual_seed(1))
    packing = Packing(LENGTHS)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
        hidden, packing = base.filled(base.embed(ids, packing), packing)
        states = base.run_layers(hidden, packing, 0, N_BLOCKS, only=only)
        return base.normalise(states if only else packing.unfilled(states)).float()


@needs_kernels
@pytest.mark.parametrize("whole", [True, False], ids=["all tokens", "one token in the last block"])
def test_frozen_blocks_equal_those_with_products_in_bf16(base: Backbone, whole: bool) -> None:
    only = None if whole else base.summary_position
    frozen = base.frozen_in(torch.bfloat16)
    assert not any(isinstance(module, nn.Linear | Conv1D) for module in frozen.layers.modules())
    assert any(isinstance(module, nn.Linear | Conv1D) for module in base.layers.modules())
    exact = states_of(base, in_bf16=False, only=only)
    plain = states_of(base.with_products_in(torch.bfloat16), in_bf16=True, only=only)
    ours = states_of(frozen, in_bf16=True, only=only)
    errors = [((states - exact).norm(dim=-1) / exact.norm(dim=-1)).max() for states in (ours, plain)]
    # Fewer roundings: it may be nearer to float32 than torch's own, and is not farther beyond chance.
    assert 0 < errors[0] < 0.05
    assert errors[0] < 1.5 * errors[1]


@needs_kernels
@pytest.mark.parametrize("whole", [True, False], ids=["all tokens", "one token in the last block"])
def test_blocks_that_are_laid_out_equal_plain_ones_in_float32(base: Backbone, whole: bool) -> None:
    only = None if whole else base.summary_position
    laid_out = base.frozen_in(torch.float32)
    assert not any(isinstance(module, nn.Linear | Conv1D) for module in laid_out.layers.modules())
    assert any(isinstance(module, nn.Linear | Conv1D) for module in base.layers.modules())
    ours, plain = (states_of(each, in_bf16=False, only=only) for each in (laid_out, base))
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@needs_kernels
def test_layers_with_an_activation_that_no_kernel_has_are_laid_out_without_it(tmp_path: Path) -> None:
    save_tiny_model(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_act": "quick_gelu"}))
    base = load(str(tmp_path), 3, seed=0)
    laid_out = base.frozen_in(torch.float32)
    assert not any(isinstance(module, nn.Linear | Conv1D) for module in laid_out.layers.modules())
    torch.testing.assert_close(states_of(laid_out, False), states_of(base, False), rtol=1e-4, atol=1e-5)


@needs_kernels
def test_what_is_told_of_frozen_blocks_stays_the_same(base: Backbone) -> None:
    plain, frozen = base.with_products_in(torch.bfloat16), base.frozen_in(torch.bfloat16)
    assert frozen.products_in_bf16
    assert frozen.flops_a_token(1, 3) == plain.flops_a_token(1, 3)
    frozen.truncate(2)
    assert len(frozen.layers) == 2


@needs_kernels
@pytest.mark.parametrize("activation", onednn_linear._ACTIVATIONS)
def test_activations_are_those_of_torch_and_transformers(activation: str) -> None:
    of_name: type[nn.Module] = getattr(nn, activation, None) or getattr(activations, activation)

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.intermediate_act_fn = nn.Linear(32, 48), of_name()

    torch.manual_seed(0)
    layers = Layers()
    inputs = torch.randn(7, 32)
    with torch.inference_mode():
        expected = layers.intermediate_act_fn(layers.dense(inputs))
        layers.to(torch.bfloat16)
        onednn_linear.prepack(nn.ModuleList([layers]))
        assert isinstance(layers.intermediate_act_fn, nn.Identity)
        torch.testing.assert_close(layers.dense(inputs.bfloat16()).float(), expected, rtol=0.02, atol=0.02)


def test_without_the_kernels_nothing_changes(base: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn_linear, "available", lambda dtype: False)
    assert base.frozen_in(torch.float32) is base
    frozen = base.frozen_in(torch.bfloat16)
    assert torch.equal(states_of(frozen, True), states_of(base.with_products_in(torch.bfloat16), True))


@needs_kernels
@pytest.mark.parametrize("missing", [torch.float32, torch.bfloat16])
def test_each_type_has_its_kernels_or_not(
    missing: torch.dtype, base: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn_linear, "available", lambda dtype: dtype != missing)
    laid_out = {dtype: base.frozen_in(dtype) for dtype in (torch.float32, torch.bfloat16)}
    for dtype, frozen in laid_out.items():
        plain = any(isinstance(module, nn.Linear | Conv1D) for module in frozen.layers.modules())
        assert plain == (dtype == missing)
