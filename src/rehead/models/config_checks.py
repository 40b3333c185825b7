"""Check that a model folder may be loaded: its configuration asks for no more than its weights are, and nothing in it
leads out of it or would be run.

A model that somebody else has made is data that somebody else has made. Transformers builds what `config.json` says
before it looks at the weights, so a few characters there could take all of a machine's memory.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from rehead.runtime.errors import BaseModelError, first_line

# What a checkpoint may lack of the model that is built of it: a head, a pooler. Twice its weights and this many more.
_LACKING = 10_000_000
# As families call the numbers of their layers, or of those of each stage.
_COUNTS_LAYERS = re.compile("num_(.*_)?layers|n_layers?|depths")
_LARGEST_JSON = 64 * 2**20
# No tokenizer's file is as large; weights may be larger.
_LARGEST_FILE = 512 * 2**20
_WEIGHTS = (".safetensors", ".gguf")
# Of such numbers Transformers makes a list or a dictionary of as many entries, before anything else looks at them.
_COUNTED = re.compile(f"_?num_labels|{_COUNTS_LAYERS.pattern}")
_MOST_COUNTED = 100_000
# Written by libraries that read them back by running what is in them.
_RUN_WHEN_READ = frozenset({".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})


def require_harmless(folder: Path, home: Path | None = None) -> None:
    """Check what lies in a saved folder before any of it is read.

    Args:
        home: links may lead into this folder; into `folder` itself if None.

    Raises:
        BaseModelError: a link leads out of it, or there is something that is run when it is read.
    """
    home = (home or folder).resolve()
    for path in sorted(folder.rglob("*")):
        if not path.resolve().is_relative_to(home):
            raise BaseModelError(f"{path} is a link that leads out of the folder; copy the file itself")
        if not path.is_dir() and not path.is_file():
            raise BaseModelError(f"{path} is neither a file nor a folder; remove it")
        if path.suffix.lower() in _RUN_WHEN_READ:
            raise BaseModelError(f"{path} can hold code, and no saved classifier does; remove it if you trust the rest")


def require_modest(folder: Path) -> None:
    """Check, before a model folder is read, that reading it takes no more than its files make one expect.

    Raises:
        BaseModelError: a file is a device or far too large, or the configuration counts labels or layers without end.
    """
    for path in folder.iterdir():
        if path.exists() and not path.is_dir():
            if not path.is_file():
                raise BaseModelError(f"{path} is neither a file nor a folder; remove it")
            if path.suffix not in _WEIGHTS and path.stat().st_size > _LARGEST_FILE:
                raise BaseModelError(f"{path} has more than {_LARGEST_FILE:,} bytes; copy it again")
    file = folder / "config.json"
    if not file.is_file():
        return
    try:
        waiting = [read_json(file)]
    except (ValueError, OSError) as error:
        raise BaseModelError(f"{file} cannot be read ({first_line(error)}); copy it again") from error
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            for name, count in value.items():
                counts = [each for each in (count if isinstance(count, list) else [count]) if isinstance(each, int)]
                if _COUNTED.fullmatch(name) and max(counts, default=0) > _MOST_COUNTED:
                    raise BaseModelError(
                        f"{file}: {name} is {max(counts):,}, the limit is {_MOST_COUNTED:,}; copy it again"
                    )


def require_fitting_size(folder: Path, config: Any, build: Callable[[], nn.Module]) -> None:
    """Check that a configuration asks for a model of about the size that its weights have.

    Args:
        config: Transformers' configuration.
        build: makes the model that is to be loaded; called where tensors take no memory.

    Raises:
        BaseModelError: it asks for much more.
    """
    file = folder / "config.json"
    tensors, elements = _weights(folder)
    for name, value in config.to_dict().items():
        for count in value if isinstance(value, list) else [value]:
            if _COUNTS_LAYERS.fullmatch(name) and isinstance(count, int) and not 0 <= count <= tensors:
                raise BaseModelError(
                    f"{file}: {name} is {count:,}, and the weights are {tensors:,} tensors; copy it again"
                )
        if isinstance(value, int) and not isinstance(value, bool) and "size" in name and value > max(elements, 2**20):
            raise BaseModelError(f"{file}: {name} is {value:,}, and there are {elements:,} weights; copy it again")
    with torch.random.fork_rng(), torch.device("meta"):
        wanted = sum(weight.numel() for weight in build().parameters())
    if wanted > 2 * elements + _LACKING:
        raise BaseModelError(
            f"{file} asks for {wanted:,} weights, and there are {elements:,}; fetch or save the model again"
        )


def _weights(folder: Path) -> tuple[int, int]:
    """Return how many tensors the weights are, and how many numbers; read from the files' headers."""
    tensors = elements = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                shapes = [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            raise BaseModelError(f"{file} cannot be loaded ({first_line(error)}); fetch or save it again") from error
        tensors += len(shapes)
        elements += sum(math.prod(shape) for shape in shapes)
    return tensors, elements


def read_json(file: Path, *, finite: bool = False) -> Any:
    """Read a JSON file that somebody else may have written.

    Args:
        finite: whether all its numbers have to be numbers: not NaN, and not infinite.

    Raises:
        ValueError: it is no JSON, nested beyond all measure, or larger than any such file is.
        OSError: it cannot be read.
    """
    if file.exists() and not file.is_file():
        raise ValueError("it is no file")
    if file.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"it has more than {_LARGEST_JSON:,} bytes")
    parse = _finite if finite else None
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=parse, parse_float=parse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _finite(number: str) -> float:
    if not math.isfinite(float(number)):
        raise ValueError(f"{number} is no number to compute with")
    return float(number)
