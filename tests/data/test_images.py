"""Images as they come: damaged, empty, huge, animated, turned, in other colours, under other names."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from rehead.data import duplicates, images
from rehead.data.duplicates import look_alike
from rehead.data.images import ImageInput
from rehead.runtime.errors import DataError
from tests.tiny_images import encoded, image


def look(content: bytes, name: str = "a.png") -> images.Look:
    return ImageInput(name, content=content).look


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty file"),
        (b"not an image", "is no image in a format that is read"),
        (encoded(image("upright", 1))[:400], "is a damaged image"),
        (encoded(image("upright", 1), "JPEG")[:500], "is a damaged image"),
    ],
)
def test_what_is_no_whole_image_is_not_used(content: bytes, problem: str) -> None:
    assert problem in str(look(content).problem)
    if content:
        with pytest.raises(DataError, match=r"^a\.png is"):
            ImageInput("a.png", content=content).image(at_least=32)


def test_more_pixels_than_fit_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LARGEST_PIXELS", 48 * 47)
    assert "larger than" in str(look(encoded(image("upright", 1))).problem)


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert "gone.png cannot be read" in str(ImageInput("gone.png", tmp_path / "gone.png").look.problem)


def test_what_was_put_right_is_told() -> None:
    plain = image("upright", 1)
    frames = io.BytesIO()
    plain.save(frames, "GIF", save_all=True, append_images=[image("upright", 2)])
    assert any("animated" in oddity for oddity in look(frames.getvalue(), "a.gif").oddities)
    assert any("CMYK" in oddity for oddity in look(encoded(plain.convert("CMYK"), "JPEG"), "a.jpg").oddities)
    assert any("named .png but JPEG" in oddity for oddity in look(encoded(plain, "JPEG")).oddities)
    deep = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    assert any("more than 8 bits" in oddity for oddity in look(encoded(deep)).oddities)
    assert look(encoded(plain)).oddities == ()


def test_image_stored_turned_is_upright() -> None:
    plain = Image.new("RGB", (40, 20), "white")
    plain.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    content = io.BytesIO()
    plain.save(content, "PNG", exif=exif)
    seen = ImageInput("a.png", content=content.getvalue()).image(at_least=20)
    assert seen.size == (20, 40)
    assert seen.getpixel((10, 5)) == (0, 0, 0)
    assert seen.getpixel((10, 35)) == (255, 255, 255)


def test_sixteen_bits_keep_their_shades() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    deep = Image.fromarray(np.tile(ramp, (64, 1)))
    shades = np.asarray(ImageInput("a.png", content=encoded(deep)).image(at_least=64))[0, :, 0]
    assert shades[0] == 0
    assert shades[-1] == 255
    assert (np.diff(shades.astype(int)) >= 0).all()


def test_what_is_transparent_is_white() -> None:
    glass = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert ImageInput("a.png", content=encoded(glass)).image(at_least=20).getpixel((3, 3)) == (255, 255, 255)


def test_images_that_look_alike_are_found_and_others_are_not() -> None:
    first, other = image("upright", 1, 96), image("lying", 2, 96)
    smaller, darker = first.resize((70, 70)), first.point([value * 3 // 4 for value in range(256)] * 3)
    shown = [ImageInput(str(i), content=encoded(each)) for i, each in enumerate((first, other, smaller, darker))]
    groups = look_alike(shown)
    assert groups[0] == groups[2] == groups[3]
    assert groups[1] != groups[0]


def test_simple_drawings_with_like_outlines_are_not_taken_for_one() -> None:
    def blot(radius: int) -> ImageInput:
        drawn = Image.new("L", (64, 64), 255)
        ImageDraw.Draw(drawn).ellipse((32 - radius, 32 - radius, 32 + radius, 32 + radius), fill=0)
        return ImageInput(str(radius), content=encoded(drawn))

    groups = look_alike([blot(8), blot(20), blot(20)])
    assert groups[0] != groups[1] == groups[2]


@given(st.binary(max_size=300))
def test_any_bytes_are_an_image_or_a_reason(content: bytes) -> None:
    found = look(content)
    assert (found.problem is None) == (found.width > 0)


def test_many_images_that_look_alike_are_one_group_across_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_COMPARED", 3)
    shown = [ImageInput(f"{i}.png", content=encoded(image("lying", 1 if i % 2 else 10 + i))) for i in range(12)]
    groups = look_alike(shown)
    assert len(set(groups[1::2].tolist())) == 1
    assert len(set(groups.tolist())) == 7
    assert groups[0] == 0


@pytest.mark.parametrize("mode", ["CMYK", "HSV", "F", "I;16", "LA", "P"])
def test_images_of_pillow_s_are_taken_in_any_mode(mode: str) -> None:
    given = image("upright", 1).convert("L").convert("I").convert("I;16") if mode == "I;16" else image("upright", 1)
    picture = images.as_image_input(given if mode == "I;16" else given.convert(mode), 1)
    assert picture is not None
    assert picture.look.problem is None


def test_image_of_pillow_s_is_put_upright_as_its_file_is(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    image("upright", 1).crop((0, 0, 48, 30)).save(tmp_path / "turned.jpg", exif=turned)
    by_path = images.as_image_input(tmp_path / "turned.jpg", 1)
    opened = images.as_image_input(Image.open(tmp_path / "turned.jpg"), 1)
    assert by_path is not None
    assert opened is not None
    assert by_path.image(30).size == opened.image(30).size == (30, 48)


def test_names_that_are_no_text_can_be_written_down(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    assert images.shown(name) == "caf\ufffd.png"
    assert images.shown("café.png") == "café.png"


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_a_file_of_sixteen_are_scaled_by_their_own_range(bits: int) -> None:
    ramp = np.linspace(0, 2**bits - 1, 64).astype(np.uint16)
    deep = Image.fromarray(np.tile(ramp, (64, 1)))
    shades = np.asarray(ImageInput("a.png", content=encoded(deep)).image(at_least=64))[0, :, 0]
    assert (shades[0], shades[-1], len(np.unique(shades))) == (0, 255, 64)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """(height, width, 3 or 4) uint16 as PNG, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_keep_their_shades(bits: int, channels: int) -> None:
    values = np.full((64, 64, channels), 65535, np.uint16)
    values[..., :3] = np.linspace(0, 2**bits - 1, 64).astype(np.uint16)[None, :, None]
    image = ImageInput("a.png", content=png_of_16_bits(values))
    shades = np.asarray(image.image(at_least=64))[0]
    assert (shades[0].tolist(), shades[-1].tolist(), len(np.unique(shades[:, 0]))) == ([0, 0, 0], [255, 255, 255], 64)
    assert image.look.problem is None


def test_infinite_values_leave_the_others_their_shades() -> None:
    values = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    values[0, :2] = np.inf, np.nan
    shades = np.asarray(ImageInput("a.tif", content=encoded(Image.fromarray(values), "TIFF")).image(at_least=64))
    assert len(np.unique(shades[1, :, 0])) == 64


@pytest.mark.parametrize("values", [np.linspace(0, 409_500, 64), np.linspace(-1000, 3000, 64)])
def test_whole_numbers_of_any_range_keep_their_shades(values: np.ndarray) -> None:
    deep = Image.fromarray(np.tile(values.astype(np.int32), (64, 1)))
    shades = np.asarray(ImageInput("a.tif", content=encoded(deep, "TIFF")).image(at_least=64))[0, :, 0]
    assert shades[0] == 0
    assert len(np.unique(shades)) > 50
