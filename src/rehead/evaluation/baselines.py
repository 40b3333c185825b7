"""Learn what a model has to beat: the most frequent label, and logistic regression on what is cheap to compute.

Of texts that is TF-IDF of words and characters, of images colours and edges (`rehead.evaluation.image_features`).

Both learn from the same training examples and are measured on the same test examples. They are saved with
the classifier, as numbers, so that any later evaluation shows them too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from rehead.data.examples import Examples
from rehead.data.labels import Labels, as_indicator, combinations
from rehead.evaluation import image_features, likelihood, sparse_regression
from rehead.evaluation.image_features import ColoursAndEdges
from rehead.models.ngram_hashes import Index
from rehead.models.ngrams import Ngrams
from rehead.runtime import progress

# From strong to weak regularisation. The search begins at `_FIRST` and goes on to either side while the validation loss
# falls: the best lay between 1 (tweets) and 300 (news), and on r8 a path that begins at 1 takes half as long again. One
# between 3 and 10 lowers the log loss of German tweets and of emotions by 0.3 and 0.6 % (five folds of the training
# examples).
_INVERSE_STRENGTHS = (1.0, 2.0, 5.0, 10.0, 30.0, 100.0, 300.0)
_FIRST = 3
# Three times the strength must lower the loss by one per cent. A few hundred examples do not separate two that are as
# good, and then the weaker regularisation is the more overconfident one. In five divisions of the training examples
# this lowers the log loss of the unseen part from 0.6186 to 0.6162 for irony and from 0.0381 to 0.0379 for messages,
# and changes that of five other sets not at all.
_EARNED = 0.01
# The log odds of a class that no training example has, where a validation example has it.
_NEVER = -27.6

# The regression on texts learns from examples with as many characters at most, and as many examples times classes; what
# it holds of them takes two gigabytes at most either way. Of 20 newsgroups, 15 million characters, all count; 380,000
# messages are enough to know words by.
_MOST_CHARACTERS, _MOST_TARGETS = 2**25, 2**24

# Features, (n, width): of texts sparse, of images dense.
Matrix = sparse.csr_matrix | npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Baselines:
    """Both baselines, learned.

    Attributes:
        majority: the most frequent label of the training examples, a class id in an array of shape (); where a text may
            have several the most frequent combination, (n_classes,) of 0 and 1.
        features: `Ngrams`, or the words of a folder from before there were any; of images `ColoursAndEdges`.
        weight: (width, n_classes) and bias: (n_classes,) of the logistic regression, or of one for each class, float32.
        strength: the inverse strength of regularisation at which they were learned; None in a folder of an earlier
            version.
    """

    majority: Labels
    features: Ngrams | Words | ColoursAndEdges
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    strength: float | None = None

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Return plain arrays, to be saved."""
        return {
            ("combination" if self.multilabel else "majority"): np.atleast_1d(self.majority),
            **self.features.tensors(),
            "weight": self.weight,
            "bias": self.bias,
            **({} if self.strength is None else {"strength": np.array([self.strength])}),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> Baselines:
        """Return what `tensors` was made of, now or in an earlier version."""
        majority = tensors["combination"] if "combination" in tensors else tensors["majority"].reshape(())
        kind: type[ColoursAndEdges] | type[Words] | type[Ngrams] = (
            ColoursAndEdges if "scale" in tensors else Words if "words" in tensors else Ngrams
        )
        strength = float(tensors["strength"][0]) if "strength" in tensors else None
        return cls(majority, kind.from_tensors(tensors), tensors["weight"], tensors["bias"], strength)

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return self.majority.ndim > 0

    def predict(self, examples: Examples) -> dict[str, Labels]:
        """Return what each says, by name: (n,) class ids, or (n, n_classes)."""
        learned = "hog" if isinstance(self.features, ColoursAndEdges) else "tfidf"
        return {"majority": self.predict_majority(len(examples)), learned: self.predict_regression(examples.inputs)}

    def predict_majority(self, n: int) -> Labels:
        """Return (n,) class ids, or (n, n_classes)."""
        return np.repeat(self.majority[None], n, axis=0)

    def predict_regression(self, inputs: Sequence[Any]) -> Labels:
        """Return (n,) class ids, or (n, n_classes)."""
        if not self.features.width:
            return self.predict_majority(len(inputs))
        logits = self.logits(inputs)
        predicted: Labels = (logits >= 0).astype(np.int64) if self.multilabel else logits.argmax(1)
        return predicted

    def probabilities(self, inputs: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Return (n, n_classes) of the logistic regression."""
        return likelihood.probabilities(self.logits(inputs), self.multilabel)

    def logits(self, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) of the logistic regression; -inf of a class that no training example has."""
        return self.logits_of(self.features.transform(inputs))

    def logits_of(self, features: Matrix) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) of the logistic regression on features (n, width) of n inputs."""
        logits: npt.NDArray[np.float32] = features @ self.weight + self.bias
        return logits.astype(np.float32, copy=False)

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


# The name of the one beside the majority class, by its key.
NAMES = {
    "tfidf": "TF-IDF of words and characters + logistic regression",
    "hog": "colours and edges + logistic regression",
}


# What the one that learns looks at, by what is classified.
LOOKS_AT = {"texts": "word and character n-grams", "images": "colours and edges"}


def said_beside(what: str, factor: float) -> str:
    """Return how it is said that the baseline of `texts` or `images` stands beside the head."""
    return f"{LOOKS_AT[what]} stand beside the head (factor {factor:.2f})"


def rivals(of_baselines: Mapping[str, Any], base: str, *, multilabel: bool) -> dict[str, str]:
    """Return what a classifier is compared with: the name of each baseline by its key, the strongest first.

    Args:
        of_baselines: anything by the baselines' keys.
        base: of the classifier; one that is a baseline itself (`tfidf`) is not its own rival.
    """
    names = {**NAMES, "majority": "most frequent labels" if multilabel else "majority class"}
    return {key: name for key, name in names.items() if key in of_baselines and key != base}


def learn(train: Examples, validation: Examples) -> Baselines:
    """Fit both; the validation log loss chooses how strongly the regression is regularised."""
    return _learn_texts(train, validation) if train.images is None else _learn_images(train, validation)


def relearn(examples: Examples, strength: float) -> Baselines:
    """Fit both once more, at the strength that was chosen, on training and validation examples together."""
    if examples.images is not None:
        return _images_at(strength, image_features.raw_features(examples.images), examples)
    some = _some_of(examples)
    ngrams, features = Ngrams.fit_transform(some.texts)
    weight, bias = _TextRegression(features, some).solve(strength)
    return Baselines(_majority(examples), ngrams, weight, bias, strength)


def out_of_fold(examples: Examples, strength: float, fold: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return the logits of each example by a regression that has learned from no label of its fold.

    Which n-grams there are, and how rare each is, is of all texts, without their labels; so the features are made once.

    Args:
        examples: all of them.
        strength: see `Baselines`.
        fold: (n,) the number of each example's fold.

    Returns:
        (n, n_classes) float32; -inf of a class that no example has, of images one that none outside the fold has.
    """
    if examples.images is not None:
        return _images_out_of_fold(examples, strength, fold)
    features = Ngrams.fit_transform(examples.texts)[1]
    return _TextRegression(features, examples).held_out(strength, fold)


def _majority(examples: Examples) -> Labels:
    """Return the most frequent label, or combination of them, by weight."""
    _, first, numbers = np.unique(combinations(examples.labels), return_index=True, return_inverse=True)
    counts = np.bincount(numbers.reshape(-1), examples.weights)
    return np.asarray(examples.labels[first[counts.argmax()]])


def _learn_images(train: Examples, validation: Examples) -> Baselines:
    raw, held_out = (image_features.raw_features(part.images or []) for part in (train, validation))

    def loss(learned: Baselines) -> float:
        assert isinstance(learned.features, ColoursAndEdges)
        logits = np.maximum(learned.logits_of(learned.features.scaled(held_out)), _NEVER)
        return float(likelihood.losses(logits, validation.labels, validation.weights).mean())

    return min((_images_at(strength, raw, train) for strength in image_features.INVERSE_STRENGTHS), key=loss)


def _images_at(strength: float, raw: npt.NDArray[np.float32], examples: Examples) -> Baselines:
    features = ColoursAndEdges.fit(raw)
    n_classes, weights = len(examples.label_names), examples.weights
    weight, bias = image_features.solve_dense(features.scaled(raw), examples.labels, n_classes, strength, weights)
    return Baselines(_majority(examples), features, weight, bias, strength)


def _images_out_of_fold(examples: Examples, strength: float, fold: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    raw = image_features.raw_features(examples.images or [])
    logits = np.zeros((len(examples), len(examples.label_names)), dtype=np.float32)
    for number in np.unique(fold):
        inside = fold == number
        learned = _images_at(strength, raw[~inside], examples.take(np.flatnonzero(~inside)))
        assert isinstance(learned.features, ColoursAndEdges)
        logits[inside] = learned.logits_of(learned.features.scaled(raw[inside]))
    return logits


def _learn_texts(train: Examples, validation: Examples) -> Baselines:
    some = _some_of(train)
    if len(some) < len(train):
        progress.say(f"{LOOKS_AT['texts']} are learned from {len(some):,} of {len(train):,} texts, drawn at random")
    ngrams, features = Ngrams.fit_transform(some.texts)
    held_out = ngrams.transform(validation.texts)
    regression, majority = _TextRegression(features, some), _majority(train)

    def at(strength: float) -> tuple[float, Baselines]:
        """Return what there is against it, the validation loss, raised with the strength; and what is learned."""
        weight, bias = regression.solve(strength)
        logits = held_out @ weight + np.clip(bias, _NEVER, -_NEVER)
        losses = likelihood.losses(logits, validation.labels, validation.weights)
        loss = float(losses.mean()) if len(validation) else 0.0
        return loss * strength**_EARNED, Baselines(majority, ngrams, weight, bias, strength)

    first = best = at(_INVERSE_STRENGTHS[_FIRST])
    for side in (_INVERSE_STRENGTHS[_FIRST + 1 :], _INVERSE_STRENGTHS[_FIRST - 1 :: -1]):
        for strength in side if best is first else ():
            tried = at(strength)
            if tried[0] >= best[0]:
                break
            best = tried
    return best[1]


def _some_of(examples: Examples) -> Examples:
    """Return the examples, or as many of them, drawn at random, as the regression has memory for."""
    order = np.random.default_rng(0).permutation(len(examples))
    characters = np.cumsum([len(examples.texts[row]) for row in order])
    n = min(int((characters <= _MOST_CHARACTERS).sum()), _MOST_TARGETS // len(examples.label_names))
    return examples if n >= len(examples) else examples.take(np.sort(order[: max(1, n)]))


class _TextRegression:
    """One regression over all classes, or one for each; a class without examples is never predicted."""

    def __init__(self, features: sparse.csr_matrix, examples: Examples) -> None:
        """Take examples and their features, (n, width)."""
        labels, self._weights = examples.labels, examples.weights
        targets, multilabel = as_indicator(labels, len(examples.label_names)), examples.multilabel
        counts = targets.sum(0)
        self._bias = np.where(counts > 0, 0.0, -np.inf).astype(np.float32)
        self._columns = np.flatnonzero(counts)
        if multilabel:
            self._bias[counts == len(labels)] = np.inf
            self._columns = np.flatnonzero((counts > 0) & (counts < len(labels)))
        elif len(self._columns) <= 2:
            self._columns = self._columns[1:]  # two classes are one regression, the log odds of the second
        self._apart = multilabel or len(self._columns) == 1
        self._features, self._targets = features, targets[:, self._columns]
        self._regression: sparse_regression.Regression | None = None

    @property
    def _has_something_to_learn(self) -> bool:
        return len(self._columns) > 0 and self._features.shape[1] > 0

    def solve(self, strength: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return weights (width, n_classes) and biases (n_classes,), sooner where another strength came before."""
        weight, bias = np.zeros((self._features.shape[1], len(self._bias)), dtype=np.float32), self._bias.copy()
        if self._has_something_to_learn:
            if self._regression is None:
                self._regression = sparse_regression.Regression(
                    self._features, self._targets, multilabel=self._apart, weights=self._weights
                )
            weight[:, self._columns], bias[self._columns] = self._regression.solve(strength)
        return weight, bias

    def held_out(self, strength: float, fold: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the logits (n, n_classes) of each example by the regression on all other folds."""
        logits = np.repeat(self._bias[None], self._features.shape[0], axis=0)
        if self._has_something_to_learn:
            logits[:, self._columns] = sparse_regression.held_out(
                self._features, self._targets, fold, strength, multilabel=self._apart, weights=self._weights
            )
        return logits
