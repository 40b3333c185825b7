"""Guess the language of texts from their letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Texts that are looked at, the letters that each has at least, and the characters that are read of it.
_SAMPLE, _LEAST_LETTERS, _CHARACTERS = 400, 20, 1000


def of_some(texts: Sequence[str], seed: int) -> dict[int, str]:
    """Return the language of some of the texts by their row, as a code of two letters; none of what is too short."""
    from py3langid.langid import classify

    generator = np.random.default_rng(seed)
    readable = [row for row, text in enumerate(texts) if sum(map(str.isalpha, text)) >= _LEAST_LETTERS]
    sample = generator.permutation(readable)[:_SAMPLE].astype(int).tolist()
    return {row: classify(texts[row][:_CHARACTERS])[0] for row in sample}


def share_of_english(texts: Sequence[str], seed: int) -> float:
    """Return the share of the texts that are English; 1 where none is long enough for a guess."""
    languages = list(of_some(texts, seed).values())
    return languages.count("en") / len(languages) if languages else 1.0
