"""Turn texts or images into probabilities with a trained classifier, wherever something is predicted.

The scores are those of the plain Transformers model in float32. Of many texts at once, where bfloat16 is native, most
are scored in that, in a fraction of the time, and those that its rounding could matter to again in float32: on a
sample it is measured how far bfloat16 moves the log odds of each class, and a text counts as safe only if three
standard deviations of that, or more where few were looked at, could move none of its probabilities by more than a
hundredth, and so not its label either. In int8, in which a fit's trunk pass may be, most texts would not be safe.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.evaluation import likelihood
from rehead.models.backbone import Backbone
from rehead.models.forward_pass import pooled_features
from rehead.models.heads import Head, finite
from rehead.models.model_inputs import encode_inputs
from rehead.models.sequences import offsets_of
from rehead.models.tokenization import Encoded
from rehead.runtime import hardware, progress
from rehead.runtime.errors import ArtifactError, SettingError

if TYPE_CHECKING:
    from rehead.data.images import ImageInput
    from rehead.evaluation.baselines import Baselines

# Texts are encoded and scored this many at a time, so that memory does not grow with their number.
_CHUNK = 8192
# Fewer texts are all scored in float32: the copy of the weights and the sample would cost more than they save.
_WORTHWHILE = 256
# On this many texts of the first portion it is measured how far bfloat16 moves the log odds.
_SAMPLE = 16
# In a server, which is asked for long, on this many.
_SAMPLE_OF_A_SERVER = 64
# How many standard deviations of what was measured are looked out for, and how sure it is to be that the true one is no
# larger than was taken.
_DEVIATIONS, _CONFIDENCE = 3.0, 0.95
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
        flops: operations in the layers; identical texts pass once.
        features: (m, width) float32, what the head saw of the inputs that this was asked of; None where of none.
        beside: (n, n_classes) float32, what was added to the head's logits; None where nothing stands beside it.
    """

    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]
    flops: float
    features: npt.NDArray[np.float32] | None = None
    beside: npt.NDArray[np.float32] | None = None


class Scoring(Protocol):
    """What scores texts or images: a `Predictor`, or whatever asks one."""

    def scores(self, inputs: Sequence[str] | Sequence[ImageInput], /) -> Scores: ...


class Predictor:
    """Scores texts or images with one backbone and head, as often as it is asked, by several threads if need be.

    Args:
        beside: the baseline that stands beside the head, and what its logits are multiplied by; None where none does.
        max_length, long: of texts; see `rehead.models.tokenization.encode`.
        multilabel: whether a text may have several labels, so that probabilities do not add up to 1.
        views: of an image, how many are averaged.
        steady: whether it will be asked again and again: copied weights then pay for few texts too.
        serving: whether that is in a server, where a larger sample and a copy of the weights are worth their while.
        label: what the progress bar says; None for no bar.

    Attributes:
        backbone: what scores in float32.
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head,
        max_length: int,
        long: str = "truncate",
        *,
        beside: tuple[Baselines, float] | None = None,
        multilabel: bool = False,
        views: int = 1,
        steady: bool = False,
        serving: bool = False,
        label: str | None = "predicting",
    ) -> None:
        head.eval()
        # Of a backbone for texts that is itself; of a vision model a copy for inference.
        self.backbone = backbone.with_products_in(torch.float32)
        self._head, self._max_length, self._long = head, max_length, long
        self._multilabel, self._views, self._label, self._beside = multilabel, views, label, beside
        self._flops_a_token = self.backbone.flops_a_token(0, head.reads[-1])
        self._steady = steady or serving
        self._fast: Backbone | None = None
        if serving:
            self._fast = self._frozen()
            in_float32 = self._fast.products_in == torch.float32
            self.backbone = self._fast if in_float32 else self.backbone.frozen_in(torch.float32)
        self._drift = _Drift(head.linear.out_features, multilabel, _SAMPLE_OF_A_SERVER if serving else _SAMPLE)
        self._preparing = threading.Lock()

    def _frozen(self) -> Backbone:
        """Return what scores many texts: a copy that costs more than it saves where there are few."""
        return self.backbone.frozen_in(hardware.native_dtype())

    def scores(
        self, inputs: Sequence[str] | Sequence[ImageInput], *, keep_features: bool | npt.NDArray[np.int64] = False
    ) -> Scores:
        """Score n texts, or images; an empty text is scored as the padding token alone.

        Args:
            keep_features: whether to return what the head saw: of all inputs, or of those with these numbers.
        """
        kept = np.zeros(len(inputs), dtype=np.bool_)
        kept[keep_features] = True
        probabilities = np.empty((len(inputs), self._head.linear.out_features))
        beside = np.zeros_like(probabilities, dtype=np.float32)
        tokens_cut = np.zeros(len(inputs), dtype=np.int64)
        flops, features = 0.0, []
        for start in range(0, len(inputs), _CHUNK):
            part = slice(start, start + _CHUNK)
            views = [range(self._views)] * len(inputs[part])
            encoded = encode_inputs(self.backbone, inputs[part], self._max_length, self._long, views)
            if self._beside:  # of a class that it has never seen it says little
                beside[part] = np.float32(self._beside[1]) * finite(self._beside[0].logits(inputs[part]))
            passed = self._passed(encoded, beside[part])
            probabilities[part] = likelihood.probabilities(passed.logits, self._multilabel)
            tokens_cut[part] = encoded.tokens_cut
            flops += passed.flops
            if kept.any():
                features.append(passed.pooled.numpy()[kept[part]])
        _require_numbers(probabilities)
        seen = np.concatenate(features) if features else None
        return Scores(probabilities, tokens_cut, flops, seen, beside if self._beside else None)

    def _passed(self, texts: Encoded, beside: npt.NDArray[np.float32]) -> _Passed:
        """Pass in the machine's fastest type, and in float32 where its rounding could matter."""
        if not self._steady and len(texts.windows) < _WORTHWHILE:
            return self._pass(self.backbone, texts, beside)
        with self._preparing:
            if self._fast is None:
                self._fast = self._frozen()
        passed = self._pass(self._fast, texts, beside)
        if self._fast.products_in == torch.float32:
            return passed
        with self._preparing:
            if self._drift.missing:
                passed.flops += self._measure(texts, passed.logits, beside)
            error = self._drift.bound
        probabilities = likelihood.probabilities(passed.logits, self._multilabel)
        again = torch.from_numpy(np.flatnonzero(_is_unsafe(probabilities, error)))
        if len(again):
            exact = self._pass(self.backbone, texts.take(again), beside[again.numpy()])
            passed.logits[again.numpy()] = exact.logits
            passed.pooled[again] = exact.pooled
            passed.flops += exact.flops
        return passed

    def _measure(self, texts: Encoded, logits: npt.NDArray[np.float32], beside: npt.NDArray[np.float32]) -> float:
        """Compare with float32 on new texts of all lengths; return the operations that it took."""
        new = self._drift.unseen(texts)
        by_length = new[torch.argsort(texts.tokens[new], stable=True)]
        if not len(by_length):
            return 0.0
        n = min(self._drift.missing, len(by_length))
        rows = by_length[torch.linspace(0, len(by_length) - 1, n).long()]
        exact = self._pass(self.backbone, texts.take(rows), beside[rows.numpy()])
        self._drift.see(texts.take(rows), logits[rows.numpy()], exact.logits)
        return exact.flops

    def _pass(self, backbone: Backbone, texts: Encoded, beside: npt.NDArray[np.float32]) -> _Passed:
        head = self._head
        seen, tokens = pooled_features(backbone, texts.ids, depths=head.reads, pooling=head.pooling, label=self._label)
        pooled = texts.by_text(seen)
        with torch.inference_mode():
            logits = head.to(hardware.device())(pooled.to(hardware.device())).cpu().numpy()
        return _Passed(logits + beside, pooled, self._flops_a_token * tokens)


class NgramPredictor:
    """Scores texts with a regression on n-grams; any number of threads may ask it at once.

    Args:
        regression: on `Ngrams`.
        temperature: that its logits are divided by.
        label: what the progress bar says; None for no bar.
    """

    def __init__(self, regression: Baselines, temperature: float, label: str | None = "predicting") -> None:
        self._regression, self._temperature, self._label = regression, temperature, label

    def scores(
        self, inputs: Sequence[str] | Sequence[ImageInput], *, keep_features: bool | npt.NDArray[np.int64] = False
    ) -> Scores:
        """Score n texts, whole; a text without a known n-gram has the shares of the classes.

        Args:
            keep_features: whether to return sketches of the features: of all texts, or of those with these numbers.

        Raises:
            SettingError: these are images.
        """
        texts = [each for each in inputs if isinstance(each, str)]
        if len(texts) < len(inputs):
            raise SettingError("this classifier counts the words of texts, and these are images")
        from rehead.models.ngrams import SKETCH_WIDTH, Ngrams

        ngrams = self._regression.features
        assert isinstance(ngrams, Ngrams)
        kept = np.zeros(len(texts), dtype=np.bool_)
        kept[keep_features] = True
        probabilities = np.empty((len(texts), len(self._regression.bias)))
        sketches = [np.zeros((0, SKETCH_WIDTH), dtype=np.float32)]
        with progress.bar(self._label, len(texts)) as advance:
            for start in range(0, len(texts), _CHUNK):
                part = slice(start, start + _CHUNK)
                features = ngrams.transform(texts[part])
                logits = finite(self._regression.logits_of(features)) / self._temperature
                probabilities[part] = likelihood.probabilities(logits, self._regression.multilabel)
                sketches.append(ngrams.sketch(features[kept[part]]))
                advance(len(texts[part]))
        _require_numbers(probabilities)
        nothing_cut = np.zeros(len(texts), dtype=np.int64)
        return Scores(probabilities, nothing_cut, 0.0, np.concatenate(sketches) if kept.any() else None)


class _Drift:
    """How far bfloat16 moves the log odds of each class, measured on the first `wanted` texts that differ."""

    def __init__(self, n_classes: int, multilabel: bool, wanted: int) -> None:
        self._multilabel, self._wanted = multilabel, wanted
        self._seen: set[bytes] = set()
        self._squares = np.zeros(n_classes)

    @property
    def missing(self) -> int:
        """How many texts are still to be looked at."""
        return max(0, self._wanted - len(self._seen))

    def unseen(self, texts: Encoded) -> Tensor:
        """Return (n,) int64: which of the texts were not looked at, each once."""
        first = {digest: row for row, digest in reversed(list(enumerate(_digests(texts))))}
        return torch.tensor(sorted(row for digest, row in first.items() if digest not in self._seen), dtype=torch.int64)

    def see(self, texts: Encoded, rounded: npt.NDArray[np.float32], exact: npt.NDArray[np.float32]) -> None:
        """Look at further texts and their logits, (n, n_classes) each."""
        before, after = (likelihood.log_odds(logits, self._multilabel) for logits in (exact, rounded))
        self._seen.update(_digests(texts))
        self._squares += np.square(after - before).sum(0)

    @property
    def bound(self) -> npt.NDArray[np.float64]:
        """(n_classes,) how far it may move those of others; without limit as long as too few were looked at."""
        n = len(self._seen)
        if n < _SAMPLE:
            return np.full_like(self._squares, np.inf)
        from scipy.special import chdtri  # takes longer to import than a few texts to score

        # The upper end of the confidence interval of a standard deviation.
        return _DEVIATIONS * np.sqrt(self._squares / chdtri(n, _CONFIDENCE))


def _require_numbers(probabilities: npt.NDArray[np.float64]) -> None:
    if len(rows := np.flatnonzero(~np.isfinite(probabilities).all(axis=1))):
        raise ArtifactError(
            f"the classifier gives no probabilities (NaN) for {len(rows):,} of {len(probabilities):,} inputs, first "
            f"for no. {rows[0] + 1}: its weights or its configuration are damaged; train or copy the model again"
        )


def _digests(texts: Encoded) -> list[bytes]:
    """Return what each text is known by; of one in several windows that of its first."""
    first = offsets_of(texts.windows)[:-1]
    return [digest.tobytes() for digest in texts.ids.digests()[first.numpy()]]


@dataclass
class _Passed:
    """What a pass made of n texts.

    Attributes:
        logits: (n, n_classes) float32.
        pooled: (n, width) float32.
        flops: operations in the layers.
    """

    logits: npt.NDArray[np.float32]
    pooled: Tensor
    flops: float


def _is_unsafe(p: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return (n,): where log odds that move by `error`, (n_classes,), could move one of the probabilities
    (n, n_classes) by more than the tolerance.
    """
    factor = np.exp(np.minimum(error, _OVERWHELMING))
    moved = np.maximum(p - p / (p + (1 - p) * factor), p * factor / (p * factor + 1 - p) - p)
    unsafe: npt.NDArray[np.bool_] = moved.max(axis=1) > _TOLERANCE
    return unsafe
