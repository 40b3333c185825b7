"""Labelled examples from all their sources, divided for a fit, so that no text of one part is in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rehead.data import galleries, samples
from rehead.data.audit import audit
from rehead.data.duplicates import drop_duplicates, fingerprints, near_of, seen_before, with_near
from rehead.data.examples import (
    SEPARATOR,
    Dropped,
    Examples,
    from_table,
    require_learnable,
    separator_of,
    with_groups_and_times,
)
from rehead.data.findings import Finding
from rehead.data.labels import strata
from rehead.data.pictures import looked_at
from rehead.data.splits import FRACTIONS, Fractions, Split, by_time, joined, stratified
from rehead.data.tables import infer_columns
from rehead.runtime import progress
from rehead.runtime.errors import DataError


class Columns(NamedTuple):
    """Where texts and labels stand in a table.

    Attributes:
        text, label: the columns' names; None where they are to be found.
        separator: what stands between the labels of a text that may have several; None where each text has one.
    """

    text: str | None = None
    label: str | None = None
    separator: str | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Columns:
        """Those that a classifier has learned from, by its description."""
        separator = told.get("label_separator", SEPARATOR) if told["multilabel"] else None
        return cls(told.get("text_column"), told.get("label_column"), separator)


@dataclass(frozen=True)
class Sources:
    """Where labelled examples come from; each is a file or `sample:NAME`.

    Attributes:
        data: what to learn from, and to test on where `test` is None.
        validation: examples that choose regularisation, depth and epoch; taken out of `data` if None.
        test: examples to measure on; if None those that were published with `data`, or taken out of it.
        text_column, label_column: found by name and content if None.
        label_separator: what stands between the labels of a text that may have several; "" if each text has one label,
            whatever it holds; if None, arrays and semicolons between names that come up again are taken for several.
        group_column: rows with the same value are never parted.
        time_column: if given, the split is by time: the oldest rows are for training, the newest for the test.
    """

    data: str
    validation: str | None = None
    test: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    label_separator: str | None = None


@dataclass(frozen=True)
class Parts:
    """Examples divided for a fit.

    Attributes:
        pool: all different examples of `data`, of which the parts that were not given are made.
        train, validation, test: the last one is empty where cross-validation tests.
        columns: where the texts and the labels were.
        rows_read: rows of all sources.
        dropped: why and at which lines rows are not used, over all sources.
        in_training: (n_test,) bool, test texts that training or validation has too (up to case and white space).
        near_training: (n_test,) bool, those that are nearly the same as one of these, or the same.
        findings: of the audit.
        how: how the parts came about, in words.
    """

    pool: Examples
    train: Examples
    validation: Examples
    test: Examples
    columns: Columns
    rows_read: int
    dropped: Dropped
    in_training: npt.NDArray[np.bool_]
    near_training: npt.NDArray[np.bool_]
    findings: list[Finding]
    how: str


@dataclass(frozen=True)
class Material:
    """All examples as they were read, duplicates included, and what is to be said of them.

    Attributes:
        validation, test: None where none was given.
        columns, rows_read, dropped: see `Parts`.
        findings: of the audit.
    """

    pool: Examples
    validation: Examples | None
    test: Examples | None
    columns: Columns
    rows_read: int
    dropped: Dropped
    findings: list[Finding]


def gather(sources: Sources) -> Material:
    """Reads all sources and audits them."""
    pool, dropped, columns, rows_read = read_examples(sources.data, sources, None, Columns())
    given: dict[str, Examples] = {}
    unusable = dict(dropped)
    for part, source in (("test", sources.test), ("validation", sources.validation)):
        if source is not None:
            given[part], lost, _, n = read_examples(source, sources, pool.label_names, columns)
            unusable, rows_read = _merged(unusable, lost, part), rows_read + n
    pool, *parts = with_near(pool, *given.values())
    given = dict(zip(given, parts, strict=True))
    test = given.get("test")
    findings = audit(pool, dropped, test)
    return Material(pool, given.get("validation"), test, columns, rows_read, unusable, findings)


def with_own_parts(sources: Sources, with_test: bool = True) -> Sources:
    """Of a folder of images that is divided already: the training part as data, and the others as given ones."""
    parts = galleries.parts_of(sources.data)
    if not parts:
        return sources
    return replace(
        sources,
        data=parts["train"],
        validation=sources.validation or parts.get("validation"),
        test=sources.test or (parts.get("test") if with_test else None),
    )


def prepare(sources: Sources, seed: int, with_test: bool = True) -> Parts:
    """Reads all sources, audits them, drops duplicates and divides.

    A text of the training part is never in a validation part, and not in a test part that is divided off
    here; nor is one that is nearly the same, unless the split is by time. A test set that was given is measured as it
    is; its overlap is found and reported.

    Args:
        with_test: whether a test part is needed; not where cross-validation tests on every example.
    """
    sources = with_own_parts(sources, with_test)
    if with_test and sources.test is None:
        sources = replace(sources, test=samples.own_test(sources.data))
    material = gather(sources)
    pool, repeated = drop_duplicates(material.pool)
    dropped = material.dropped | repeated
    require_learnable(pool, least=2 if sources.test is None else 1)
    fractions = np.array(FRACTIONS) * [1, sources.validation is None, with_test and sources.test is None]
    train_share, validation_share, test_share = (fractions / fractions.sum()).tolist()
    split, how = _split(pool, seed, (train_share, validation_share, test_share))
    train, validation, test = pool.take(split.train), pool.take(split.validation), pool.take(split.test)
    if material.test is not None:
        test = material.test
    if material.validation is not None:
        validation, repeated = _without_repeats(material.validation, train)
        dropped = _merged(dropped, repeated, "validation")
    if not len(validation) or (with_test and not len(test)):
        raise DataError(
            f"{pool.source}: {len(pool)} different texts are too few to divide into training, validation and test; "
            "give 10 or more a class"
        )
    in_training = seen_before(test.inputs, fingerprints([*train.inputs, *validation.inputs]))
    near_training = np.isin(near_of(test), [*near_of(train), *near_of(validation)])
    return Parts(
        pool,
        train,
        validation,
        test,
        material.columns,
        material.rows_read,
        dropped,
        in_training,
        near_training,
        material.findings,
        how,
    )


def _split(pool: Examples, seed: int, fractions: Fractions) -> tuple[Split, str]:
    if pool.times is not None:
        split = by_time(pool.times, fractions)
        if not len(split.train):
            raise DataError(f"{pool.source}: too many rows have the same time to divide by it; leave `time_column` out")
        return split, "by time, the newest for the test"
    near = near_of(pool)
    groups = near if pool.groups is None else joined(near, pool.groups)
    how = f"stratified at random with seed {seed}, texts that are nearly the same kept together"
    return stratified(strata(pool.labels), seed, fractions, groups), how + (
        " and groups too" if pool.groups is not None else ""
    )


def read_examples(
    data: str, sources: Sources, label_names: tuple[str, ...] | None, known: Columns
) -> tuple[Examples, Dropped, Columns, int]:
    """Examples, rows not used, columns used, rows read; columns that are `known` are preferred to a guess.

    Args:
        label_names: the classes, where they are known; then it is known whether a text may have several labels, too.
    """
    if galleries.holds_images(data, sources.text_column or known.text):
        return _read_images(data, sources, label_names, known)
    table = samples.read_any(data)
    text_column, label_column = (name if name in table.columns else None for name in known[:2])
    text, label = infer_columns(table, sources.text_column or text_column, sources.label_column or label_column)
    separator = known.separator
    if label_names is None:
        asked = sources.label_separator
        separator = separator_of(table.column(label)) if asked is None else asked or None
    several = "" if separator is None else ", of which a text may have several"
    progress.say(f"{table.source}: {len(table.rows):,} rows; texts from {text!r}, labels from {label!r}{several}")
    examples, dropped = from_table(table, text, label, label_names, separator)
    if data == sources.data:
        examples = with_groups_and_times(examples, table, sources.group_column, sources.time_column)
    return examples, dropped, Columns(text, label, separator), len(table.rows)


def _read_images(
    data: str, sources: Sources, label_names: tuple[str, ...] | None, known: Columns
) -> tuple[Examples, Dropped, Columns, int]:
    """The same of images; those that cannot be used are named."""
    if sources.label_separator or known.separator:
        raise DataError(f"{data}: an image has one label; leave `label_separator` out")
    gallery = galleries.read(data, sources.text_column, sources.label_column, known[:2])
    table, columns = gallery.table, Columns(gallery.image_column, gallery.label_column)
    progress.say(f"{table.source}: {len(table.rows):,} images, labels from {columns.label!r}")
    examples, dropped = from_table(table, gallery.image_column, gallery.label_column, label_names)
    if data == sources.data:
        examples = with_groups_and_times(examples, table, sources.group_column, sources.time_column)
    at = gallery.picture_at()
    examples = replace(examples, pictures=[at[line] for line in examples.lines.tolist()])
    problems = looked_at(examples.pictures or [])
    for i, problem in enumerate(problems):
        if problem is not None:
            progress.warn(f"{examples.texts[i]} {problem}: it is not used")
            dropped.setdefault("unusable image", []).append(int(examples.lines[i]))
    usable = np.flatnonzero([problem is None for problem in problems])
    if not len(usable):
        raise DataError(f"{table.source}: none of its {len(table.rows):,} images can be used; see the lines above")
    return examples.take(usable), dropped, columns, len(table.rows)


def _without_repeats(validation: Examples, train: Examples) -> tuple[Examples, Dropped]:
    unique, repeated = drop_duplicates(validation)
    leaked = seen_before(unique.inputs, fingerprints(train.inputs))
    if leaked.any():
        repeated["text of the training part"] = unique.lines[leaked].tolist()
    return unique.take(np.flatnonzero(~leaked)), repeated


def _merged(dropped: Dropped, more: Dropped, part: str) -> Dropped:
    return dropped | {f"{part}: {reason}": lines for reason, lines in more.items()}
