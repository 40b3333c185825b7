"""A plain Transformers folder of a classifier whose head is its family's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rehead.artifact.artifact import NetworkArtifact
from rehead.data.images import ImageInput
from rehead.runtime import progress
from rehead.runtime.errors import SettingError


def require_family_head(classifier: NetworkArtifact) -> None:
    """Raise SettingError where the head is one of rehead's own, which Transformers has no class for."""
    base, pooling = classifier.backbone, classifier.head.pooling
    if classifier.takes == "images":
        raise SettingError("no class of Transformers has the head of an image classifier; use `form='onnx'`")
    if base.family_head(pooling) is None:
        raise SettingError(
            f"no class of Transformers has {pooling!r} pooling; fit with `pool={base.summary_position!r}`, as this "
            "base's own class has it, or use `form='onnx'`"
        )


class Runner:
    """Texts → logits with an exported folder, by means of Transformers alone."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        with progress.quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            self._model = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            ).eval()

    def __call__(self, inputs: Sequence[str] | Sequence[ImageInput]) -> npt.NDArray[np.float32]:
        """(n, n_classes) of a batch of n."""
        read = self._tokenizer(list(inputs), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = self._model(**read).logits.numpy()
        return logits
