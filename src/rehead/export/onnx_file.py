"""ONNX files: written of a module, and run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from rehead.data.images import ImageInput
from rehead.export import ngram_file
from rehead.export.graphs import ImageGraph, TextGraph
from rehead.export.transformers_folder import pixels_of
from rehead.models.backbone import Backbone
from rehead.models.text_backbone import TextBackbone
from rehead.models.vision_backbone import VisionBackbone

# Where optimum and transformers.js look: in float32, and in 8-bit integers.
FILE, INT8_FILE = "onnx/model.onnx", "onnx/model_quantized.onnx"
OUTPUT = "logits"


def write(graph: TextGraph | ImageGraph, path: Path) -> None:
    """Write a module as an ONNX model in float32; its inputs are named as the module's, its output is `logits`.

    Weights of more than 1.5 GB go to a file `model.onnx.data` beside it, because one ONNX file cannot hold them.
    """
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with silence(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            kwargs=graph.examples(),
            input_names=list(graph.axes),
            output_names=[OUTPUT],
            dynamic_shapes=graph.axes,
            verbose=False,
        )
        assert program is not None
        # Among others the paths of this machine's source files, one for every node.
        ClearMetadataAndDocStringPass()(program.model)
        program.save(path)


class OnnxRunner:
    """Texts or images → logits with an exported folder, by means of onnxruntime and, for texts, `tokenizers` alone.

    Where n-grams stand beside the head they are made by the folder's own file.

    Args:
        base: of an image model, for how images become pixels.
        file: the model, by its path in the folder.
    """

    def __init__(self, folder: Path, base: Backbone, file: str = FILE) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        self._base = base
        self._tokenizer = (
            None if isinstance(base, VisionBackbone) else Tokenizer.from_file(str(folder / "tokenizer.json"))
        )
        self._ngrams = ngram_file.read(folder) if (folder / ngram_file.CODE).is_file() else None

    def __call__(self, inputs: Sequence[str] | Sequence[ImageInput]) -> npt.NDArray[np.float32]:
        """(n, n_classes) of a batch of n."""
        logits: npt.NDArray[np.float32] = self._session.run([OUTPUT], self._fed(inputs))[0]
        return logits

    def _fed(self, inputs: Sequence[str] | Sequence[ImageInput]) -> dict[str, npt.NDArray[Any]]:
        if isinstance(self._base, VisionBackbone):
            return {name: values.numpy() for name, values in pixels_of(inputs, self._base).items()}
        assert self._tokenizer is not None
        texts = [each for each in inputs if isinstance(each, str)]
        read = self._tokenizer.encode_batch(texts)
        ids = np.array([text.ids for text in read], dtype=np.int64)
        mask = np.array([text.attention_mask for text in read], dtype=np.int64)
        if not ids.size:  # texts of no tokens at all: a padding token stands for each
            assert isinstance(self._base, TextBackbone)
            ids = np.full((len(read), 1), self._base.tokenizer.pad_token_id, dtype=np.int64)
            mask = np.zeros_like(ids)
        fed = {"input_ids": ids, "attention_mask": mask}
        if self._ngrams is not None:
            fed["ngram_ids"], fed["ngram_values"] = self._ngrams(texts)
        return fed


@contextmanager
def silence() -> Iterator[None]:
    """Keep torch's exporter and onnxruntime's quantizer from printing what they are about to do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
