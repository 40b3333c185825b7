"""Images: where they lie, what is wrong with them, and how they are opened. Looks at one image at a time."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from rehead.runtime import progress
from rehead.runtime.errors import DataError

# By the name's ending.
FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jfif", ".jpe"), "JPEG"),
    ".png": "PNG",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".webp": "WEBP",
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
}
# More pixels than a camera takes, fewer than fill the memory.
LARGEST_PIXELS = 100_000_000
# Bytes of a file, packed or not.
LARGEST_BYTES = 500_000_000
# Images that cannot be used and are named one by one; others are counted.
_WARNED_OF = 5
# Side of the square that a difference hash is made of: 16 · 16 bits.
_HASHED_SIDE = 16
# Modes of more than 8 bits a channel, which `convert` would cut off at 255.
_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")


@dataclass(frozen=True)
class ImageInput:
    """An image that is read when it is needed.

    Attributes:
        name: what it is called towards people: its path below the data's folder.
        path: its file, or the archive that it is in; None where `content` has it.
        member: its name in the archive.
        content: its bytes, where they are in memory.
    """

    name: str
    path: Path | None = None
    member: str | None = None
    content: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """Return the bytes of its file.

        Raises:
            DataError: it cannot be read any more.
        """
        if self.content is not None:
            return self.content
        assert self.path is not None
        try:
            if self.member is not None:
                return _member(self.path, self.member)
            if not self.path.is_file():  # a device or a pipe never ends
                raise OSError("no such file")
            if self.path.stat().st_size > LARGEST_BYTES:
                raise OSError(_TOO_LARGE)
            return self.path.read_bytes()
        except (OSError, KeyError, ValueError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(f"{self.name} cannot be read ({error}); check {self.path}") from error

    @cached_property
    def digest(self) -> bytes:
        """Return 16 bytes that are equal for files with the same bytes."""
        return hashlib.blake2b(self.read(), digest_size=16).digest()

    @cached_property
    def look(self) -> Look:
        """Return what a first look says of it; the image is decoded once for that."""
        try:
            content = self.read()
            if not content:
                return Look("empty file")
            with _opened(content) as opened:
                oddities = tuple(_oddities(self.name, opened))
                width, height = opened.size
                opened.draft("L", (4 * _HASHED_SIDE, 4 * _HASHED_SIDE))
                upright = _in_three_colours(ImageOps.exif_transpose(_loaded(opened, content)))
            return Look(None, width, height, oddities, *_small_copies(upright))
        except DataError as error:
            return Look(str(error))
        except _UNREADABLE as error:
            return Look(_reason(error))

    def image(self, at_least: int) -> Image.Image:
        """Return the image upright, in three colours of 8 bits; transparent parts are white, of an animation the first.

        Args:
            at_least: pixels that the shorter side is needed in; large photographs are decoded no finer than that.

        Raises:
            DataError: it is no image, a damaged one, or one of more than `LARGEST_PIXELS`.
        """
        try:
            content = self.read()
            with _opened(content) as opened:
                opened.draft("RGB", (at_least, at_least))
                return _in_three_colours(ImageOps.exif_transpose(_loaded(opened, content)))
        except _UNREADABLE as error:
            raise DataError(f"{self.name} {_reason(error)}; remove or replace it") from error


_TOO_LARGE = f"more than {LARGEST_BYTES // 1_000_000} MB"


def _member(archive: Path, name: str) -> bytes:
    """Return the bytes of a file in an archive; what it unpacks to is looked at before it is unpacked."""
    opened = _archive(archive, archive.stat().st_mtime_ns)
    if opened.getinfo(name).file_size > LARGEST_BYTES:
        raise OSError(_TOO_LARGE)
    with opened.open(name) as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise OSError(_TOO_LARGE)
    return content


@lru_cache(maxsize=4)
def _archive(path: Path, changed: int) -> zipfile.ZipFile:
    """Return an archive whose contents are listed once; several threads may read from it."""
    return zipfile.ZipFile(path)


def shown(name: str) -> str:
    """Return a file's name as it can be written down: bytes that are no UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


@dataclass(frozen=True)
class Look:
    """What a first look at an image says.

    Attributes:
        problem: why it cannot be used; None if it can.
        width, height: in pixels, as stored.
        oddities: what was put right, in words, such as "animated".
        hash: (4,) uint64, a difference hash: images that look alike differ in few bits.
        shades: (272,) float32 of length 1, a very small copy less its mean: those of images that look alike have a
            product close to 1.
    """

    problem: str | None
    width: int = 0
    height: int = 0
    oddities: tuple[str, ...] = ()
    hash: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(4, dtype=np.uint64))
    shades: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(272, dtype=np.float32))


# What Pillow raises for damaged files of one format or another.
_UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, OverflowError, MemoryError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def _opened(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        # Its size is checked here, before anything is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        opened = Image.open(io.BytesIO(content), formats=sorted(set(FORMATS.values())))
    if opened.width * opened.height > LARGEST_PIXELS:
        raise Image.DecompressionBombError
    return opened


def _loaded(opened: Image.Image, content: bytes) -> Image.Image:
    """Decode an image; one of 16 bits a colour, of which Pillow reads the upper 8, is scaled where those are little."""
    tiles = list(getattr(opened, "tile", ()))
    opened.load()
    if not (opened.mode.startswith("RGB") and tiles and re.search(r";16[BLN]", str(tiles[0].args))):
        return opened
    upper = np.array(opened).astype(np.uint16)
    if upper[..., :3].max(initial=0) >= 128:
        return opened
    with _opened(content) as again:  # the other byte, as if the order of the two were the other one
        setattr(again, "tile", [tile._replace(args=_in_other_order(tile.args)) for tile in tiles])  # noqa: B010
        values = upper[..., :3] * 256 + np.asarray(again)[..., :3]
    upper[..., :3] = (255 * (values / _top_of(float(values.max()), opened.mode))).round()
    scaled = Image.fromarray(upper.astype(np.uint8))
    scaled.info = opened.info
    return scaled


def _in_other_order(args: Any) -> Any:
    if isinstance(args, tuple):
        return (_in_other_order(args[0]), *args[1:])
    return re.sub(";16[BLN]", lambda order: ";16L" if order[0] == ";16B" else ";16B", args)


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"is larger than {LARGEST_PIXELS // 1_000_000} million pixels"
    if isinstance(error, UnidentifiedImageError):
        return "is no image in a format that is read (" + ", ".join(sorted(set(FORMATS.values()))) + ")"
    return f"is a damaged image ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def _oddities(name: str, opened: Image.Image) -> Iterator[str]:
    if getattr(opened, "n_frames", 1) > 1:
        yield "animated, the first frame is used"
    if opened.mode == "CMYK":
        yield "in CMYK, converted"
    if opened.mode in _DEEP:
        yield "of more than 8 bits, scaled"
    if opened.getexif().get(0x0112, 1) != 1:
        yield "stored turned, put upright"
    named = FORMATS.get(Path(name).suffix.lower())
    if named and opened.format != named:
        yield f"named {Path(name).suffix} but {opened.format}"


def _in_three_colours(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP:
        values = np.asarray(image).astype(np.float64)
        finite = values[np.isfinite(values)]
        values = np.nan_to_num(values, posinf=finite.max(initial=0), neginf=finite.min(initial=0))
        values -= min(values.min(initial=0), 0)
        top = _top_of(float(values.max(initial=0)), image.mode)
        image = Image.fromarray((255 * np.clip(values / top, 0, 1)).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info):
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image)
        image = paper
    return image.convert("RGB")


def _top_of(largest: float, mode: str) -> float:
    """Return the value that is white: the largest of 10, 12, 14 or 16 bits, whichever the image's values fill.

    Cameras and scanners store 12 bits in files of 16. What has fewer or more bits is scaled by its own largest value.
    """
    if mode != "F" and 255 < largest <= 65535:
        return next(float(2**bits - 1) for bits in (10, 12, 14, 16) if largest < 2**bits)
    return max(largest, 1e-9)


def _small_copies(image: Image.Image) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float32]]:
    """Return where it grows brighter to the right, 256 bits (Krawetz's dHash, on a finer grid); its shades."""
    size = (_HASHED_SIDE + 1, _HASHED_SIDE)
    small = np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR)).astype(int)
    bits = np.packbits((small[:, 1:] > small[:, :-1]).ravel())
    shades = small.astype(np.float32).ravel()
    shades -= shades.mean()
    return bits.view(np.uint64), shades / max(float(np.linalg.norm(shades)), 1e-6)


def looked_at(images: Sequence[ImageInput]) -> list[str | None]:
    """Return why each of the images cannot be used, None where it can; all are opened, several at a time."""
    return progress.mapped(lambda image: image.look.problem, images, "looking at images")


def warn_of_unusable(images: Sequence[ImageInput], so: str) -> list[int]:
    """Look at n images, warn of those that cannot be used, and return the positions of the others.

    Args:
        so: what becomes of one that cannot be used.
    """
    problems = looked_at(images)
    unusable = [(image, problem) for image, problem in zip(images, problems, strict=True) if problem is not None]
    for image, problem in unusable[:_WARNED_OF]:
        progress.warn(f"{problem if problem.startswith(image.name) else f'{image.name} {problem}'}: {so}")
    if len(unusable) > _WARNED_OF:
        progress.warn(f"{len(unusable) - _WARNED_OF:,} more images cannot be used either")
    return [i for i, problem in enumerate(problems) if problem is None]


def as_image_input(value: Any, number: int) -> ImageInput | None:
    """Return a path, an image of Pillow's or an array (height, width, 3) of uint8 as an input; None for all else."""
    if isinstance(value, ImageInput):
        return value
    if isinstance(value, Path):
        return ImageInput(shown(str(value)), value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        value = Image.fromarray(value)
    if isinstance(value, Image.Image):
        content = io.BytesIO()
        _in_three_colours(ImageOps.exif_transpose(value)).save(content, "PNG")
        return ImageInput(f"image {number}", content=content.getvalue())
    return None


def require_usable(images: Sequence[ImageInput]) -> None:
    """Raise DataError where one of the images cannot be used."""
    for image, problem in zip(images, looked_at(images), strict=True):
        if problem is not None:
            raise DataError(f"{image.name} {problem}; remove or replace it")
