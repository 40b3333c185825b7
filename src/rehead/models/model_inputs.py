"""Turn texts or images into what a backbone's first layer is fed from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from rehead.models import tokenization
from rehead.models.backbone import Backbone
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import Encoded
from rehead.runtime.errors import SettingError

if TYPE_CHECKING:
    from rehead.data.images import ImageInput

# Of no length, short, and longer.
TEXTS_OF_NO_MEANING = ["", "a text", "one two three four five six seven eight nine ten"]


def encode_inputs(
    backbone: Backbone,
    inputs: Sequence[str] | Sequence[ImageInput],
    max_length: int,
    long: str = "truncate",
    views: Sequence[Sequence[int]] | None = None,
) -> Encoded:
    """Return what the backbone reads of n texts or images.

    Args:
        max_length, long: of texts; see `rehead.models.tokenization.encode`.
        views: of each image, which views of it; their features are averaged. By default the image as it is; see
            `rehead.models.image_transforms.Transform.pixels`.

    Raises:
        SettingError: the backbone is for the other kind of input.
    """
    texts = [text for text in inputs if isinstance(text, str)]
    if isinstance(backbone, TextBackbone):
        if len(texts) < len(inputs):
            raise SettingError(
                f"base {backbone.name!r} is for texts, and these are images; use `base='efficientnet-lite0'`"
            )
        return tokenization.encode(backbone, texts, max_length, long)
    if texts:
        raise SettingError(f"base {backbone.name!r} is for images, and these are texts; use `base='smollm2'` or minilm")
    from rehead.models.image_transforms import Pixels
    from rehead.models.vision_backbone import VisionBackbone

    assert isinstance(backbone, VisionBackbone)
    pictures = [picture for picture in inputs if not isinstance(picture, str)]
    chosen = [[0]] * len(pictures) if views is None else views
    shown = [picture for picture, of_one in zip(pictures, chosen, strict=True) for _ in of_one]
    numbers = torch.tensor([view for of_one in chosen for view in of_one], dtype=torch.int64)
    pixels = Pixels(shown, numbers, backbone.transform, backbone.tokens_an_image)
    windows = torch.tensor([len(of_one) for of_one in chosen], dtype=torch.int64)
    return Encoded(pixels, windows, np.zeros(len(pictures), dtype=np.int64))


def save_preparation(backbone: Backbone, folder: Path, max_length: int) -> None:
    """Write what `encode_inputs` needs when the backbone is loaded again: a tokenizer, or how images are prepared."""
    if isinstance(backbone, TextBackbone):
        backbone.tokenizer.model_max_length = tokenization.longest_input(backbone, max_length)
        backbone.tokenizer.save_pretrained(folder)
        return
    from rehead.models.vision_backbone import VisionBackbone

    assert isinstance(backbone, VisionBackbone)
    backbone.transform.save(folder)


def inputs_of_no_meaning(backbone: Backbone) -> list[str] | list[ImageInput]:
    """Return inputs to compare what two copies of a classifier make of them."""
    if backbone.takes == "texts":
        return TEXTS_OF_NO_MEANING
    from rehead.data.images import as_image_input

    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2)]
    return [picture for i, image in enumerate(images) if (picture := as_image_input(image, i)) is not None]
