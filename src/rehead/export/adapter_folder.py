"""The low-rank adapters of a classifier with its head, as peft reads them: a small folder beside the published base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rehead.artifact.artifact import ADAPTER, NetworkArtifact
from rehead.evaluation.model_card import base_on_the_hub
from rehead.export import transformers_folder
from rehead.models.config_checks import read_json
from rehead.models.loading import locate
from rehead.runtime import progress
from rehead.runtime.errors import SettingError

FILE, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
# What peft puts before the names of the model's modules.
_WITHIN = "base_model.model."


def require_adapters(classifier: NetworkArtifact, model: Path) -> None:
    """Raise SettingError where there are none, or where they stand in no sequence-classification model."""
    if not (model / ADAPTER / FILE).is_file() or classifier.takes == "images":
        raise SettingError(
            f"{model} has no adapters of a model of texts: fit with `tune='lora'`, or use `form='transformers'`"
        )
    transformers_folder.require_family_head(classifier)


def write(classifier: NetworkArtifact, folder: Path, model: Path) -> None:
    """Write adapters and head.

    Args:
        model: the classifier's folder, whose adapters are for the backbone alone.
    """
    whole = classifier.backbone.model
    inner = f"{_WITHIN}{whole.base_model_prefix}."
    adapters = load_file(model / ADAPTER / FILE)
    tensors = {f"{inner}{name.removeprefix(_WITHIN)}": tensor for name, tensor in adapters.items()}
    heads = _heads(whole)
    for path in heads:
        for name, tensor in whole.get_submodule(path).state_dict().items():
            tensors[f"{_WITHIN}{path}.{name}"] = tensor.cpu().contiguous()
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    base = classifier.manifest.base
    config = read_json(model / ADAPTER / _CONFIG) | {
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base_on_the_hub(base) or str(locate(base).resolve()),
        "modules_to_save": sorted({path.rpartition(".")[2] for path in heads}),
        "inference_mode": True,
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _heads(whole: Any) -> list[str]:
    """Return the dotted names of what a sequence-classification model has around its layers that a base may lack."""
    beside = [name for name, module in whole.named_children() if name != whole.base_model_prefix and _weighs(module)]
    pooler = getattr(whole.base_model, "pooler", None)
    return beside if pooler is None else [*beside, f"{whole.base_model_prefix}.pooler"]


def _weighs(module: Any) -> bool:
    return next(module.parameters(), None) is not None


def options(classifier: NetworkArtifact) -> dict[str, Any]:
    """Return what the published base is to be loaded with, so that the adapters fit into it."""
    config, depth = classifier.backbone.config, classifier.manifest.depth
    kept = {} if depth == classifier.manifest.blocks_of_base else {"num_hidden_layers": depth}
    pooling = {"classifier_pooling": "cls"} if hasattr(config, "classifier_pooling") else {}
    return {"num_labels": len(classifier.labels), "pad_token_id": config.pad_token_id, **kept, **pooling}


class Runner(transformers_folder.TransformersRunner):
    """Texts → logits with the published base and an exported folder, by means of Transformers and peft."""

    def __init__(self, folder: Path, classifier: NetworkArtifact) -> None:
        from peft import PeftModel
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        with progress.quiet_transformers():
            self._base = classifier.backbone
            self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            base = AutoModelForSequenceClassification.from_pretrained(
                locate(classifier.manifest.base),
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                **options(classifier),
            )
            self._model = PeftModel.from_pretrained(base, folder).eval()
