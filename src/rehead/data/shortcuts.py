"""Features of a text that give its label away by themselves: an address, a number, a single word.

A classifier that learns such a shortcut looks perfect on data gathered in the same way and fails elsewhere (Geirhos et
al., Nature Machine Intelligence 2, 2020).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import CountVectorizer

from rehead.data.examples import Index

_PATTERNS = {
    "a web address": re.compile(r"https?://|\bwww\.\w", re.IGNORECASE),
    "an e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w"),
    "a phone number": re.compile(r"(?<!\d)\+?\d[\d ()/-]{6,}\d(?!\d)"),
}
# Of the texts with a feature so many have the label, and of those with the label so many the feature.
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
    """A feature that tells a label.

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


def shortcuts(texts: list[str], labels: Index) -> list[Shortcut]:
    """Patterns and words that tell a label far better than its frequency does, the farthest-reaching first."""
    totals = np.bincount(labels)
    found = []
    for feature, pattern in _PATTERNS.items():
        has = np.array([pattern.search(text) is not None for text in texts], dtype=np.bool_)
        counts = np.bincount(labels[has], minlength=len(totals))
        found += [_shortcut(feature, label, np.flatnonzero(has), counts, totals) for label in _told(counts, totals)]
    return sorted([*found, *_words(texts, labels, totals)], key=lambda shortcut: -shortcut.reach)


def _words(texts: list[str], labels: Index, totals: Index) -> list[Shortcut]:
    vectorizer = CountVectorizer(binary=True, max_features=_WORDS, min_df=_LEAST)
    try:
        occurs = vectorizer.fit_transform(texts).tocsc()
    except ValueError:  # no word is in twenty texts
        return []
    by_class = np.stack([np.asarray(occurs[labels == label].sum(0)).ravel() for label in range(len(totals))], axis=1)
    names = vectorizer.get_feature_names_out()
    found = [
        _shortcut(f"the word {names[word]!r}", label, np.sort(occurs[:, [word]].indices), by_class[word], totals)
        for word in np.flatnonzero(_is_pure(by_class, totals).any(1))
        for label in _told(by_class[word], totals)
    ]
    return sorted(found, key=lambda shortcut: -shortcut.reach)[:_LISTED_WORDS]


def _is_pure(counts: npt.NDArray[np.int64], totals: Index) -> npt.NDArray[np.bool_]:
    """(..., n_classes): whether a feature with such counts tells the class.

    A class that nearly all texts have is told by anything, so purity has to halve the error of naming it always.
    """
    n = counts.sum(-1, keepdims=True)
    purity = counts / np.maximum(n, 1)
    prior = totals / totals.sum()
    needed = np.maximum(_PURE, 1 - (1 - prior) / 2)
    reach = counts / np.maximum(totals, 1)
    result: npt.NDArray[np.bool_] = (n >= _LEAST) & (purity >= needed) & (reach >= _FAR_REACHING)
    return result


def _told(counts: Index, totals: Index) -> list[int]:
    result: list[int] = np.flatnonzero(_is_pure(counts, totals)).tolist()
    return result


def _shortcut(feature: str, label: int, rows: Index, counts: Index, totals: Index) -> Shortcut:
    purity, reach = counts[label] / counts.sum(), counts[label] / totals[label]
    return Shortcut(feature, label, rows.astype(np.int64), float(purity), float(reach))
