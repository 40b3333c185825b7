"""Learn what a model has to beat: the most frequent label, and logistic regression on TF-IDF of words and characters.

Both learn from the same training examples and are measured on the same test examples. They are saved with
the classifier, as numbers, so that any later evaluation shows them too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rehead import likelihood
from rehead.bases.ngram_hashes import Index
from rehead.bases.ngrams import Ngrams
from rehead.data.examples import Examples
from rehead.data.labels import Labels, as_indicator, combinations, is_multilabel
from rehead.evaluation import image_baseline, sparse_regression
from rehead.evaluation.image_baseline import ImageBaselines

# From strong to weak regularisation. The best lay between 3 (tweets) and 300 (news); the path ends where
# the validation loss rises.
_INVERSE_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# The log odds of a class that no training example has, where a validation example has it.
_NEVER = -27.6


class Features(Protocol):
    """What texts are turned into."""

    @property
    def width(self) -> int: ...

    def transform(self, texts: Sequence[str]) -> sparse.csr_matrix: ...

    def tensors(self) -> dict[str, npt.NDArray[Any]]: ...


@dataclass(frozen=True, eq=False)
class Baselines:
    """Both baselines, learned.

    Attributes:
        majority: the most frequent label of the training examples, a class id in an array of shape (); where a text may
            have several the most frequent combination, (n_classes,) of 0 and 1.
        features: `Ngrams`, or the words of a folder from before there were any.
        weight: (width, n_classes) and bias: (n_classes,) of the logistic regression, or of one for each class, float32.
    """

    majority: Labels
    features: Features
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays, to be saved."""
        return {
            ("combination" if self.multilabel else "majority"): np.atleast_1d(self.majority),
            **self.features.tensors(),
            "weight": self.weight,
            "bias": self.bias,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> Baselines:
        """Return what `tensors` was made of, now or in an earlier version."""
        majority = tensors["combination"] if "combination" in tensors else tensors["majority"].reshape(())
        features: Features = Words.from_tensors(tensors) if "words" in tensors else Ngrams.from_tensors(tensors)
        return cls(majority, features, tensors["weight"], tensors["bias"])

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return self.majority.ndim > 0

    def predict_majority(self, texts: Sequence[str]) -> Labels:
        """Return (n,) class ids, or (n, n_classes)."""
        return np.repeat(self.majority[None], len(texts), axis=0)

    def predict_tfidf(self, texts: Sequence[str]) -> Labels:
        """Return (n,) class ids, or (n, n_classes)."""
        if not self.features.width:
            return self.predict_majority(texts)
        logits = self.logits(texts)
        predicted: Labels = (logits >= 0).astype(np.int64) if self.multilabel else logits.argmax(1)
        return predicted

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return (n, n_classes) of the logistic regression."""
        return likelihood.probabilities(self.logits(texts), self.multilabel)

    def logits(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) of the logistic regression; -inf of a class that no training example has."""
        logits: npt.NDArray[np.float32] = self.features.transform(texts) @ self.weight + self.bias
        return logits

    def contributions(self, text: str) -> tuple[Index, npt.NDArray[np.float32]]:
        """Return what each word adds to the logits: its n-grams and half of each pair that it is in.

        With the bias they add up to the logits, so this is what the regression computes and no approximation of it.

        Returns:
            (m, 2) int64, where each word begins and ends in the text, and (m, n_classes).

        Raises:
            ValueError: it was learned by an earlier version, whose words are not taken apart.
        """
        if not isinstance(self.features, Ngrams):
            raise ValueError("this classifier's baseline is an earlier version's; fit again to see its words' weights")
        spans, shares = self.features.shares(text)
        return spans, shares @ self.weight

    def predict(self, examples: Examples) -> dict[str, Labels]:
        """Return what each says, by name: (n,) class ids, or (n, n_classes)."""
        return {"majority": self.predict_majority(examples.texts), "tfidf": self.predict_tfidf(examples.texts)}


@dataclass(frozen=True, eq=False)
class Words:
    """The features of folders from before there were `Ngrams`: words of two letters and more, and their pairs.

    Attributes:
        vocabulary: words and pairs, in the order of the columns.
        idf: (width,) float32.
    """

    vocabulary: list[str]
    idf: npt.NDArray[np.float32]

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.vocabulary)

    def transform(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return (n, width) float32, sublinear term frequencies times `idf` in rows of length 1."""
        place = {term: i for i, term in enumerate(self.vocabulary)}
        columns: list[int] = []
        values: list[float] = []
        ends = [0]
        for text in texts:
            words = re.findall(r"\b\w\w+\b", text.lower())
            counts = Counter([*words, *map(" ".join, pairwise(words))])
            known = [(place[term], count) for term, count in counts.items() if term in place]
            row = [(1 + np.log(count)) * self.idf[column] for column, count in known]
            length = float(np.linalg.norm(row)) or 1.0
            columns += [column for column, _ in known]
            values += [value / length for value in row]
            ends.append(len(columns))
        content = (np.array(values, dtype=np.float32), np.array(columns, dtype=np.int32), np.array(ends))
        return sparse.csr_matrix(content, shape=(len(texts), self.width))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays; the vocabulary as UTF-8 JSON."""
        return {"words": np.frombuffer(json.dumps(self.vocabulary).encode(), dtype=np.uint8), "idf": self.idf}

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> Words:
        """Return what `tensors` was made of."""
        return cls(json.loads(tensors["words"].tobytes().decode()), tensors["idf"])


# What the one beside the majority class is called, by its key.
NAMES = {
    "tfidf": "TF-IDF of words and characters + logistic regression",
    "hog": "colours and edges + logistic regression",
}


# What the one that learns looks at, by what is classified.
LOOKS_AT = {"texts": "word and character n-grams", "images": "colours and edges"}


def said_beside(what: str, factor: float) -> str:
    """Return how it is said that the baseline of `texts` or `images` stands beside the head."""
    return f"{LOOKS_AT[what]} stand beside the head (factor {factor:.2f})"


def cheap_one(of_baselines: Mapping[str, Any]) -> str:
    """Return the key of the baseline that learns."""
    return next(key for key in NAMES if key in of_baselines)


def from_tensors(tensors: dict[str, npt.NDArray[Any]]) -> Baselines | ImageBaselines:
    """Return what `tensors` of either kind has made."""
    return ImageBaselines.from_tensors(tensors) if "scale" in tensors else Baselines.from_tensors(tensors)


def learn(train: Examples, validation: Examples) -> Baselines | ImageBaselines:
    """Fit those for texts or for images; the validation log loss chooses how strongly they are regularised."""
    if train.pictures is not None:
        return image_baseline.learn(train, validation)
    return _learn_texts(train, validation)


def _learn_texts(train: Examples, validation: Examples) -> Baselines:
    _, first, counts = np.unique(combinations(train.labels), return_index=True, return_counts=True)
    majority = np.asarray(train.labels[first[counts.argmax()]])
    ngrams, features = Ngrams.fit_transform(train.texts)
    held_out = ngrams.transform(validation.texts)
    best: _Fitted | None = None
    for fitted in _path(features, train.labels, len(train.label_names)):
        logits = held_out @ fitted.weight + np.clip(fitted.bias, _NEVER, -_NEVER)
        loss = float(likelihood.losses(logits, validation.labels).mean()) if len(validation) else 0.0
        if best is not None and loss >= best.loss:
            break
        best = fitted._replace(loss=loss)
    assert best is not None
    return Baselines(majority, ngrams, best.weight, best.bias)


class _Fitted(NamedTuple):
    """Weights (width, n_classes), biases (n_classes,) and the mean log loss of the validation examples."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    loss: float = np.inf


def _path(features: sparse.csr_matrix, labels: Labels, n_classes: int) -> Iterator[_Fitted]:
    """Yield one regression, or one for each class, at each strength; a class without examples is never predicted."""
    targets, multilabel = as_indicator(labels, n_classes), is_multilabel(labels)
    counts = targets.sum(0)
    weight = np.zeros((features.shape[1], n_classes), dtype=np.float32)
    bias = np.where(counts > 0, 0.0, -np.inf).astype(np.float32)
    columns = np.flatnonzero(counts)
    if multilabel:
        bias[counts == len(labels)] = np.inf
        columns = np.flatnonzero((counts > 0) & (counts < len(labels)))
    elif len(columns) <= 2:
        columns = columns[1:]  # two classes are one regression, the log odds of the second
    if not len(columns) or not features.shape[1]:
        yield _Fitted(weight, bias)
        return
    apart = multilabel or len(columns) == 1
    for found in sparse_regression.solutions(features, targets[:, columns], _INVERSE_STRENGTHS, multilabel=apart):
        weight, bias = weight.copy(), bias.copy()
        weight[:, columns], bias[columns] = found.weight, found.bias
        yield _Fitted(weight, bias)
