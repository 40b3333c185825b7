"""Labelled examples, as a fit carries them, and how they are made from a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from rehead.data.columns import Table, is_missing, require_column
from rehead.data.images import ImageInput
from rehead.data.labels import (
    SEPARATOR,
    Labels,
    Weights,
    class_counts,
    is_multilabel,
    label_lists,
    of_class,
    same_value,
)
from rehead.runtime.errors import DataError

Index = npt.NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.number)

# A label set this large is a text or id column taken for labels, not a classification task.
MAX_CLASSES = 1000


@dataclass(frozen=True)
class Examples:
    """Texts, or images, with their labels.

    Attributes:
        texts: n texts; of images, their names.
        labels: (n,) int64, an index into `label_names`; or (n, k) int64 of 0 and 1 where a text may have several (see
            `rehead.data.labels`).
        label_names: the k classes, in a fixed order.
        lines: (n,) int64, the line of `source` that each example came from.
        source: where they came from, for messages.
        groups: (n,) int64, what must not be parted, such as the messages of one writer; None where nothing is known.
        times: (n,) float64, seconds since 1970 or any number that rises with time; None where nothing is known.
        near: (n,) int64, the same number for texts that are nearly the same, in all parts of a fit; None before that
            has been looked at.
        images: the n images, if that is what they are.
        weights: (n,) float64, how much each counts; None where all count the same.
    """

    texts: list[str]
    labels: Labels
    label_names: tuple[str, ...]
    lines: Index
    source: str
    groups: Index | None = None
    times: npt.NDArray[np.float64] | None = None
    near: Index | None = None
    images: list[ImageInput] | None = None
    weights: Weights | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> list[str] | list[ImageInput]:
        """Return what a model classifies: the texts, or the images."""
        return self.texts if self.images is None else self.images

    @property
    def what(self) -> str:
        """Return what the examples are, in a word."""
        return "texts" if self.images is None else "images"

    @property
    def multilabel(self) -> bool:
        """Return whether a text may have several labels."""
        return is_multilabel(self.labels)

    def named(self, row: int) -> str:
        """Return the label of an example as people write it, or all of its labels."""
        return named(self.labels[row], self.label_names)

    def take(self, index: Index) -> Examples:
        """Return the examples at these positions, in that order."""
        return replace(
            self,
            texts=[self.texts[i] for i in index],
            labels=self.labels[index],
            lines=self.lines[index],
            groups=None if self.groups is None else self.groups[index],
            times=None if self.times is None else self.times[index],
            near=None if self.near is None else self.near[index],
            images=None if self.images is None else [self.images[i] for i in index],
            weights=None if self.weights is None else self.weights[index],
        )

    def followed_by(self, other: Examples) -> Examples:
        """Return these examples and then those of another part of the same fit."""
        return replace(
            self,
            texts=[*self.texts, *other.texts],
            labels=np.concatenate([self.labels, other.labels]),
            lines=np.concatenate([self.lines, other.lines]),
            groups=both(self.groups, other.groups),
            times=both(self.times, other.times),
            near=both(self.near, other.near),
            images=None if self.images is None or other.images is None else [*self.images, *other.images],
            weights=both(self.weights, other.weights),
        )


def both(first: npt.NDArray[_Number] | None, second: npt.NDArray[_Number] | None) -> npt.NDArray[_Number] | None:
    """Return the rows of two arrays, one after the other; None where either is missing."""
    return None if first is None or second is None else np.concatenate([first, second])


def named(labels: Any, label_names: tuple[str, ...]) -> str:
    """Return a class id, or (k,) of 0 and 1, in words."""
    if np.ndim(labels) == 0:
        return label_names[int(labels)]
    return SEPARATOR.join(label_names[label] for label in np.flatnonzero(labels)) or NO_LABEL


# How it is written that none of the classes applies.
NO_LABEL = "(none)"

# Said of a label that is how programs write that there is none, such as NA; somebody may have a class of this name.
STANDS_FOR_NONE = ", which stands for none"
CURE_OF_NONE = "write it otherwise if it is a class"
# Why rows are not used → the lines at which they stand.
Dropped = dict[str, list[int]]


def from_table(
    table: Table,
    text_column: str,
    label_column: str,
    label_names: tuple[str, ...] | None = None,
    separator: str | None = None,
) -> tuple[Examples, Dropped]:
    """Make examples of a table's two columns; rows without text or label are left out and listed.

    Args:
        label_names: the classes that are known already (of a training set, for its test set); by default
            they are taken from the table, numbers in numerical order, anything else in alphabetical order.
        separator: what stands between a text's labels, if it may have several; a JSON array of labels is read as well,
            and an empty one means that none of the classes applies. None where each text has one label.

    Raises:
        DataError: no row is usable, there are too many classes, or a label is not among `label_names`.
    """
    dropped: Dropped = {}
    texts: list[str] = []
    cells: list[str] = []
    lines: list[int] = []
    for text, label, line in zip(table.column(text_column), table.column(label_column), table.lines, strict=True):
        if not (text and text.strip()):
            dropped.setdefault("no text", []).append(line)
        elif not (label and label.strip()):
            dropped.setdefault("no label", []).append(line)
        elif is_missing(label) and label.strip() not in (label_names or ()):
            dropped.setdefault(f"label {label.strip()}{STANDS_FOR_NONE}", []).append(line)
        else:
            texts.append(text)
            cells.append(label)
            lines.append(line)
    if not texts:
        raise DataError(
            f"{table.source}: none of its {len(table.rows)} rows has both a text (column {text_column!r}) and a "
            f"label (column {label_column!r}); name the right columns with `text_column` and `label_column`"
        )
    named_labels = label_lists(cells, separator, lines, table.source)
    known = label_names or in_order({name for names in named_labels for name in names})
    if not known:
        raise DataError(f"{table.source}: no row has a label in column {label_column!r}; name it with `label_column`")
    if len(known) > MAX_CLASSES:
        raise DataError(
            f"{table.source}: column {label_column!r} has {len(known):,} different labels; "
            "name the column that holds the classes with `label_column`"
        )
    ids = {name: i for i, name in enumerate(known)}
    if label_names is not None:
        alike = Counter(map(same_value, known))
        by_value = {value: name for name in known if alike[value := same_value(name)] == 1}
        named_labels = [[n if n in ids else by_value.get(same_value(n), n) for n in names] for names in named_labels]
    for names, line in zip(named_labels, lines, strict=True):
        for name in names:
            if name not in ids:
                raise DataError(
                    f"{table.source} row {line}: label {name[:40]!r} is not among the classes learned "
                    f"({', '.join(known[:8])}{', ...' if len(known) > 8 else ''}); correct it or leave the row out"
                )
    if separator is None:
        labels = np.array([ids[name] for (name,) in named_labels], dtype=np.int64)
    else:
        labels = np.zeros((len(texts), len(known)), dtype=np.int64)
        for row, names in enumerate(named_labels):
            labels[row, [ids[name] for name in names]] = 1
    return Examples(texts, labels, known, np.array(lines, dtype=np.int64), table.source), dropped


def without_empty(examples: Examples) -> tuple[Examples, Dropped]:
    """Return the examples that have a text, and the lines of the others."""
    if examples.images is not None:
        return examples, {}
    filled = np.array([bool(text.strip()) for text in examples.texts], dtype=np.bool_)
    empty = examples.lines[~filled].tolist()
    return examples.take(np.flatnonzero(filled)), {"no text": empty} if empty else {}


def without_weightless(examples: Examples) -> tuple[Examples, Dropped]:
    """Return the examples that count at all, with weights of mean 1, and the lines of those with a weight of 0.

    Where all that count do so alike, they have no weights, and what is learned is the same to the bit.
    """
    if examples.weights is None:
        return examples, {}
    counts = examples.weights > 0
    kept, without = examples.take(np.flatnonzero(counts)), examples.lines[~counts].tolist()
    weights = examples.weights[counts]
    return (
        replace(kept, weights=None if np.ptp(weights) == 0 else weights / weights.mean()),
        {"weight 0": without} if without else {},
    )


def with_groups_and_times(
    examples: Examples, table: Table, group_column: str | None, time_column: str | None
) -> Examples:
    """Return the same examples, with what two more columns of their table say of them.

    Raises:
        DataError: there is no such column, or a time cannot be read.
    """
    for option, name in (("`group_column`", group_column), ("`time_column`", time_column)):
        require_column(table, name, option)
    position = {line: i for i, line in enumerate(table.lines)}
    rows = [position[line] for line in examples.lines.tolist()]
    groups = times = None
    if group_column is not None:
        cells = table.column(group_column)
        numbers: dict[str | int, int] = {}
        # A row that names no group is one of its own.
        keys: list[str | int] = [(cells[row] or "").strip() or row for row in rows]
        groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)
    if time_column is not None:
        cells = table.column(time_column)
        times = np.array([_as_time(cells[row], table, table.lines[row], time_column) for row in rows], np.float64)
    return replace(examples, groups=groups, times=times)


def _as_time(cell: str | None, table: Table, line: int, column: str) -> float:
    text = (cell or "").strip()
    try:
        value = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise DataError(
                f"{table.source} row {line}: {text[:40]!r} in column {column!r} is not a time; write it as "
                "2026-01-31, 2026-01-31T12:30 or a number"
            ) from None
        # A time without a zone is taken to be universal time, so that the split is the same everywhere.
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(value):
        raise DataError(f"{table.source} row {line}: {text!r} in column {column!r} is not a time; correct it")
    return value


def in_order(names: set[str]) -> tuple[str, ...]:
    """Return class names in the order of their ids: by number where all are integers, else alphabetically."""
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))


def require_learnable(examples: Examples, least: int = 2, dropped: Mapping[str, Sequence[int]] | None = None) -> None:
    """Check that there is something to learn: two classes at least, each with enough examples; where a text may have
    several labels, one class is enough if some examples are not of it.

    Args:
        least: examples a class; one is enough where the test has examples of its own.
        dropped: rows that were left out before, by reason.

    Raises:
        DataError: there are no two classes, or a class with too few examples.
    """
    counts = class_counts(examples.labels, len(examples.label_names))
    present = np.flatnonzero(counts)
    always = counts[present] == len(examples)
    if not len(present) or (always.all() if examples.multilabel else len(present) < 2):
        only = examples.label_names[present[0]] if len(present) else "none"
        left_out = "".join(f"; {len(lines):,} are left out: {reason}" for reason, lines in (dropped or {}).items())
        raise DataError(
            f"{examples.source}: all {len(examples)} usable rows have the label {only!r}: one class; "
            f"a classifier needs examples of at least two classes{left_out}"
        )
    for label in present.tolist():
        if counts[label] < least:
            line = examples.lines[int(np.flatnonzero(of_class(examples.labels, label))[0])]
            raise DataError(
                f"{examples.source} row {line}: class {examples.label_names[label]!r} has one example, too few to "
                "train and to test on; add examples, merge it into another class or drop the row"
            )


# Texts that are looked at, the letters that each has at least, and the characters that are read of it.
_SAMPLE, _LEAST_LETTERS, _CHARACTERS = 400, 20, 1000


def languages_of(texts: Sequence[str], seed: int) -> dict[int, str]:
    """Return the language of some of the texts by their row, as a code of two letters; none of what is too short."""
    from py3langid.langid import classify

    generator = np.random.default_rng(seed)
    readable = [row for row, text in enumerate(texts) if sum(map(str.isalpha, text)) >= _LEAST_LETTERS]
    sample = generator.permutation(readable)[:_SAMPLE].astype(int).tolist()
    return {row: classify(texts[row][:_CHARACTERS])[0] for row in sample}


def share_of_english(texts: Sequence[str], seed: int) -> float:
    """Return the share of the texts that are English; 1 where none is long enough for a guess."""
    languages = list(languages_of(texts, seed).values())
    return languages.count("en") / len(languages) if languages else 1.0
