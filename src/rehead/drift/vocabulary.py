"""The words of the training texts as numbers, to count which of a new text's words were not among them.

Whoever has the numbers can find out whether a word that he thinks of was in the training texts, and no more than that.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from rehead.models.ngram_hashes import places_of

# The most frequent words are kept: 1.6 MB of them at most.
MAX_WORDS = 200_000
# A text's first characters stand for it, so that a long one costs no more time than a short one: fewer where words are
# looked up, which a server does with every text, than where they are learned.
_LEARNED, _LOOKED_UP = 500, 200
# Numbers are no words: hardly one of them comes up twice.
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words of some texts.

    Attributes:
        hashes: (n_words,) uint64, rising; 64 bits of each word's BLAKE2b digest.
    """

    hashes: npt.NDArray[np.uint64]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Vocabulary:
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_words(text, _LEARNED))
        return cls(np.unique(_hashes(word for word, _ in counts.most_common(MAX_WORDS))))

    def unknown_shares(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return (n,) float32: what share of each text's words is not in the vocabulary; 0 where there is no word."""
        numbers: dict[str, int] = {}
        words = [_words(text, _LOOKED_UP) for text in texts]
        which = np.array([numbers.setdefault(word, len(numbers)) for of_one in words for word in of_one], np.int64)
        n_words = np.array([len(of_one) for of_one in words], dtype=np.int64)
        of_text = np.repeat(np.arange(len(texts)), n_words)
        unknown = places_of(self.hashes, _hashes(numbers)) < 0
        counts = np.bincount(of_text[unknown[which]], minlength=len(texts))
        return (counts / np.maximum(n_words, 1)).astype(np.float32)


def _words(text: str, most: int) -> list[str]:
    """Return the words in the first characters of a text; a word that is cut off is none."""
    whole = text if len(text) <= most else text[:most].rpartition(" ")[0]
    return _WORD.findall(whole.casefold())


def _hashes(words: Iterable[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(blake2b(word.encode(), digest_size=8).digest() for word in words)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
