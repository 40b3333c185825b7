"""Run any stretch of a pretrained vision model.

Layers are transformer layers, or the stages of a convolutional network, whose states have another size after each.
States of images lie end to end like those of texts, (n · states an image, width), so that trunk, cache and tail need
not know what they hold; every image has as many.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rehead.models import efficientnet
from rehead.models.backbone import Backbone
from rehead.models.families import Family, SavedLayout
from rehead.models.image_transforms import Transform
from rehead.models.packing import Packing
from rehead.runtime import interrupts

# As many tokens' worth of a batch does an image of a convolutional network count for: of 4 to 64 images at a time, 8
# are fastest on two cores.
_TOKENS_OF_A_MAP = 256


@dataclass(frozen=True)
class VisionFamily(Family):
    """How an architecture that reads images is cut.

    Attributes:
        maps: whether states are maps (n, width, height, width); otherwise they are tokens (n, tokens, width).
        widths: (configuration) → width of the states after each layer; by default it is the same after all.
        prefix: tokens before those of the patches, the first of which stands for the image.
        embed: (model, pixels (n, 3, height, width)) → what enters layer 0.
        layer: (layer, states) → states.
        classifier: the pooling of its image-classification class, and how that is saved; None where something stands
            before the linear layer there, or there is no such class.
    """

    maps: bool = False
    widths: Callable[[Any], list[int]] = lambda config: [int(config.hidden_size)] * int(config.num_hidden_layers)
    prefix: int = 0
    embed: Callable[[Any, Tensor], Tensor] = lambda model, pixels: model.embeddings(pixels)
    layer: Callable[[nn.Module, Tensor], Tensor] = lambda layer, states: _first(layer(states))
    classifier: tuple[str, SavedLayout] | None = None


def _first(output: Any) -> Tensor:
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _of_stages(config: Any) -> list[int]:
    return [int(width) for width in config.hidden_sizes]


# By `config.model_type`.
VISION_FAMILIES = {
    efficientnet.MODEL_TYPE: VisionFamily(
        "blocks",
        None,
        maps=True,
        widths=lambda config: efficientnet.VARIANTS[config.variant].widths[: config.num_hidden_layers],
        embed=lambda model, pixels: model.stem(pixels),
    ),
    "vit": VisionFamily(
        "layers",
        "layernorm",
        prefix=1,
        classifier=("cls", SavedLayout("ViTForImageClassification", "vit.", "classifier.")),
    ),
    "dinov2": VisionFamily(
        "encoder.layer",
        "layernorm",
        prefix=1,
        classifier=("both", SavedLayout("Dinov2ForImageClassification", "dinov2.", "classifier.")),
    ),
    "siglip_vision_model": VisionFamily(
        "encoder.layers", "post_layernorm", layer=lambda layer, states: _first(layer(states, None))
    ),
    **dict.fromkeys(("convnext", "convnextv2"), VisionFamily("encoder.stages", None, maps=True, widths=_of_stages)),
    "resnet": VisionFamily(
        "encoder.stages",
        None,
        maps=True,
        widths=_of_stages,
        embed=lambda model, pixels: model.embedder(pixels),
        classifier=("mean", SavedLayout("ResNetForImageClassification", "resnet.", "classifier.1.")),
    ),
}
# What a convolution and the batch norm behind it are called in a module that holds both.
_CONVOLUTIONS = (("conv", "norm"), ("convolution", "normalization"))


@dataclass(frozen=True)
class VisionBackbone(Backbone):
    """A pretrained vision model, ready to be cut.

    Attributes:
        transform: what makes pixels of images for it.
    """

    transform: Transform
    takes = "images"

    @property
    def family(self) -> VisionFamily:
        return VISION_FAMILIES[self.config.model_type]

    @property
    def summary_position(self) -> str | None:
        return "cls" if self.family.prefix else None

    @property
    def hidden_size(self) -> int:
        return self.width_at(len(self.layers))

    @property
    def tokens_an_image(self) -> int:
        """What an image is taken for where batches are filled."""
        if self.family.maps:
            return _TOKENS_OF_A_MAP
        return (self.transform.size // int(self.config.patch_size)) ** 2 + self.family.prefix

    def width_at(self, depth: int) -> int:
        return self.family.widths(self.config)[depth - 1]

    def published_layout(self, pooling: str) -> SavedLayout | None:
        published = self.family.classifier
        return published[1] if published and published[0] == pooling else None

    def train(self, mode: bool) -> None:
        """Turn dropout on or off; batch norms keep the statistics that they were trained with."""
        if self.model.training == mode:
            return
        self.model.train(mode)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def with_products_in(self, dtype: torch.dtype) -> Self:
        """Return a copy for inference: batch norms are folded into the convolutions before them, weights lie by pixel
        and then by channel, and those of convolutions and matrix products are in `dtype`.
        """
        from torch.nn.utils.fusion import fuse_conv_bn_eval

        model = interrupts.deepcopy(self.model).eval()
        for module in list(model.modules()):
            for convolution, norm in _CONVOLUTIONS:
                if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                    fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                    setattr(module, convolution, fused)
                    setattr(module, norm, nn.Identity())
        model.to(memory_format=torch.channels_last)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(dtype)
        return replace(self, model=model)

    def embed(self, inputs: Tensor, packing: Packing) -> Tensor:
        return self._flat(self.family.embed(self.body, inputs))

    def run_layers(
        self,
        hidden: Tensor,
        packing: Packing,
        start: int,
        stop: int,
        *,
        only: str | None = None,
        recompute: bool = False,
    ) -> Tensor:
        states = self._shaped(hidden, len(packing.lengths))
        through = partial(checkpoint, self.family.layer, use_reentrant=False) if recompute else self.family.layer
        for layer in self.layers[start:stop]:
            states = through(layer, states)
        hidden = self._flat(states)
        return hidden if only is None else self.pooled(hidden, packing, only)

    def normalise(self, hidden: Tensor) -> Tensor:
        """Apply the final norm where states are as wide as it is; the stages before the last have none."""
        if not self.family.norm or hidden.shape[-1] != self.norm.weight.numel():  # type: ignore[operator]
            return hidden
        normed: Tensor = self.norm(hidden)
        return normed

    def pooled(self, hidden: Tensor, packing: Packing, pooling: str) -> Tensor:
        states = hidden.view(len(packing.lengths), -1, hidden.shape[-1])
        if pooling == "mean":
            return states[:, self.family.prefix :].mean(1)
        return states[:, {"cls": 0}[pooling]]

    def flops_a_token(self, start: int, stop: int) -> float:
        """Return what is counted on an image, of which each of the tokens that it is taken for has an equal share."""
        return sum(self._flops_of_layers[start:stop]) / self.tokens_an_image

    @cached_property
    def _flops_of_layers(self) -> list[float]:
        """Operations of convolutions and matrix products for one image, by layer."""
        from torch.utils.flop_counter import FlopCounterMode

        device = next(self.model.parameters()).device
        packing = Packing(torch.ones(1, dtype=torch.int64))
        counts: list[float] = []
        # As in the trunk pass, where what enters is float32, whatever type the products have.
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.products_in_bf16):
            blank = torch.zeros(1, 3, self.transform.size, self.transform.size, device=device)
            hidden = self.embed(blank, packing)
            for number in range(len(self.layers)):
                with FlopCounterMode(display=False) as counter:
                    hidden = self.run_layers(hidden, packing, number, number + 1)
                counts.append(float(counter.get_total_flops()))
        return counts

    def tokens_of(self, lengths: Tensor) -> int:
        return len(lengths) * self.tokens_an_image

    def lengths_of(self, hidden: Tensor, packing: Packing) -> Tensor:
        n = len(packing.lengths)
        return torch.full((n,), len(hidden) // n, dtype=torch.int64)

    def _flat(self, states: Tensor) -> Tensor:
        if self.family.maps:
            states = states.permute(0, 2, 3, 1)
        return states.reshape(-1, states.shape[-1])

    def _shaped(self, hidden: Tensor, n: int) -> Tensor:
        if not self.family.maps:
            return hidden.view(n, -1, hidden.shape[-1])
        side = math.isqrt(len(hidden) // n)
        return hidden.view(n, side, side, hidden.shape[-1]).permute(0, 3, 1, 2)
