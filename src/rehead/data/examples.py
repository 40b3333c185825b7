"""The dataclasses that carry data through a fit: a table as read, and labelled examples made from it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.labels import Labels, class_counts, is_multilabel, of_class
from rehead.data.pictures import Picture
from rehead.runtime.errors import DataError

Index = npt.NDArray[np.int64]

# A label set this large is a text or id column taken for labels, not a classification task.
MAX_CLASSES = 1000
# Between the labels of a text that has several, where nothing else is said.
SEPARATOR = ";"


@dataclass(frozen=True)
class Table:
    """A table as it stands in a file: every cell is text, None where there is no value.

    Attributes:
        source: where it came from, for messages.
        columns: names of the columns.
        rows: one list of cells a row, as many as there are columns.
        lines: the line in the file at which each row begins, from 1 (the row's number, where there are no lines).
    """

    source: str
    columns: list[str]
    rows: list[list[str | None]]
    lines: list[int]

    def column(self, name: str) -> list[str | None]:
        position = self.columns.index(name)
        return [row[position] for row in self.rows]


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
        pictures: the n images, if that is what they are.
    """

    texts: list[str]
    labels: Labels
    label_names: tuple[str, ...]
    lines: Index
    source: str
    groups: Index | None = None
    times: npt.NDArray[np.float64] | None = None
    near: Index | None = None
    pictures: list[Picture] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def inputs(self) -> list[str] | list[Picture]:
        """What a model is given: the texts, or the images."""
        return self.texts if self.pictures is None else self.pictures

    @property
    def what(self) -> str:
        """What the examples are, in a word."""
        return "texts" if self.pictures is None else "images"

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return is_multilabel(self.labels)

    def named(self, row: int) -> str:
        """The label of an example as people write it, or all of its labels."""
        return named(self.labels[row], self.label_names)

    def take(self, index: Index) -> Examples:
        """The examples at the given positions, in that order."""
        return Examples(
            texts=[self.texts[i] for i in index],
            labels=self.labels[index],
            label_names=self.label_names,
            lines=self.lines[index],
            source=self.source,
            groups=None if self.groups is None else self.groups[index],
            times=None if self.times is None else self.times[index],
            near=None if self.near is None else self.near[index],
            pictures=None if self.pictures is None else [self.pictures[i] for i in index],
        )

    def followed_by(self, other: Examples) -> Examples:
        """These examples and then those of another part of the same fit."""

        def joined(name: str) -> Any:
            first, second = getattr(self, name), getattr(other, name)
            return None if first is None or second is None else np.concatenate([first, second])

        return Examples(
            texts=[*self.texts, *other.texts],
            labels=joined("labels"),
            label_names=self.label_names,
            lines=joined("lines"),
            source=self.source,
            groups=joined("groups"),
            times=joined("times"),
            near=joined("near"),
            pictures=None if self.pictures is None or other.pictures is None else [*self.pictures, *other.pictures],
        )


def named(labels: Any, label_names: tuple[str, ...]) -> str:
    """A class id, or (k,) of 0 and 1, in words."""
    if np.ndim(labels) == 0:
        return label_names[int(labels)]
    return SEPARATOR.join(label_names[label] for label in np.flatnonzero(labels)) or NO_LABEL


# How it is written that none of the classes applies.
NO_LABEL = "(none)"

# Why rows are not used → the lines at which they stand.
Dropped = dict[str, list[int]]


def from_table(
    table: Table,
    text_column: str,
    label_column: str,
    label_names: tuple[str, ...] | None = None,
    separator: str | None = None,
) -> tuple[Examples, Dropped]:
    """Makes examples of a table's two columns; rows without text or label are left out and listed.

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
    named_labels: list[list[str]] = []
    lines: list[int] = []
    columns = zip(table.column(text_column), table.column(label_column), table.lines, strict=True)
    for text, label, line in columns:
        if not (text and text.strip()):
            dropped.setdefault("no text", []).append(line)
        elif not (label and label.strip()):
            dropped.setdefault("no label", []).append(line)
        else:
            texts.append(text)
            named_labels.append(labels_in(label, separator))
            lines.append(line)
    if not texts:
        raise DataError(
            f"{table.source}: none of its {len(table.rows)} rows has both a text (column {text_column!r}) and a "
            f"label (column {label_column!r}); name the right columns with `text_column` and `label_column`"
        )
    known = label_names or in_order({name for names in named_labels for name in names})
    if not known:
        raise DataError(f"{table.source}: no row has a label in column {label_column!r}; name it with `label_column`")
    if len(known) > MAX_CLASSES:
        raise DataError(
            f"{table.source}: column {label_column!r} has {len(known):,} different labels; "
            "name the column that holds the classes with `label_column`"
        )
    ids = {name: i for i, name in enumerate(known)}
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


def labels_in(cell: str, separator: str | None) -> list[str]:
    """The labels that a cell holds; one if there is no separator."""
    if separator is None:
        return [cell.strip()]
    listed = _as_list(cell)
    pieces = cell.split(separator) if listed is None else listed
    return [piece.strip() for piece in pieces if piece.strip()]


def _as_list(cell: str) -> list[str] | None:
    """The labels of a JSON array such as `["a", "b"]`; None for anything else."""
    if not (cell.lstrip().startswith("[") and cell.rstrip().endswith("]")):
        return None
    try:
        values = json.loads(cell)
    except ValueError:
        return None
    return [str(value) for value in values] if all(isinstance(value, str | int) for value in values) else None


def separator_of(cells: list[str | None]) -> str | None:
    """What stands between the labels of a column whose texts may have several; None where each has one.

    They may have several if every cell is a JSON array, or if semicolons divide cells into names that come up again:
    into no more different names than there are different cells.
    """
    different = {cell.strip() for cell in cells if cell and cell.strip()}
    if different and all(_as_list(cell) is not None for cell in different):
        return SEPARATOR
    if not any(SEPARATOR in cell for cell in different):
        return None
    pieces = {piece for cell in different for piece in labels_in(cell, SEPARATOR)}
    return SEPARATOR if len(pieces) <= len(different) else None


def with_groups_and_times(
    examples: Examples, table: Table, group_column: str | None, time_column: str | None
) -> Examples:
    """The same examples, with what two more columns of their table say of them.

    Raises:
        DataError: there is no such column, or a time cannot be read.
    """
    for option, name in (("group_column", group_column), ("time_column", time_column)):
        if name is not None and name not in table.columns:
            raise DataError(
                f"{table.source} has no column {name!r} (`{option}`); its columns are {', '.join(table.columns)}"
            )
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
            moment = None
        if moment is None:
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
    """Class names in the order of their ids: by number where all are integers, else alphabetically."""
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))


def require_learnable(examples: Examples, least: int = 2) -> None:
    """Checks that there is something to learn: two classes at least, each with enough examples; where a text may have
    several labels, one class is enough if some examples are not of it.

    Args:
        least: examples a class; one is enough where the test has examples of its own.

    Raises:
        DataError: nothing to tell apart, or a class with too few examples.
    """
    counts = class_counts(examples.labels, len(examples.label_names))
    present = np.flatnonzero(counts)
    always = counts[present] == len(examples)
    if not len(present) or (always.all() if examples.multilabel else len(present) < 2):
        only = examples.label_names[present[0]] if len(present) else "none"
        raise DataError(
            f"{examples.source}: all {len(examples)} usable rows have the label {only!r}; "
            "a classifier needs examples of at least two classes"
        )
    for label in present.tolist():
        if counts[label] < least:
            line = examples.lines[int(np.flatnonzero(of_class(examples.labels, label))[0])]
            raise DataError(
                f"{examples.source} row {line}: class {examples.label_names[label]!r} has one example, too few to "
                "train and to test on; add examples, merge it into another class or drop the row"
            )
