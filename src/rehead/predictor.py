"""Texts to probabilities with a trained classifier: the one way, used wherever something is predicted.

The scores are those of the plain Transformers model in float32. Of many texts at once, where bfloat16 is native, most
are scored in that, in a fraction of the time, and those that its rounding could matter to again in float32: on a
sample it is measured how far bfloat16 moves the logits, and a text counts as safe only if twice that could move none of
its probabilities by more than a hundredth, and so not its label either.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead import hardware, likelihood
from rehead.bases.cut import Base
from rehead.bases.reading import encode
from rehead.bases.tokens import Encoded
from rehead.data.pictures import Picture
from rehead.heads import Head
from rehead.tuning.features import trunk_pass

# Texts are encoded and scored this many at a time, so that memory does not grow with their number.
_CHUNK = 8192
# Fewer texts are all scored in float32: the copy of the weights and the sample would cost more than they save.
_WORTHWHILE = 256
# On so many texts of the first portion it is measured how far bfloat16 moves the logits.
_SAMPLE = 16
_SAFETY = 2.0
# Such odds decide alone; larger ones would overflow.
_OVERWHELMING = 50.0
# How far from float32's a probability may be.
_TOLERANCE = 1e-2


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


def predict(
    base: Base,
    head: Head,
    texts: Sequence[str] | Sequence[Picture],
    max_length: int,
    long: str = "truncate",
    multilabel: bool = False,
    views: int = 1,
) -> Scores:
    """Scores texts, or images; an empty text is scored as the padding token alone.

    Args:
        multilabel: whether a text may have several labels, so that probabilities do not add up to 1.
        views: of an image, how many are averaged.
    """
    head.eval()
    scorer = _Scorer(base, head, multilabel)
    probabilities = np.empty((len(texts), head.linear.out_features))
    tokens_cut = np.zeros(len(texts), dtype=np.int64)
    for start in range(0, len(texts), _CHUNK):
        part = slice(start, start + _CHUNK)
        encoded = encode(base, texts[part], max_length, long, [range(views)] * len(texts[part]))
        probabilities[part] = likelihood.probabilities(scorer.logits(encoded), multilabel)
        tokens_cut[part] = encoded.tokens_cut
    return Scores(probabilities, tokens_cut, scorer.flops)


class _Scorer:
    """Logits of texts, in bfloat16 where that is safe.

    Attributes:
        flops: operations in the blocks so far.
    """

    def __init__(self, base: Base, head: Head, multilabel: bool) -> None:
        self.flops = 0.0
        # Of a text's base that is itself; of a vision model a copy for inference.
        self._base = base.with_products_in(torch.float32)
        self._head, self._multilabel = head, multilabel
        self._fast: Base | None = None
        self._error: float | None = None

    def logits(self, texts: Encoded) -> npt.NDArray[np.float32]:
        """(n, n_classes) float32."""
        if len(texts.windows) < _WORTHWHILE or hardware.native_dtype() == torch.float32:
            return self._pass(self._base, texts)
        if self._fast is None:
            self._fast = self._base.with_products_in(hardware.native_dtype())
        logits = self._pass(self._fast, texts)
        if self._error is None:
            self._error = self._measured_error(texts, logits)
        again = np.flatnonzero(_is_unsafe(likelihood.probabilities(logits, self._multilabel), self._error))
        if len(again):
            logits[again] = self._pass(self._base, texts.take(torch.from_numpy(again)))
        return logits

    def _measured_error(self, texts: Encoded, logits: npt.NDArray[np.float32]) -> float:
        """How far log odds may drift in bfloat16, from texts of all lengths: two logits of a text from each other, or
        each by itself where there may be several labels.
        """
        by_length = torch.argsort(texts.tokens, stable=True)
        rows = by_length[torch.linspace(0, len(by_length) - 1, _SAMPLE).long()]
        drift = logits[rows.numpy()] - self._pass(self._base, texts.take(rows))
        return _SAFETY * float(np.abs(drift).max() if self._multilabel else np.ptp(drift, axis=1).max())

    def _pass(self, base: Base, texts: Encoded) -> npt.NDArray[np.float32]:
        features = trunk_pass(base, texts.ids, depths=self._head.reads, pooling=self._head.pooling, label="predicting")
        self.flops += features.forward_flops
        pooled: Tensor = texts.by_text(features.seen)
        with torch.inference_mode():
            logits = self._head.to(hardware.device())(pooled.to(hardware.device())).cpu()
        result: npt.NDArray[np.float32] = logits.numpy()
        return result


def _is_unsafe(p: npt.NDArray[np.float64], error: float) -> npt.NDArray[np.bool_]:
    """(n,): where a drift of that size could move one of the probabilities (n, n_classes) by more than the tolerance.

    The odds of a class against the rest change by a factor of at most exp(drift).
    """
    factor = np.exp(min(error, _OVERWHELMING))
    moved = np.maximum(p - p / (p + (1 - p) * factor), p * factor / (p * factor + 1 - p) - p)
    unsafe: npt.NDArray[np.bool_] = (moved > _TOLERANCE).any(axis=1)
    return unsafe
