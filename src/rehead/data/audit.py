"""Finds what would make a test set lie: the same text twice. Looks at texts and labels only."""

import hashlib

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Dropped, Examples


def fingerprint(text: str) -> int:
    """A 63-bit hash that is equal for texts that differ in white space and upper or lower case only."""
    same = " ".join(text.split()).casefold()
    return int.from_bytes(hashlib.blake2b(same.encode(), digest_size=8).digest(), "big") >> 1


def fingerprints(texts: list[str]) -> npt.NDArray[np.int64]:
    """(n,) int64: the fingerprint of each text."""
    return np.array([fingerprint(text) for text in texts], dtype=np.int64)


def drop_duplicates(examples: Examples) -> tuple[Examples, Dropped]:
    """Keeps the first of the texts that are the same up to white space and case.

    A repeat that carries another label than the first is listed under a reason of its own: one of the two
    labels is wrong.
    """
    first: dict[int, int] = {}
    kept: list[int] = []
    dropped: Dropped = {}
    for i, key in enumerate(fingerprints(examples.texts).tolist()):
        if key not in first:
            first[key] = i
            kept.append(i)
            continue
        same_label = examples.labels[first[key]] == examples.labels[i]
        reason = "duplicate" if same_label else "duplicate with another label"
        dropped.setdefault(reason, []).append(int(examples.lines[i]))
    return examples.take(np.array(kept, dtype=np.int64)), dropped


def seen_before(texts: list[str], known: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n,) bool: which of the texts have a fingerprint among `known`."""
    return np.isin(fingerprints(texts), known)
