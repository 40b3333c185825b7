"""What a language model has to beat: the majority class, and TF-IDF with logistic regression.

Both learn from the same training examples and are measured on the same test examples. They are saved with
the classifier, as numbers and words, so that any later evaluation shows them too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from rehead.data.examples import Examples, Index

# Weak regularisation suits sparse features; validation chooses among these.
_INVERSE_STRENGTHS = (1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Baselines:
    """Both baselines, learned.

    Attributes:
        majority: id of the most frequent training class.
        vocabulary: the words and word pairs, in the order of `idf`.
        idf: (n_terms,) inverse document frequencies.
        weight: (n_terms, n_classes) and bias: (n_classes,) of the logistic regression.
    """

    majority: int
    vocabulary: list[str]
    idf: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays, to be saved; the vocabulary as UTF-8 JSON."""
        words = np.frombuffer(json.dumps(self.vocabulary).encode(), dtype=np.uint8)
        majority = np.array([self.majority], dtype=np.int64)
        return {
            "majority": majority,
            "words": words,
            "idf": self.idf,
            "weight": self.weight,
            "bias": self.bias,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, npt.NDArray[Any]]) -> Baselines:
        words = json.loads(tensors["words"].tobytes().decode())
        return cls(int(tensors["majority"][0]), words, tensors["idf"], tensors["weight"], tensors["bias"])

    def predict_tfidf(self, texts: list[str]) -> Index:
        """(n,) class ids."""
        if not self.vocabulary:
            return np.full(len(texts), self.majority, dtype=np.int64)
        vectorizer = _vectorizer(vocabulary=self.vocabulary)
        vectorizer.idf_ = self.idf
        predicted: Index = (vectorizer.transform(texts) @ self.weight + self.bias).argmax(1)
        return predicted

    def predict(self, texts: list[str]) -> dict[str, Index]:
        """What each says: (n,) class ids by name."""
        return {
            "majority": np.full(len(texts), self.majority, dtype=np.int64),
            "tfidf": self.predict_tfidf(texts),
        }


def learn(train: Examples, validation: Examples) -> Baselines:
    """Fits both; the validation log loss chooses how strongly TF-IDF's regression is regularised."""
    n_classes = len(train.label_names)
    majority = int(np.bincount(train.labels, minlength=n_classes).argmax())
    vectorizer = _vectorizer(vocabulary=None)
    try:
        features = vectorizer.fit_transform(train.texts)
    except ValueError:  # no text has a word of two letters
        nothing = np.zeros((0, n_classes), dtype=np.float32)
        return Baselines(majority, [], nothing[:, 0], nothing, np.zeros(n_classes, dtype=np.float32))
    held_out = vectorizer.transform(validation.texts)
    best: tuple[float, LogisticRegression] | None = None
    for inverse_strength in _INVERSE_STRENGTHS:
        model = LogisticRegression(C=inverse_strength, max_iter=1000).fit(features, train.labels)
        # A class may be missing from training; its probability is 0 there.
        probabilities = np.full((len(validation), n_classes), 1e-12)
        probabilities[:, model.classes_] = model.predict_proba(held_out)
        probabilities /= probabilities.sum(1, keepdims=True)
        loss = log_loss(validation.labels, probabilities, labels=list(range(n_classes)))
        if best is None or loss < best[0]:
            best = (loss, model)
    assert best is not None
    weight, bias = _one_column_a_class(best[1], n_classes)
    return Baselines(
        majority,
        vectorizer.get_feature_names_out().tolist(),
        vectorizer.idf_.astype(np.float32),
        weight,
        bias,
    )


def _vectorizer(vocabulary: list[str] | None) -> TfidfVectorizer:
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
