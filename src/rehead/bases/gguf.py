"""Turns a GGUF file into a Transformers folder, once; the result is kept in the cache."""

import contextlib
import io
from pathlib import Path
from typing import Any

import torch

from rehead import files, progress
from rehead.errors import BaseModelError, first_line

_CHECKSUM = "model.safetensors.sha256"


def converted(gguf: Path, sha256: str) -> Path:
    """Returns a folder with the weights of `gguf` as float32 safetensors, converting it where not yet done.

    Args:
        gguf: the file; it need not exist where its conversion does.
        sha256: of the file; the conversion is found again by it.

    Raises:
        BaseModelError: the file is not a GGUF that Transformers reads, or the cached conversion is damaged.
    """
    folder = _folder_of(sha256)
    try:
        if not folder.is_dir():
            _convert_once(gguf, folder)
    except OSError as error:
        raise BaseModelError(
            f"cannot write to the cache folder {folder.parent} ({error.strerror or error}); "
            "free some space or set REHEAD_CACHE to a folder that can be written to"
        ) from error
    _check(folder)
    return folder


def is_converted(sha256: str) -> bool:
    return _folder_of(sha256).is_dir()


def checksum(folder: Path) -> str | None:
    """SHA-256 of the weights in a folder that `converted` has made and checked; None for any other folder."""
    if folder.parent != files.cache_folder() / "converted":
        return None
    return (folder / _CHECKSUM).read_text().strip()


def _folder_of(sha256: str) -> Path:
    return files.cache_folder() / "converted" / sha256[:16]


def _convert_once(gguf: Path, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(folder, f"another rehead is converting {gguf.name}; waiting for it"):
        if folder.is_dir():
            return
        files.sweep_partial(folder)
        progress.say(f"converting {gguf.name} to safetensors (once; about half a minute)")
        with files.new_folder(folder) as partial:
            _convert(gguf, partial)
            (partial / _CHECKSUM).write_text(files.sha256_of(partial / "model.safetensors"))


def _convert(gguf: Path, destination: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        # The GGUF reader draws a bar of its own, which no setting turns off.
        with progress.quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            model, info = AutoModel.from_pretrained(**where, dtype=torch.float32, output_loading_info=True)
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except Exception as error:  # of gguf, struct, numpy or Transformers, depending on where the file is wrong
        raise BaseModelError(
            f"{gguf} is not a GGUF file that Transformers reads ({first_line(error)}); use another"
        ) from error
    if info["missing_keys"] or info["mismatched_keys"]:
        lacking = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        raise BaseModelError(f"{gguf} lacks {len(lacking)} of the model's weights ({lacking[0]}, ...); use another")
    _forget_quantisation(model)
    with progress.quiet_transformers():
        model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)


def _forget_quantisation(model: Any) -> None:
    """The weights are plain float32 now; Transformers would refuse to save a model marked as quantised."""
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config


def _check(folder: Path) -> None:
    try:
        expected = (folder / _CHECKSUM).read_text().strip()
        intact = files.sha256_of(folder / "model.safetensors") == expected
    except OSError:
        intact = False
    if not intact:
        raise BaseModelError(
            f"the converted weights in {folder} are damaged (SHA-256 mismatch); delete that folder and run again"
        )
