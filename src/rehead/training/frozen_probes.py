"""Many classifiers on the same features: of each fold, and of ever more examples. Costs one trunk pass, or none.

They are probes on what the layers make of the texts as they were pretrained, or regressions on n-grams.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.data.examples import Examples, Index
from rehead.data.labels import Labels, are_right, is_multilabel, most_probable, strata
from rehead.data.splits import Split, folds
from rehead.evaluation import baselines, likelihood
from rehead.models import loading
from rehead.models.heads import Head, build
from rehead.models.model_inputs import encode_inputs
from rehead.models.ngrams import Ngrams
from rehead.models.registry import TFIDF
from rehead.training import depth_search, probe
from rehead.training.features import store_for, trunk_pass

_FOLDS = 5
# The smallest number of examples that a curve begins with; each further one is twice as large.
_LEAST = 32
_REPEATS = 3
# Errors are counted on this number of the examples that were not learned from.
_TESTED = 1000
# Against division by zero.
_LEAST_LENGTH = 1e-9


@dataclass(frozen=True)
class Frozen(ABC):
    """Features of n examples that hang on no label.

    Attributes:
        labels: (n,) class ids, or (n, n_classes) where a text may have several.
        n_classes: of them.
    """

    labels: Labels
    n_classes: int

    @abstractmethod
    def tested(self, split: Split) -> npt.NDArray[np.float64]:
        """Return (n_test, n_classes) probabilities of the split's test examples."""

    @abstractmethod
    def similarities(self) -> npt.NDArray[np.float64]:
        """Return (n - 1,) how similar each example is to the last one: the cosine of their features."""

    @property
    def multilabel(self) -> bool:
        return is_multilabel(self.labels)

    def out_of_fold(self, seed: int, groups: Index) -> npt.NDArray[np.float64]:
        """Return (n, n_classes) probabilities of each example by a probe that has not learned from it or its group."""
        splits = folds(strata(self.labels), _FOLDS, seed, groups)
        result = np.empty((len(self.labels), self.n_classes))
        tested = depth_search.in_threads(self.tested, splits, "probing folds")
        for split, probabilities in zip(splits, tested, strict=True):
            result[split.test] = probabilities
        return result

    def errors_by_size(self, seed: int) -> tuple[list[int], list[list[float]]]:
        """Return numbers of examples learned from, and the shares of wrong predictions with them, one a repetition."""
        n = len(self.labels)
        sizes = [_LEAST * 2**i for i in range(32) if _LEAST * 2**i <= n // 2]
        generator = np.random.default_rng(seed)
        splits = []
        for size in sizes:
            for _ in range(_REPEATS):
                order = generator.permutation(n)
                n_validation = max(2, size // 8)
                splits.append(Split(order[n_validation:size], order[:n_validation], order[size : size + _TESTED]))
        tested = depth_search.in_threads(self.tested, splits, "learning curve")
        wrong = [
            1 - float(are_right(self.labels[split.test], most_probable(probabilities, self.multilabel)).mean())
            for split, probabilities in zip(splits, tested, strict=True)
        ]
        return sizes, [wrong[i * _REPEATS : (i + 1) * _REPEATS] for i in range(len(sizes))]


@dataclass(frozen=True)
class FrozenLayers(Frozen):
    """Features from the layers as they were pretrained.

    Attributes:
        head: its projection, where it has one, is part of what is pretrained.
        pooled: (n, width) float32.
    """

    head: Head
    pooled: Tensor

    def tested(self, split: Split) -> npt.NDArray[np.float64]:
        rows = np.concatenate([split.train, split.validation])
        pooled = self.pooled[torch.from_numpy(rows)]
        solved = depth_search.solve_head(self.head, pooled, self.labels[rows], len(split.train), probe.RANKED, None)
        seen_by_linear = self.head.seen_by_linear(self.pooled[torch.from_numpy(split.test)])
        return likelihood.probabilities(seen_by_linear @ solved.weight.T + solved.bias, self.multilabel)

    def similarities(self) -> npt.NDArray[np.float64]:
        pooled = self.pooled.numpy()
        # A few directions of enormous variance would decide alone.
        mean, scale = pooled[:-1].mean(0), pooled[:-1].std(0) + _LEAST_LENGTH
        scaled = (pooled - mean) / scale
        lengths = np.linalg.norm(scaled[:-1], axis=1) * np.linalg.norm(scaled[-1])
        return np.asarray(scaled[:-1] @ scaled[-1] / (lengths + _LEAST_LENGTH), dtype=np.float64)


@dataclass(frozen=True)
class FrozenNgrams(Frozen):
    """Word and character n-grams; which there are, the texts that are learned from decide."""

    examples: Examples

    def tested(self, split: Split) -> npt.NDArray[np.float64]:
        learned = baselines.learn(self.examples.take(split.train), self.examples.take(split.validation))
        return learned.probabilities(self.examples.take(split.test).texts)

    def similarities(self) -> npt.NDArray[np.float64]:
        features = Ngrams.fit_transform(self.examples.texts)[1]
        squares = np.asarray(features.multiply(features).sum(1)).ravel()
        products = (features[:-1] @ features[-1].T).toarray().ravel()
        return np.asarray(products / (np.sqrt(squares[:-1] * squares[-1]) + _LEAST_LENGTH), dtype=np.float64)


def frozen_features(examples: Examples, settings: Mapping[str, Any]) -> Frozen:
    """Pass the texts through a base as it was pretrained; what the cache has is read.

    Args:
        settings: `base`, `depth`, `pool`, `max_length`, `long` and `seed` of a classifier.
    """
    if settings["base"] == TFIDF:
        return FrozenNgrams(examples.labels, len(examples.label_names), examples)
    depth, pooling, seed = settings["depth"], settings["pool"], settings["seed"]
    loaded = loading.load(settings["base"], len(examples.label_names), seed, depth)
    trunk = loaded.frozen()
    texts = encode_inputs(loaded, examples.inputs, settings["max_length"], settings["long"])
    head = build(loaded, pooling, len(examples.label_names), seed)
    features = trunk_pass(trunk, texts.ids, depths=head.reads, pooling=pooling, store=store_for(trunk))
    loaded.model.to("cpu")
    return FrozenLayers(examples.labels, len(examples.label_names), head, texts.by_text(features.seen))
