"""Labelled texts with a test part that stays the same, and training parts of a few examples a class."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehead.data import samples

# Label and text.
Row = tuple[str, str]

SMS_TEST = 1000


@dataclass(frozen=True)
class Task:
    """What there is to learn from, and what to test on."""

    train: list[Row]
    test: list[Row]


def sms() -> Task:
    """sample:sms without repeated messages; 1,000 drawn at random are for the test."""
    different = {" ".join(text.split()).casefold(): (label, text) for label, text in samples.read("sms").rows}
    rows = list(different.values())
    random.Random(0).shuffle(rows)  # noqa: S311
    return Task(rows[SMS_TEST:], rows[:SMS_TEST])


def r8() -> Task:
    """The published split: 5,485 and 2,189 articles."""
    return Task(*([(row[0], row[1]) for row in samples.read(name).rows] for name in ("r8", "r8/test")))


def draw(train: Sequence[Row], shots: int | None, seed: int) -> list[Row]:
    """So many examples of each label, or all that there are of it; all of all labels if None."""
    if shots is None:
        return list(train)
    generator = random.Random(seed)  # noqa: S311
    by_label: dict[str, list[Row]] = {}
    for row in train:
        by_label.setdefault(row[0], []).append(row)
    return [row for rows in by_label.values() for row in generator.sample(rows, min(shots, len(rows)))]


def write(rows: Sequence[Row], file: Path) -> Path:
    with file.open("w", encoding="utf-8", newline="") as output:
        csv.writer(output).writerows([("label", "text"), *rows])
    return file
