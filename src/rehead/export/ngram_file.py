"""What makes n-grams of texts without rehead: a Python file that needs numpy alone, and the n-grams that are known."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.models import ngram_hashes
from rehead.models.ngrams import Ngrams

CODE = "ngrams.py"
KNOWN = "ngrams.npz"

# n texts → the inputs `ngram_ids` and `ngram_values`, (n, m) int64 and float32.
Features = Callable[[Sequence[str]], tuple[npt.NDArray[Any], npt.NDArray[Any]]]


def write(known: Ngrams, folder: Path) -> None:
    """Write both files; the code is rehead's own, so that it cannot differ."""
    (folder / CODE).write_text(inspect.getsource(ngram_hashes), encoding="utf-8")
    np.savez(folder / KNOWN, words=known.words, characters=known.characters, idf=known.idf)


def read(folder: Path) -> Features:
    """Return what the written files make of texts, by running the file that was written."""
    features = runpy.run_path(str(folder / CODE))["features"]
    with np.load(folder / KNOWN) as known:
        return partial(features, **known)
