"""Small randomly initialised vision models of each family, saved as Transformers folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from rehead.models import efficientnet
from rehead.models.image_transforms import Transform

SIDE = 32
_TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": SIDE,
    "patch_size": 8,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": _TOKENS,
    "dinov2": {**_TOKENS, "mlp_ratio": 2},
    "siglip_vision_model": _TOKENS,
    "convnext": {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "image_size": SIDE},
    "convnextv2": {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "image_size": SIDE},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "layer_type": "basic"},
    efficientnet.MODEL_TYPE: {},
}
N_BLOCKS = {**dict.fromkeys(CONFIGS, 4), efficientnet.MODEL_TYPE: 8}


def tiny_config(family: str, **others: Any) -> Any:
    if family == efficientnet.MODEL_TYPE:
        return efficientnet.EfficientNetLiteConfig(**others)
    return AutoConfig.for_model(family, **{**CONFIGS[family], **others})


def tiny_model(config: Any) -> Any:
    """In evaluation mode; weights and batch norms' statistics are spread out so that each of them matters."""
    torch.manual_seed(0)
    lite = config.model_type == efficientnet.MODEL_TYPE
    model = efficientnet.EfficientNetLite(config) if lite else AutoModel.from_config(config)
    with torch.no_grad():
        for name, values in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                values.uniform_(0.5, 2)
            elif values.is_floating_point() and not lite:
                values.add_(0.05 * torch.randn_like(values))
    return model.eval()


def save_tiny_vision_model(folder: Path, family: str) -> Path:
    tiny_model(tiny_config(family)).save_pretrained(folder)
    Transform(SIDE, None, 3, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).save(folder)
    return folder
