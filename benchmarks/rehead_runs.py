"""How the benchmarks run rehead: its command line, as a user would, with features that are cold or warm as wanted."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from measure import Contender

from rehead.runtime import files

REHEAD = (sys.executable, "-m", "rehead.cli")


class Cache:
    """A cache folder with the models that are on this machine already, and features of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._features = folder / "features"
        self.environment = {"REHEAD_CACHE": str(folder)}
        for part in ("packages", "converted"):
            there = files.cache_folder().resolve() / part
            there.mkdir(parents=True, exist_ok=True)
            (folder / part).symlink_to(there, target_is_directory=True)

    def forget_features(self) -> None:
        shutil.rmtree(self._features, ignore_errors=True)

    def features_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._features.rglob("*") if file.is_file())


def cold(title: str, data: Sequence[str | Path], options: Sequence[str], cache: Cache, model: Path) -> Contender:
    """`rehead fit` with nothing computed before; see `warm`."""
    return replace(warm(title, data, options, cache, model), before=cache.forget_features)


def warm(title: str, data: Sequence[str | Path], options: Sequence[str], cache: Cache, model: Path) -> Contender:
    """`rehead fit` with the features of whatever this cache has seen before.

    Args:
        data: what stands behind `fit`; see `book_files.as_arguments`.
        options: further ones.
        model: the folder that is written.
    """
    return Contender(title, [*REHEAD, "fit", *data, *options, "-o", model, "--json"], cache.environment)


def base_folder(name: str) -> Path:
    """The Transformers folder of a base, fetched first where need be, for the peers to load."""
    return Path(_told("import sys; from rehead.models.loading import locate; print(locate(sys.argv[1]))", name))


@lru_cache(maxsize=1)
def product_speeds() -> dict[str, float]:
    """GFLOP/s of a plain matrix product in float32 and in bfloat16."""
    script = (
        "from rehead.runtime.hardware import product_speed as s; import torch; "
        "print(s(torch.float32), s(torch.bfloat16))"
    )
    single, half = (float(speed) / 1e9 for speed in _told(script).split())
    return {"float32": single, "bfloat16": half}


@lru_cache(maxsize=1)
def card() -> str | None:
    """The name of the CUDA device that rehead computes on, or None."""
    return _told("import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')") or None


def has_bf16() -> bool:
    """Whether bfloat16 is native, rather than emulated at a fraction of float32's speed."""
    return _told("from rehead.runtime.hardware import native_dtype; print(native_dtype())") == "torch.bfloat16"


def _told(script: str, *arguments: str) -> str:
    # In a process of its own: it imports torch, and the measuring process must stay small.
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
