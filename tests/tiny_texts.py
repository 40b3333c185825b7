"""Messages in the words of the tiny models, in two classes that the words separate."""

import csv
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path

_WORDS = {
    "spam": ["free", "prize", "call", "now", "win", "cash", "txt"],
    "ham": ["meet", "you", "at", "noon", "for", "lunch", "home", "later"],
}
# Has no factor in common with the number of permutations, so every one comes up before any comes up twice.
_STRIDE = 37


def messages(n: int = 60, start: int = 0) -> tuple[list[str], list[str]]:
    """The `n` distinct texts from number `start` on, and their labels; the classes take turns."""
    texts, labels = [], []
    for number in range(start, start + n):
        label = ("ham", "spam")[number % 2]
        choices = list(permutations(_WORDS[label], 3))
        texts.append(" ".join(choices[number // 2 * _STRIDE % len(choices)]))
        labels.append(label)
    return texts, labels


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def write_messages(path: Path, n: int = 60, start: int = 0) -> Path:
    return write_csv(path, ["text", "label"], zip(*messages(n, start), strict=True))
