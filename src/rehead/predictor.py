"""Texts to probabilities with a trained classifier: the one way, used wherever something is predicted.

Computes in float32, so that the scores are those of the plain Transformers model to the fifth digit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from rehead import hardware
from rehead.bases.cut import Base
from rehead.bases.tokens import encode
from rehead.evaluation.metrics import softmax
from rehead.heads import Head
from rehead.tuning.features import trunk_pass

# Texts are encoded and scored this many at a time, so that memory does not grow with their number.
_CHUNK = 4096


@dataclass(frozen=True)
class Scores:
    """What a prediction gives for n texts.

    Attributes:
        probabilities: (n, n_classes) float64.
        tokens_cut: (n,) int64, how many tokens of each text were cut off.
        flops: operations in the blocks; identical texts pass once.
    """

    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]
    flops: float


def predict(base: Base, head: Head, texts: list[str], max_length: int, temperature: float = 1.0) -> Scores:
    """Scores texts; an empty text is scored as the padding token alone."""
    probabilities = np.empty((len(texts), head.linear.out_features))
    tokens_cut = np.zeros(len(texts), dtype=np.int64)
    flops = 0.0
    head.eval()
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        encoded = encode(base, texts[part], max_length)
        depth = len(base.blocks)
        features = trunk_pass(base, encoded.ids, depths=[depth], pooling=head.pooling, label="predicting")
        with torch.inference_mode():
            logits = head.to(hardware.device())(features.pooled[:, 0].to(hardware.device())).cpu().numpy()
        probabilities[part] = softmax(logits, temperature)
        tokens_cut[part] = encoded.tokens_cut
        flops += features.forward_flops
    return Scores(probabilities, tokens_cut, flops)
