"""From a name to a base: what is damaged, missing or unknown is refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rehead.models.conversion import converted
from rehead.models.loading import load, locate
from rehead.runtime.errors import BaseModelError
from tests.tiny_models import CONFIGS, N_BLOCKS, save_tiny_model


@pytest.mark.parametrize("family", CONFIGS)
def test_base_has_the_blocks_of_its_folder(tmp_path: Path, family: str) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 3, seed=0)
    assert len(base.layers) == base.published_layers == base.config.num_hidden_layers == N_BLOCKS
    assert not base.model.training


def test_weights_missing_from_a_block_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, "llama")
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "layers.2.mlp" in name)
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"lacks 1 of the weights .*layers\.2\.mlp"):
        load(str(folder), 2, seed=0)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    # The cache knows a base by its safetensors files: other weights beside the same configuration would pass for it.
    folder = save_tiny_model(tmp_path, "llama")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"no \.safetensors weights, and pickled ones are not read"):
        load(str(folder), 2, seed=0)


def test_file_that_is_no_gguf_is_refused(tmp_path: Path, empty_cache: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF and no more")
    with pytest.raises(BaseModelError, match="is not a GGUF file that Transformers reads") as caught:
        locate(str(tmp_path / "model.gguf"))
    assert "\n" not in str(caught.value)
    assert not [path for path in (empty_cache / "converted").iterdir() if path.suffix != ".lock"]


def test_damaged_conversion_is_refused(tmp_path: Path, empty_cache: Path) -> None:
    folder = empty_cache / "converted" / ("a" * 16)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"damaged")
    (folder / "model.safetensors.sha256").write_text("0" * 64)
    with pytest.raises(BaseModelError, match=r"damaged \(SHA-256 mismatch\); delete that folder"):
        converted(tmp_path / "model.gguf", "a" * 64)


def test_configuration_cannot_bring_code_along(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, "llama")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSequenceClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('code of the folder was run')")
    assert type(load(str(folder), 2, seed=0).model).__module__.startswith("transformers.")


@pytest.mark.parametrize("name", ["nonsense", "org/nonsense", "a b", "../nowhere/model"])
def test_unknown_base_names_the_alternatives(name: str) -> None:
    with pytest.raises(BaseModelError, match="smollm2, minilm") as caught:
        locate(name)
    assert "\n" not in str(caught.value)
