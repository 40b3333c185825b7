"""Images to pixels, the way a vision model was trained to see them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from rehead.data.images import ImageInput
from rehead.models.sequences import offsets_of
from rehead.runtime.errors import BaseModelError

_FILE = "preprocessor_config.json"
# From this side on ConvNeXt's image processor takes images whole.
_SQUEEZED_FROM = 384
# Of a view: the least share of the image's area that is kept, the largest turn in degrees, and how far brightness,
# contrast and saturation go from where they were.
_LEAST_AREA, _LARGEST_TURN, _STRONGEST = 0.6, 15.0, 0.2


@dataclass(frozen=True)
class Transform:
    """How an image becomes a square of pixels.

    Attributes:
        size: side of the square that the model sees.
        shorter: what the shorter side is scaled to before the middle is cut out; None where the whole image is
            squeezed into the square.
        resample: Pillow's number of the interpolation.
        mean, std: of each channel, from 0 to 1; taken off, and divided by.
    """

    size: int
    shorter: int | None
    resample: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, folder: Path, name: str) -> Transform:
        """Read what Transformers' image processors save.

        Raises:
            BaseModelError: the file is missing or makes no sense.
        """
        try:
            settings = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            size, crop = settings["size"], settings.get("crop_size") or settings["size"]
            shorter = _side(size) if settings.get("do_center_crop") or "shortest_edge" in _keyed(size) else None
            side = _side(crop) if settings.get("do_center_crop") else _side(size)
            if "crop_pct" in settings and not settings.get("do_center_crop"):
                # ConvNeXt's processor: small images are scaled to more and the middle is cut out, large ones squeezed.
                shorter = int(side / float(settings["crop_pct"] or 0.875)) if side < _SQUEEZED_FROM else None
            return cls(
                side,
                shorter,
                int(settings.get("resample", Image.Resampling.BICUBIC)),
                _channels(settings["image_mean"]),
                _channels(settings["image_std"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BaseModelError(
                f"base {name!r}: {folder / _FILE} does not say how images are prepared ({error}); save the model's "
                "image processor there"
            ) from error

    def save(self, folder: Path) -> None:
        """Write what `read` and Transformers' image processors read."""
        size = {"height": self.size, "width": self.size}
        settings = {
            "image_processor_type": "ViTImageProcessor" if self.shorter is None else "BitImageProcessor",
            "do_resize": True,
            "size": size if self.shorter is None else {"shortest_edge": self.shorter},
            "do_center_crop": self.shorter is not None,
            "crop_size": size,
            "resample": self.resample,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / _FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def pixels(self, picture: ImageInput, view: int) -> npt.NDArray[np.uint8]:
        """Return (size, size, 3) of an image.

        Args:
            view: 0 for the image as it is, 1 for its mirror image; any other is mirrored, turned, cut and coloured at
                random, in the same way for all images, so that one that differs in a pixel gets nearly the same answer.
        """
        scale = (self.shorter or self.size) / self.size
        image = picture.image(at_least=round(self.size * scale))
        if view >= 2:
            return self._augmented(image, np.random.default_rng(view))
        square = self._square(image, _middle(image.size, 1 / scale) if self.shorter else (0, 0, *image.size))
        return np.asarray(square)[:, ::-1] if view == 1 else np.asarray(square)

    def _square(self, image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
        return image.resize((self.size, self.size), Image.Resampling(self.resample), box=box)

    def _augmented(self, image: Image.Image, generator: np.random.Generator) -> npt.NDArray[np.uint8]:
        turned = image.rotate(generator.uniform(-_LARGEST_TURN, _LARGEST_TURN), Image.Resampling.BILINEAR)
        share = np.sqrt(generator.uniform(_LEAST_AREA, 1))
        width, height = (min(image.size), min(image.size)) if self.shorter else image.size
        width, height = width * share, height * share
        left = generator.uniform(0, image.width - width)
        upper = generator.uniform(0, image.height - height)
        square = self._square(turned, (left, upper, left + width, upper + height))
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            square = change(square).enhance(generator.uniform(1 - _STRONGEST, 1 + _STRONGEST))
        return np.asarray(square)[:, :: 1 if generator.random() < 0.5 else -1]


@dataclass(frozen=True)
class Pixels:
    """n images, each in one of its views; pixels are made when they are asked for, in parallel.

    Attributes:
        pictures: the images.
        views: (n,) int64, see `Transform.pixels`.
        transform: what makes pixels of them.
        tokens: what the trunk takes an image for, where it fills its batches.
    """

    pictures: Sequence[ImageInput]
    views: Tensor
    transform: Transform
    tokens: int

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def lengths(self) -> Tensor:
        """(n,) int64, tokens that each is to the trunk."""
        return torch.full((len(self),), self.tokens, dtype=torch.int64)

    @property
    def offsets(self) -> Tensor:
        return offsets_of(self.lengths)

    def take(self, rows: Tensor) -> Pixels:
        """Return some of the images, in the order of `rows`."""
        places = rows.tolist()
        return Pixels([self.pictures[i] for i in places], self.views[rows], self.transform, self.tokens)

    def changed(self) -> Pixels:
        """Each in a view of its own, drawn by torch's random state."""
        return replace(self, views=torch.randint(2, 2**16, (len(self),)))

    def digests(self) -> npt.NDArray[np.uint8]:
        """(n, 16): of each file's bytes, its view and the transform."""
        how = json.dumps({"views": "the same for all images", **asdict(self.transform)}).encode()
        digests = [
            hashlib.blake2b(picture.digest + view.to_bytes(2, "big") + how, digest_size=16).digest()
            for picture, view in zip(self.pictures, self.views.tolist(), strict=True)
        ]
        return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)

    @property
    def values(self) -> Tensor:
        """(n, 3, size, size) float32, in memory by pixel and then by channel."""
        size = self.transform.size
        result = np.empty((len(self), size, size, 3), dtype=np.uint8)

        def decode(i: int) -> None:
            result[i] = self.transform.pixels(self.pictures[i], int(self.views[i]))

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(decode, range(len(self))))
        mean, std = (255 * torch.tensor(values) for values in (self.transform.mean, self.transform.std))
        return torch.from_numpy(result).float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def _middle(size: tuple[int, int], share: float) -> tuple[float, float, float, float]:
    """Return the box in the middle whose side is this share of the shorter one."""
    side = min(size) * share
    left, upper = (size[0] - side) / 2, (size[1] - side) / 2
    return left, upper, left + side, upper + side


def _keyed(size: Any) -> dict[str, Any]:
    return size if isinstance(size, dict) else {"height": size, "width": size}


def _side(size: Any) -> int:
    settings = _keyed(size)
    side = settings.get("shortest_edge", settings.get("height"))
    if not isinstance(side, int) or settings.get("width", side) != side:
        raise ValueError(f"images of {size} are not squares")
    return side


def _channels(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue
