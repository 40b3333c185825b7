"""Texts or images to what a base's trunk is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rehead.data.images import ImageInput, as_image_input
from rehead.models import tokenization
from rehead.models.backbone import Base
from rehead.models.image_transforms import Pixels
from rehead.models.tokenization import Encoded
from rehead.models.vision import VisionBase
from rehead.runtime.errors import SettingError

# Of no length, short, and longer.
TEXTS_OF_NO_MEANING = ["", "a text", "one two three four five six seven eight nine ten"]


def encode(
    base: Base,
    inputs: Sequence[str] | Sequence[ImageInput],
    max_length: int,
    long: str = "truncate",
    views: Sequence[Sequence[int]] | None = None,
) -> Encoded:
    """What the trunk is given of n texts or images.

    Args:
        max_length, long: of texts; see `rehead.models.tokenization.encode`.
        views: of each image, which views of it; their features are averaged. By default the image as it is; see
            `rehead.models.image_transforms.Transform.pixels`.

    Raises:
        SettingError: the base is for the other kind of input.
    """
    pictures = [given for given in inputs if isinstance(given, ImageInput)]
    texts = [given for given in inputs if isinstance(given, str)]
    if isinstance(base, VisionBase):
        if texts:
            raise SettingError(f"base {base.name!r} is for images, and these are texts; use `base='smollm2'` or minilm")
        chosen = [[0]] * len(pictures) if views is None else views
        shown = [picture for picture, of_one in zip(pictures, chosen, strict=True) for _ in of_one]
        numbers = torch.tensor([view for of_one in chosen for view in of_one], dtype=torch.int64)
        pixels = Pixels(shown, numbers, base.transform, base.tokens_an_image)
        windows = torch.tensor([len(of_one) for of_one in chosen], dtype=torch.int64)
        return Encoded(pixels, windows, np.zeros(len(pictures), dtype=np.int64))
    if pictures:
        raise SettingError(f"base {base.name!r} is for texts, and these are images; use `base='efficientnet-lite0'`")
    return tokenization.encode(base, texts, max_length, long)


def save_reader(base: Base, folder: Path, max_length: int) -> None:
    """Writes what `encode` needs when the base is loaded again: the tokenizer's files, or how images are prepared."""
    if isinstance(base, VisionBase):
        base.transform.save(folder)
        return
    base.tokenizer.model_max_length = tokenization.longest_input(base, max_length)
    base.tokenizer.save_pretrained(folder)


def sample_for(base: Base) -> list[str] | list[ImageInput]:
    """Inputs of no meaning, to compare what two copies of a classifier make of them."""
    if not isinstance(base, VisionBase):
        return TEXTS_OF_NO_MEANING
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2)]
    return [picture for i, image in enumerate(images) if (picture := as_image_input(image, i)) is not None]
