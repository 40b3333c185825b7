"""Features of a text that give its label away by themselves: an address, a number, a single word.

A classifier that learns such a shortcut looks perfect on data gathered in the same way and fails elsewhere (Geirhos et
al., Nature Machine Intelligence 2, 2020).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, hstack
from sklearn.feature_extraction.text import CountVectorizer

from rehead.data.examples import Index
from rehead.data.labels import Labels, as_indicator

_PATTERNS = {
    "a web address": re.compile(r"https?://|\bwww\.\w", re.IGNORECASE),
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w"),
    "a phone number": re.compile(r"(?<!\d)\+?\d[\d ()/-]{6,}\d(?!\d)"),
}
# The share of the texts with a feature that have the label, and of those with the label that have the feature.
_PURE, _FAR_REACHING = 0.95, 0.3
# From here on the feature nearly is the label.
_GIVES_AWAY = 0.8
# A feature of fewer texts proves nothing.
_LEAST = 20
# Words are the largest number of features; these are the most frequent ones.
_WORDS = 20_000
_LISTED_WORDS = 3


@dataclass(frozen=True)
class Shortcut:
    """A feature that gives a label away.

    Attributes:
        feature: in words.
        label: class id.
        rows: positions of the texts that have it.
        purity: share of these that have the label.
        reach: share of the label's texts that have the feature.
    """

    feature: str
    label: int
    rows: Index
    purity: float
    reach: float

    @property
    def gives_away(self) -> bool:
        return self.reach >= _GIVES_AWAY


def shortcuts(texts: list[str], labels: Labels, n_classes: int) -> list[Shortcut]:
    """Return patterns and words that predict a label far better than its frequency, the farthest-reaching first."""
    targets = as_indicator(labels, n_classes)
    names, occurs = [], []
    for feature, pattern in _PATTERNS.items():
        names.append(feature)
        occurs.append(csc_array(np.array([[pattern.search(text) is not None] for text in texts], dtype=np.int64)))
    patterns = _revealing(names, hstack(occurs, format="csc"), targets)
    vectorizer = CountVectorizer(binary=True, max_features=_WORDS, min_df=_LEAST)
    try:
        words = csc_array(vectorizer.fit_transform(texts))
    except ValueError:  # no word is in twenty texts
        return patterns
    words_found = _revealing([f"the word {word!r}" for word in vectorizer.get_feature_names_out()], words, targets)
    return _farthest_first([*patterns, *words_found[:_LISTED_WORDS]])


def _revealing(names: list[str], occurs: csc_array, targets: npt.NDArray[np.float64]) -> list[Shortcut]:
    """Return the features that give a class away.

    Args:
        names: of the features, in words.
        occurs: (n, n_features) of 0 and 1.
        targets: (n, n_classes) of 0 and 1.
    """
    counts = np.asarray(occurs.T @ targets)
    n = np.asarray(occurs.sum(0)).reshape(-1, 1)
    totals = targets.sum(0)
    purity, reach = counts / np.maximum(n, 1), counts / np.maximum(totals, 1)
    # A class that nearly all texts have is predicted by anything, so purity has to halve the error of naming it always.
    prior = totals / len(targets)
    needed = np.maximum(_PURE, 1 - (1 - prior) / 2)
    is_told = (n >= _LEAST) & (purity >= needed) & (reach >= _FAR_REACHING)
    found = [
        Shortcut(
            names[feature],
            label,
            np.sort(occurs[:, [feature]].indices).astype(np.int64),
            float(purity[feature, label]),
            float(reach[feature, label]),
        )
        for feature, label in zip(*(places.tolist() for places in np.nonzero(is_told)), strict=True)
    ]
    return _farthest_first(found)


def _farthest_first(found: list[Shortcut]) -> list[Shortcut]:
    return sorted(found, key=lambda shortcut: -shortcut.reach)
