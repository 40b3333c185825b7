"""What a language model has to beat: the most frequent label, and TF-IDF with logistic regression.

Both learn from the same training examples and are measured on the same test examples. They are saved with
the classifier, as numbers and words, so that any later evaluation shows them too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rehead import likelihood
from rehead.data.examples import Examples
from rehead.data.labels import Labels, combinations, is_multilabel, of_class
from rehead.evaluation import image_baseline
from rehead.evaluation.image_baseline import ImageBaselines

if TYPE_CHECKING:
    # When it is used: predicting needs none of it, and it takes a second to import.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

# Weak regularisation suits sparse features; validation chooses among these.
_INVERSE_STRENGTHS = (1.0, 10.0, 100.0)
# The log odds of a class that no training example has, where a validation example has it.
_NEVER = -27.6


@dataclass(frozen=True)
class Baselines:
    """Both baselines, learned.

    Attributes:
        majority: the most frequent label of the training examples, a class id in an array of shape (); where a text may
            have several the most frequent combination, (n_classes,) of 0 and 1.
        vocabulary: the words and word pairs, in the order of `idf`.
        idf: (n_terms,) inverse document frequencies.
        weight: (n_terms, n_classes) and bias: (n_classes,) of the logistic regression, or of one for each class.
    """

    majority: Labels
    vocabulary: list[str]
    idf: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays, to be saved; the vocabulary as UTF-8 JSON."""
        words = np.frombuffer(json.dumps(self.vocabulary).encode(), dtype=np.uint8)
        return {
            ("combination" if self.multilabel else "majority"): np.atleast_1d(self.majority),
            "words": words,
            "idf": self.idf,
            "weight": self.weight,
            "bias": self.bias,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> Baselines:
        words = json.loads(tensors["words"].tobytes().decode())
        majority = tensors["combination"] if "combination" in tensors else tensors["majority"].reshape(())
        return cls(majority, words, *(tensors[name] for name in _REGRESSION))

    @property
    def multilabel(self) -> bool:
        return self.majority.ndim > 0

    def predict_majority(self, texts: list[str]) -> Labels:
        """(n,) class ids, or (n, n_classes)."""
        return np.repeat(self.majority[None], len(texts), axis=0)

    def predict_tfidf(self, texts: list[str]) -> Labels:
        """(n,) class ids, or (n, n_classes)."""
        if not self.vocabulary:
            return self.predict_majority(texts)
        logits = self._logits(texts)
        predicted: Labels = (logits >= 0).astype(np.int64) if self.multilabel else logits.argmax(1)
        return predicted

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """(n, n_classes) of the logistic regression."""
        if not self.vocabulary:
            return likelihood.probabilities(np.tile(self.bias, (len(texts), 1)), self.multilabel)
        return likelihood.probabilities(self._logits(texts), self.multilabel)

    def _logits(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        vectorizer = _vectorizer(vocabulary=self.vocabulary)
        vectorizer.idf_ = self.idf
        logits: npt.NDArray[np.float32] = vectorizer.transform(texts) @ self.weight + self.bias
        return logits

    def predict(self, examples: Examples) -> dict[str, Labels]:
        """What each says, by name: (n,) class ids, or (n, n_classes)."""
        return {"majority": self.predict_majority(examples.texts), "tfidf": self.predict_tfidf(examples.texts)}


_REGRESSION = ("idf", "weight", "bias")
# What the one beside the majority class is called, by its key.
NAMES = {"tfidf": "TF-IDF + logistic regression", "hog": "colours and edges + logistic regression"}


def cheap_one(of_baselines: Mapping[str, Any]) -> str:
    """The key of the baseline that learns."""
    return next(key for key in NAMES if key in of_baselines)


def from_tensors(tensors: dict[str, npt.NDArray[Any]]) -> Baselines | ImageBaselines:
    """What `tensors` of either kind has made."""
    return Baselines.from_tensors(tensors) if "words" in tensors else ImageBaselines.from_tensors(tensors)


def learn(train: Examples, validation: Examples) -> Baselines | ImageBaselines:
    """Fits those for texts or for images; the validation log loss chooses how strongly they are regularised."""
    if train.pictures is not None:
        return image_baseline.learn(train, validation)
    return _learn_texts(train, validation)


def _learn_texts(train: Examples, validation: Examples) -> Baselines:
    n_classes = len(train.label_names)
    _, first, counts = np.unique(combinations(train.labels), return_index=True, return_counts=True)
    majority = np.asarray(train.labels[first[counts.argmax()]])
    vectorizer = _vectorizer(vocabulary=None)
    try:
        features = vectorizer.fit_transform(train.texts)
    except ValueError:  # no text has a word of two letters
        nothing = np.zeros((0, n_classes), dtype=np.float32)
        return Baselines(majority, [], nothing[:, 0], nothing, np.zeros(n_classes, dtype=np.float32))
    held_out = vectorizer.transform(validation.texts)
    best: tuple[float, npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None
    for inverse_strength in _INVERSE_STRENGTHS:
        weight, bias = _regression(features, train.labels, n_classes, inverse_strength)
        loss = float(likelihood.losses(held_out @ weight + np.maximum(bias, _NEVER), validation.labels).mean())
        if best is None or loss < best[0]:
            best = (loss, weight, bias)
    assert best is not None
    return Baselines(
        majority, vectorizer.get_feature_names_out().tolist(), vectorizer.idf_.astype(np.float32), best[1], best[2]
    )


def _regression(
    features: Any, labels: Labels, n_classes: int, inverse_strength: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(n_terms, n_classes) weights and (n_classes,) biases, of one regression or of one for each class."""
    from sklearn.linear_model import LogisticRegression

    if not is_multilabel(labels):
        model = LogisticRegression(C=inverse_strength, max_iter=1000).fit(features, labels)
        return _one_column_a_class(model, n_classes)
    weight = np.zeros((features.shape[1], n_classes), dtype=np.float32)
    bias = np.zeros(n_classes, dtype=np.float32)
    for label in range(n_classes):
        is_label = of_class(labels, label)
        if is_label.all() or not is_label.any():
            bias[label] = np.inf if is_label.all() else -np.inf
            continue
        model = LogisticRegression(C=inverse_strength, max_iter=1000).fit(features, is_label)
        weight[:, label], bias[label] = model.coef_[0], model.intercept_[0]
    return weight, bias


def _vectorizer(vocabulary: list[str] | None) -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, vocabulary=vocabulary, dtype=np.float32)


def _one_column_a_class(
    model: LogisticRegression, n_classes: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """scikit-learn keeps one row for two classes and none for a class that it has not seen."""
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.array([0.0, intercepts[0]])
    weight = np.zeros((coefficients.shape[1], n_classes), dtype=np.float32)
    bias = np.full(n_classes, -np.inf, dtype=np.float32)
    weight[:, model.classes_] = coefficients.T
    bias[model.classes_] = intercepts
    return weight, bias
