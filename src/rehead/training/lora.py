"""Low-rank adapters (Hu et al., ICLR 2022, arXiv 2106.09685) in every linear layer of the blocks, with peft.

They train on a copy of the base whose own weights are frozen, in the machine's fastest type, and are added to the
float32 weights afterwards. What is saved is the merged model, and the adapters beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rehead.models.backbone import Base
from rehead.runtime.interrupts import deepcopy

# The paper finds little beyond rank 8 on classification (§7.2), and trains with a rate ten times that of the weights.
RANK = 8
_ALPHA = 16
LEARNING_RATE = 5e-4
_ADAPTER = "default"


@dataclass(frozen=True)
class Adapters:
    """What was learned beside the base's own weights.

    Attributes:
        config: peft's.
        tensors: by the names that peft gives them in a file.
    """

    config: Any
    tensors: dict[str, Tensor]

    def save(self, folder: Path, within: str = "") -> None:
        """Writes what `peft.PeftModel.from_pretrained` reads, for the backbone of the published model.

        Args:
            within: where in the model that they are for the backbone is, with a dot at its end; it is that model itself
                by default.
        """
        from safetensors.torch import save_file

        folder.mkdir()
        self.config.save_pretrained(folder)
        named = {f"base_model.model.{within}{name}": tensor.contiguous() for name, tensor in self.tensors.items()}
        save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def attach(frozen: Base, seed: int) -> tuple[nn.ParameterList, Any]:
    """Puts adapters beside all blocks' linear layers; returns their weights, and peft's configuration.

    Args:
        frozen: is changed; give a copy (`Base.with_products_in`).
    """
    from peft import LoraConfig, inject_adapter_in_model

    layers = sorted(
        {
            name
            for block in frozen.blocks
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear | Conv1D)
        }
    )
    config = LoraConfig(
        r=RANK,
        lora_alpha=_ALPHA,
        target_modules=layers,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in frozen.blocks.modules()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, frozen.backbone, adapter_name=_ADAPTER)
    adapters = nn.ParameterList(weight for name, weight in frozen.backbone.named_parameters() if ".lora_" in name)
    for weight in adapters:
        weight.data = weight.data.float()
    return adapters, config


def merge(adapted: Base, base: Base, config: Any) -> Adapters:
    """Adds what the adapters of `adapted` learned to the weights of `base`, in place."""
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        for name, module in adapted.backbone.named_modules():
            if isinstance(module, LoraLayer):
                weight = base.backbone.get_submodule(name).weight
                layer: Any = module  # of a class that peft's base class does not describe
                delta = layer.get_delta_weight(_ADAPTER)
                weight.add_(delta.to(weight.device, weight.dtype))
    tensors = get_peft_model_state_dict(adapted.backbone, adapter_name=_ADAPTER)
    return Adapters(config, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})


def copy_of(base: Base, dtype: torch.dtype) -> Base:
    """A base that adapters may be attached to, with products in `dtype`; the original stays as it is."""
    copied = base.with_products_in(dtype)
    return replace(copied, model=deepcopy(copied.model)) if copied is base else copied
