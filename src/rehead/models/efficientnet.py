"""EfficientNet-lite0 and -lite2: the vision backbones that the package index carries, as Transformers models.

The lite variants of EfficientNet (Tan and Le, ICML 2019, arXiv 1905.11946) have no squeeze-and-excitation and ReLU6 for
swish, and stem and head of the unscaled width. A layer here is a stage, all layers of one resolution and width; the
last one is the convolution to 1,280 channels that the classifier stands on.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedConfig, PreTrainedModel

MODEL_TYPE = "rehead_efficientnet_lite"
# TensorFlow's, which the published weights were trained with.
_EPSILON = 1e-3


class Stage(NamedTuple):
    """Inverted residual layers of one width; the first of them has the stride."""

    layers: int
    kernel: int
    stride: int
    expansion: int
    width: int


# Table 1 of the paper.
_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
_STEM, TOP = 32, 1280


class Variant(NamedTuple):
    """How a model is scaled from the smallest one, and the side of the images that it was trained on."""

    width: float
    depth: float
    side: int

    @property
    def stages(self) -> tuple[Stage, ...]:
        """All but the convolution on top; the first and the last have as many layers in every lite variant."""
        ends = (0, len(_STAGES) - 1)
        return tuple(
            stage._replace(
                layers=stage.layers if number in ends else math.ceil(stage.layers * self.depth),
                width=_rounded(stage.width * self.width),
            )
            for number, stage in enumerate(_STAGES)
        )

    @property
    def widths(self) -> list[int]:
        """Channels that leave each layer."""
        return [*(stage.width for stage in self.stages), TOP]

    @property
    def preparation(self) -> dict[str, Any]:
        """How the images were prepared when it was trained: without 16 points on each side of the shorter edge."""
        return {
            "do_resize": True,
            "size": {"shortest_edge": self.side + 32},
            "do_center_crop": True,
            "crop_size": {"height": self.side, "width": self.side},
            "resample": 3,
            "image_mean": [0.485, 0.456, 0.406],
            "image_std": [0.229, 0.224, 0.225],
        }


# A name and not its numbers is what a saved configuration has, so that no folder can ask for a huge model.
VARIANTS = {"lite0": Variant(1.0, 1.0, 224), "lite2": Variant(1.1, 1.2, 260)}


def _rounded(width: float) -> int:
    """Return the nearest multiple of 8, or the next one where that would take away more than a tenth."""
    nearest = int(width + 4) // 8 * 8
    return nearest if nearest >= 0.9 * width else nearest + 8


class EfficientNetLiteConfig(PreTrainedConfig):  # type: ignore[misc]
    """What a saved backbone says of itself; all of a variant are alike but for how many layers are kept."""

    model_type = MODEL_TYPE

    def __init__(
        self, num_hidden_layers: int = len(_STAGES) + 1, image_size: int = 224, variant: str = "lite0", **others: Any
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        self.variant = variant
        self.num_hidden_layers = num_hidden_layers
        self.image_size = image_size
        super().__init__(**others)


class EfficientNetLite(PreTrainedModel):  # type: ignore[misc]
    """Pixels → states, without a head."""

    config_class = EfficientNetLiteConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig) -> None:
        super().__init__(config)
        self.stem = _Convolution(3, _STEM, 3, stride=2)
        before, blocks = _STEM, nn.ModuleList()
        for stage in VARIANTS[config.variant].stages:
            layers = []
            for number in range(stage.layers):
                stride = stage.stride if number == 0 else 1
                layers.append(_InvertedResidual(before, stage.width, stage.kernel, stride, stage.expansion))
                before = stage.width
            blocks.append(nn.Sequential(*layers))
        blocks.append(_Convolution(before, TOP, 1))
        self.blocks = blocks[: config.num_hidden_layers]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: rehead never trains one from nothing."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(n, 3, height, width) → (n, channels, height / 32, width / 32)."""
        states: Tensor = self.stem(pixel_values)
        for block in self.blocks:
            states = block(states)
        return states


class _Convolution(nn.Module):
    """Convolution, batch norm and, but for `linear` ones, ReLU6; padded as TensorFlow does ("same")."""

    def __init__(
        self, width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(width, eps=_EPSILON, momentum=0.01)
        self.linear = linear

    def forward(self, states: Tensor) -> Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in states.shape[-2:])
        if height % 2 or width % 2:  # the odd row goes below and the odd column to the right
            states = functional.pad(states, (width // 2, width - width // 2, height // 2, height - height // 2))
            height = width = 0
        weight, bias, groups = self.conv.weight, self.conv.bias, self.conv.groups
        states = self.norm(functional.conv2d(states, weight, bias, stride, (height // 2, width // 2), 1, groups))
        return states if self.linear else functional.relu6(states, inplace=True)


class _InvertedResidual(nn.Module):
    """Expand, convolve each channel by itself, project (Sandler et al., MobileNetV2, CVPR 2018)."""

    def __init__(self, width_in: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.expand = _Convolution(width_in, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = _Convolution(inner, width, 1, linear=True)
        self.skips = stride == 1 and width_in == width

    def forward(self, states: Tensor) -> Tensor:
        result: Tensor = self.project(self.depthwise(self.expand(states)))
        return result + states if self.skips else result


def convert(weights: Path, folder: Path) -> None:
    """Write a Transformers folder of the published PyTorch weights, without their classifier.

    Args:
        weights: a file that is called efficientnet-VARIANT-CHECKSUM.pth.
    """
    published = torch.load(weights, map_location="cpu", weights_only=True)
    name_of_variant = weights.name.split("-")[1]
    variant = VARIANTS[name_of_variant]
    model = EfficientNetLite(
        EfficientNetLiteConfig(
            image_size=variant.side, variant=name_of_variant, architectures=[EfficientNetLite.__name__]
        )
    )
    tensors = {name: published[_published(name, variant)] for name in model.state_dict()}
    model.load_state_dict(tensors)
    model.config.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(variant.preparation, indent=2) + "\n", encoding="utf-8")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


def _published(name: str, variant: Variant) -> str:
    """Return what a weight of ours is called in the published file: layers are numbered through there."""
    first, *parts = name.split(".")
    if first == "stem":
        return f"_{'conv_stem' if parts[0] == 'conv' else 'bn0'}.{parts[-1]}"
    stage = int(parts[0])
    if stage == len(variant.stages):
        return f"_{'conv_head' if parts[1] == 'conv' else 'bn1'}.{parts[-1]}"
    number = sum(earlier.layers for earlier in variant.stages[:stage]) + int(parts[1])
    at = {"expand": 0, "depthwise": 1, "project": 2}[parts[2]]
    kind = f"{parts[2]}_conv" if parts[3] == "conv" else f"bn{at}"
    return f"_blocks.{number}._{kind}.{parts[-1]}"
