"""Hash the n-grams of texts with numpy alone, and turn them into TF-IDF features.

A text is case-folded and cut into tokens: runs of letters, digits and marks, and runs of anything else that is no white
space. Its n-grams are of two kinds:

- words: each token and each pair of neighbours. Scripts without spaces between words have a token for each ideograph
  or kana here;
- characters: the 2- to 5-grams of each token with a space on either side. A run of ideographs is one token here.

N-grams are known by 64-bit hashes that are defined here by integer arithmetic alone, so they are the same on every
platform and in every process, and no two n-grams are likely to share one (of ten million a pair does with a probability
of 3e-6). What a letter is and how it is folded is Unicode's; versions of Python differ only in characters that an older
Unicode did not have.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]

# Characters of the longest n-grams; the shortest have two.
_LONGEST = 5

# The multiplier of the polynomial hash (2**64 divided by the golden ratio, odd) and its inverse modulo 2**64.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64))
_PAIR = np.uint64(0xD6E8FEB86659FD93)

# Kinds of characters.
_SPACE, _WORD, _OTHER, _IDEOGRAPH = range(4)
# Kana, and the ideographs of all planes: scripts that put no spaces between words and have thousands of characters.
IDEOGRAPHS = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


def features(
    texts: Sequence[str], words: Hashes, characters: Hashes, idf: npt.NDArray[np.float32]
) -> tuple[Index, npt.NDArray[np.float32]]:
    """Return the known n-grams of n texts and how much each of them counts, as rows of one length.

    Each term frequency is sublinear and multiplied by its `idf`; those of a text's words have a sum of squares of 1
    together, and so have those of its characters.

    Args:
        words, characters: (n_words,) and (n_characters,) uint64, rising: the hashes of the n-grams that are known.
        idf: (n_words + n_characters,) float32, words first.

    Returns:
        (n, m) int64, places in `idf`, and (n, m) float32. The rest of a row is padded with place 0 and value 0; m is
        the most n-grams that one of the texts has, and 1 where none has any.
    """
    portion = TextPortion(texts)
    rows, places, values = [], [], []
    first = 0
    for known, instances, text in (
        (words, portion.words(), portion.tokens.text),
        (characters, portion.characters(), portion.runs.text),
    ):
        found = places_of(known, instances.hashes)
        is_known = found >= 0
        of_text = text[instances.token[is_known]] * len(known) + found[is_known]
        distinct, counts = np.unique(of_text, return_counts=True)
        row, place = np.divmod(distinct, max(1, len(known)))
        value = (1 + np.log(counts.astype(np.float32))) * idf[first + place]
        squares = np.bincount(row, weights=value.astype(np.float64) ** 2, minlength=len(texts))
        rows.append(row)
        places.append(first + place)
        values.append((value / np.sqrt(squares)[row]).astype(np.float32))
        first += len(known)
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    lengths = np.bincount(row, minlength=len(texts))
    at = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shape = (len(texts), max(1, int(lengths.max(initial=0))))
    of_rows, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
    of_rows[row[order], at] = np.concatenate(places)[order]
    weights[row[order], at] = np.concatenate(values)[order]
    return of_rows, weights


class Tokens(NamedTuple):
    """Tokens in the order of a portion: where they begin and end, which text each is of, and their hashes, all (m,)."""

    starts: Index
    ends: Index
    text: Index
    hashes: Hashes


class Instances(NamedTuple):
    """Occurrences of n-grams: the hash of each, the token it begins in and the one it ends in, all (k,)."""

    hashes: Hashes
    token: Index
    other: Index


class TextPortion:
    """Some texts as one array of code points, with a space before and after each of them.

    Attributes:
        tokens: an ideograph is one of its own.
        runs: the same where ideographs that follow each other are one.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        folded = [text.casefold() for text in texts]
        joined = f" {' '.join(folded)} "
        # A lone surrogate is no character, but a string may hold it.
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        starts = np.cumsum([0, *(len(text) + 1 for text in folded)])
        kinds = _kinds(codes)
        self._values = _mixed(codes.astype(np.uint64) + _BASE)
        # A token's hash is the sum of value * base ** place over its characters: a difference of prefix sums, brought
        # to the token's own beginning by the base's inverse.
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(self._values * _powers(_BASE, len(codes)))])
        back = _powers(_INVERSE, len(codes))

        def found(ideographs_apart: bool) -> Tokens:
            begin, end = _boundaries(kinds, ideographs_apart)
            text = np.searchsorted(starts, begin, side="right") - 1
            return Tokens(begin, end, text, _mixed((sums[end] - sums[begin]) * back[begin]))

        self.tokens = found(ideographs_apart=True)
        self.runs = found(ideographs_apart=False) if (kinds == _IDEOGRAPH).any() else self.tokens

    def words(self) -> Instances:
        """Return every token and every pair of neighbours in a text."""
        _, _, text, hashes = self.tokens
        first = np.flatnonzero(text[1:] == text[:-1])
        pairs = _mixed(hashes[first] * _PAIR + hashes[first + 1])
        single = np.arange(len(hashes))
        return Instances(
            np.concatenate([hashes, pairs]), np.concatenate([single, first]), np.concatenate([single, first + 1])
        )

    def characters(self) -> Instances:
        """Return every n-gram of characters in every run."""
        return self.characters_of(np.arange(len(self.runs.hashes)))

    def characters_of(self, which: Index) -> Instances:
        """Return the n-grams of some runs, whose `token` is a position in `which`."""
        begin, lengths = self.runs.starts[which], (self.runs.ends - self.runs.starts)[which] + 2
        token = np.repeat(np.arange(len(which)), lengths)
        place = np.arange(len(token)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        left = lengths[token] - place  # characters from here to the end of the token, its last space included
        # The spaces of neighbours in the text may be other white space, so they are set here.
        is_pad = (place == 0) | (left == 1)
        source = np.clip(begin[token] + place - 1, 0, len(self._values) - 1)
        space = _mixed(np.array([ord(" ")], np.uint64) + _BASE)
        values = np.where(is_pad, space, self._values[source])
        powers = _powers(_BASE, _LONGEST)
        rolling, hashes, tokens = values, [], []
        for n in range(2, _LONGEST + 1):
            rolling = rolling[: len(values) - n + 1] + powers[n - 1] * values[n - 1 :]
            fits = np.flatnonzero(left[: len(rolling)] >= n)
            hashes.append(_mixed(rolling[fits] + np.uint64(n)))
            tokens.append(token[fits])
        of_all = np.concatenate(tokens)
        return Instances(np.concatenate(hashes), of_all, of_all)


def places_of(known: Hashes, hashes: Hashes) -> Index:
    """Return (k,) where each hash stands among the known ones, -1 where it does not."""
    if not len(known):
        return np.full(len(hashes), -1, dtype=np.int64)
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return np.where(known[places] == hashes, places, -1)


def _kinds(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """Return the kind of each character."""
    table = np.zeros(int(codes.max()) + 1, dtype=np.uint8)
    for code in np.flatnonzero(np.bincount(codes)).tolist():
        character = chr(code)
        if character.isspace():
            table[code] = _SPACE
        elif any(low <= code <= high for low, high in IDEOGRAPHS):
            table[code] = _IDEOGRAPH
        else:
            # Marks belong to the letter before them, as the vowels of Devanagari do.
            is_word = unicodedata.category(character)[0] in "LNM" or character == "_"
            table[code] = _WORD if is_word else _OTHER
    return table[codes]


def _boundaries(kinds: npt.NDArray[np.uint8], ideographs_apart: bool) -> tuple[Index, Index]:
    """Return where tokens begin and end; the first and the last character are spaces."""
    changes = kinds[1:] != kinds[:-1]
    if ideographs_apart:
        changes |= kinds[1:] == _IDEOGRAPH
    edges = np.flatnonzero(changes) + 1
    begin, end = edges[:-1], edges[1:]
    is_token = kinds[begin] != _SPACE
    return begin[is_token], end[is_token]


def _mixed(values: Hashes) -> Hashes:
    """Return hashes whose every bit hangs on all bits of the values: SplitMix64 (Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(base: np.uint64, n: int) -> Hashes:
    """Return base ** 0, ..., base ** (n - 1) modulo 2**64."""
    powers = np.full(n, base, dtype=np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, dtype=np.uint64)
