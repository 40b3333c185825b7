"""Small images of two kinds that a model can tell apart, as folders, archives and tables."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def image(kind: str, number: int, side: int = 48) -> Image.Image:
    """Stripes: upright and reddish, or lying and bluish; no two are alike."""
    generator = np.random.default_rng([number, kind == "upright"])
    noise = generator.integers(0, 60, (side, side, 3))
    wave = 90 * (1 + np.sin(np.arange(side) * generator.uniform(0.3, 0.9) + generator.uniform(0, 6)))
    stripes = np.broadcast_to(wave[None, :] if kind == "upright" else wave[:, None], (side, side))
    noise[..., 0 if kind == "upright" else 2] += stripes.astype(int)
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    content = io.BytesIO()
    picture.save(content, form)
    return content.getvalue()


def save_folders(folder: Path, n: int = 30, first: int = 0) -> Path:
    """`n` images of each kind, in a sub-folder each."""
    for kind in ("lying", "upright"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + n):
            image(kind, number).save(folder / kind / f"{number:03}.png")
    return folder
