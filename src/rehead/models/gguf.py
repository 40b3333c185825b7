"""Turns a GGUF file into a Transformers folder."""

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

import torch

from rehead.runtime import progress
from rehead.runtime.errors import BaseModelError, SettingError, first_line

_PACKAGES = ("gguf", "accelerate")


def require_installed() -> None:
    """Raise SettingError where a package of the extra is missing."""
    if missing := ", ".join(name for name in _PACKAGES if find_spec(name) is None):
        raise SettingError(
            f"a base in a GGUF file, as smollm2 is, needs {missing}; pip install 'rehead[gguf]', or take another base"
        )


def convert(gguf: Path, destination: Path) -> None:
    """Write a Transformers folder of a GGUF file.

    Raises:
        BaseModelError: it is not one that Transformers reads.
        SettingError: the extra that reads it is not installed.
    """
    require_installed()
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
    # Its weights are plain float32 now, and Transformers would refuse to save a model that is marked as quantised.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    with progress.quiet_transformers():
        model.save_pretrained(destination)
    tokenizer.save_pretrained(destination)
