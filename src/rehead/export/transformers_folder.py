"""A plain Transformers folder of a classifier whose head is its family's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from rehead.artifact.artifact import NetworkArtifact
from rehead.data.images import ImageInput
from rehead.models.backbone import Backbone
from rehead.models.image_transforms import Pixels
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime import progress
from rehead.runtime.errors import SettingError


def require_family_head(classifier: NetworkArtifact) -> None:
    """Raise SettingError where the head is one of rehead's own, which Transformers has no class for."""
    if classifier.transformers_class is not None:
        return
    base, pooling = classifier.backbone, classifier.head.pooling
    fitting = base.summary_position
    if isinstance(base, VisionBackbone):
        fitting = base.family.classifier[0] if base.family.classifier else None
    if fitting is None:
        raise SettingError(f"Transformers has no image classifier like one of {base.name!r}; use `form='onnx'`")
    raise SettingError(
        f"no class of Transformers has {pooling!r} pooling; fit with `pool={fitting!r}`, as this base's own class has "
        "it, or use `form='onnx'`"
    )


class TransformersRunner:
    """Texts or images → logits with an exported folder, by means of Transformers.

    Args:
        base: of an image model, for how images become pixels.
    """

    def __init__(self, folder: Path, base: Backbone) -> None:
        from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer

        self._base = base
        auto = AutoModelForSequenceClassification if base.takes == "texts" else AutoModelForImageClassification
        with progress.quiet_transformers():
            if base.takes == "texts":
                self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            self._model = auto.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
            ).eval()

    def __call__(self, inputs: Sequence[str] | Sequence[ImageInput]) -> npt.NDArray[np.float32]:
        """(n, n_classes) of a batch of n."""
        if isinstance(self._base, VisionBackbone):
            read = pixels_of(inputs, self._base)
        else:
            read = self._tokenizer(list(inputs), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = self._model(**read).logits.numpy()
        return logits


def pixels_of(inputs: Sequence[str] | Sequence[ImageInput], base: VisionBackbone) -> dict[str, torch.Tensor]:
    """Return what image models are fed of n images, `pixel_values` (n, 3, size, size)."""
    pictures = [each for each in inputs if isinstance(each, ImageInput)]
    views = torch.zeros(len(pictures), dtype=torch.int64)
    return {"pixel_values": Pixels(pictures, views, base.transform, 1).values}
