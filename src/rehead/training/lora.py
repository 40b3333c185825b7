"""Low-rank adapters (Hu et al., ICLR 2022, arXiv 2106.09685) in every linear layer of the blocks, with peft.

They train on a copy of the base whose own weights are frozen, in the machine's fastest type, and are added to the
float32 weights afterwards. What is saved is the merged model, and the adapters beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from rehead.models.adapters import Adapters
from rehead.models.backbone import AnyBackbone, Backbone, is_product
from rehead.runtime.interrupts import deepcopy

# The paper finds little beyond rank 8 on classification (§7.2), and trains with a rate ten times that of the weights.
RANK = 8
_ALPHA = 16
LEARNING_RATE = 5e-4
_ADAPTER = "default"


def attach(frozen: Backbone, seed: int) -> tuple[nn.ParameterList, Any]:
    """Put adapters beside the linear layers of all layers; return their weights, and peft's configuration.

    Args:
        frozen: is changed; give a copy (`Backbone.with_products_in`).
    """
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    layers = sorted({name for block in frozen.layers for name, module in block.named_modules() if is_product(module)})
    config = LoraConfig(
        r=RANK,
        lora_alpha=_ALPHA,
        target_modules=layers,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in frozen.layers.modules()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, frozen.body, adapter_name=_ADAPTER)
    adapters = nn.ParameterList(weight for name, weight in frozen.body.named_parameters() if ".lora_" in name)
    for weight in adapters:
        weight.data = weight.data.float()
    return adapters, config


def merge(adapted: Backbone, base: Backbone, config: Any) -> Adapters:
    """Add what the adapters of `adapted` learned to the weights of `base`, in place."""
    from peft import get_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    with torch.no_grad():
        for name, module in adapted.body.named_modules():
            if isinstance(module, LoraLayer):
                weight = base.body.get_submodule(name).weight
                layer: Any = module  # of a class that peft's base class does not describe
                delta = layer.get_delta_weight(_ADAPTER)
                weight.add_(delta.to(weight.device, weight.dtype))
    tensors = get_peft_model_state_dict(adapted.body, adapter_name=_ADAPTER)
    return Adapters(config, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})


def copy_of(base: AnyBackbone, dtype: torch.dtype) -> AnyBackbone:
    """Return a base that adapters may be attached to, with products in `dtype`; the original stays as it is."""
    copied = base.with_products_in(dtype)
    return replace(copied, model=deepcopy(copied.model)) if copied is base else copied
