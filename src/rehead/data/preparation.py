"""Labelled examples from all their config, divided for a fit, so that no text of one part is in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rehead.data import image_folders, samples
from rehead.data.audit import Finding, audit, main_languages
from rehead.data.columns import Table, infer_columns, known_column, require_column
from rehead.data.containers import Source, table_of
from rehead.data.duplicates import content_hashes, drop_duplicates, kept_together, near_of, seen_before, with_near
from rehead.data.examples import Dropped, Examples, from_table, require_learnable, with_groups_and_times
from rehead.data.images import warn_of_unusable
from rehead.data.labels import SEPARATOR, separator_of, strata, warn_of_separator
from rehead.data.splits import FRACTIONS, Fractions, Split, by_time, part_named, stratified
from rehead.data.tables import saved_parts
from rehead.runtime import progress
from rehead.runtime.errors import DataError

# What is chosen by fewer rows is mostly chance.
_FEW_VALIDATION_ROWS = 30


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
    def of(cls, description: Mapping[str, Any]) -> Columns:
        """Return those that a classifier has learned from, by its description."""
        separator = description.get("label_separator", SEPARATOR) if description["multilabel"] else None
        return cls(description.get("text_column"), description.get("label_column"), separator)


@dataclass(frozen=True)
class DataConfig:
    """Where labelled examples come from; each is a file, `sample:NAME` or a table in memory; see `of`.

    Attributes:
        data: what to learn from, and to test on where `test` is None.
        validation: examples that choose regularisation, depth and epoch; taken out of `data` if None.
        test: examples to measure on; if None those that were published with `data`, or taken out of it.
        text_column, label_column: found by name and content if None.
        label_separator: what stands between the labels of a text that may have several; "" if each text has one label,
            whatever it holds; if None, arrays and semicolons between names that come up again are taken for several.
        group_column: rows with the same value are never parted.
        time_column: if there is one, the split is by time: the oldest rows are for training, the newest for the test.
    """

    data: str | Table
    validation: str | Table | None = None
    test: str | Table | None = None
    text_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    label_separator: str | None = None

    @classmethod
    def of(cls, data: DataConfig | Source, **others: Source | None) -> DataConfig:
        """Return the configuration of a file, a data frame or a Dataset; or of a mapping of these by part's name.

        Args:
            others: further attributes, or those in whose place they stand.

        Raises:
            DataError: one of them is no table, or no part is for training.
        """
        sources: dict[str, Any] = {name: other if other is None else _source(other) for name, other in others.items()}
        if isinstance(data, DataConfig):
            return replace(data, **sources)
        if not isinstance(data, Mapping):
            return cls(_source(data), **sources)
        parts: dict[str, Any] = {part: data[name] for part, name in _parts_among([*data]).items()}
        if "train" not in parts:
            named = ", ".join(map(str, data))
            raise DataError(
                f"none of the parts {named} is for training; call one train, or make a DataFrame of columns"
            )
        known: dict[str, Any] = {part: _source(parts[part]) for part in ("validation", "test") if part in parts}
        return cls(_source(parts["train"]), **known | sources)

    @property
    def name(self) -> str:
        """What the examples came from, for messages and reports."""
        return self.data.source if isinstance(self.data, Table) else self.data


def _parts_among(names: list[str]) -> dict[str, str]:
    """Return the part that each of these names stands for; says those that stand for none.

    Raises:
        DataError: two stand for the same.
    """
    found: dict[str, str] = {}
    for name in names:
        if (part := part_named(str(name))) in found:
            raise DataError(f"the parts {found[part]} and {name} are both for the {part} part; leave one out")
        if part is not None:
            found[part] = name
    if found and len(found) < len(names):
        unused = ", ".join(str(name) for name in names if name not in found.values())
        progress.warn(f"parts that are not used: {unused}; those are used that are called train, validation or test")
    return found


def _source(data: Source) -> str | Table:
    return str(data) if isinstance(data, str | Path) else data if isinstance(data, Table) else table_of(data)


@dataclass(frozen=True)
class DataSplits:
    """Examples divided for a fit.

    Attributes:
        pool: all different examples of `data`, of which the parts without data of their own are made.
        train, validation, test: the last one is empty where cross-validation tests.
        columns: where the texts and the labels were.
        rows_read: rows of all config.
        dropped: why and at which lines rows are not used, over all config.
        in_training: (n_test,) bool, test texts that training or validation has too (up to case and white space).
        near_training: (n_test,) bool, those that are nearly the same as one of these, or the same.
        findings: of the audit.
        languages: of the texts of `data`, the most frequent first, as two-letter codes; none of images.
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
    languages: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class AuditedData:
    """All examples as they were read, duplicates included, and what is to be said of them; see `DataSplits`."""

    pool: Examples
    validation: Examples | None
    test: Examples | None
    columns: Columns
    rows_read: int
    dropped: Dropped
    findings: list[Finding]
    languages: tuple[str, ...]


def gather(config: DataConfig) -> AuditedData:
    """Read all sources and audit them."""
    pool, dropped, columns, rows_read = read_examples(config.data, config, None, Columns())
    own: dict[str, Examples] = {}
    unusable = dict(dropped)
    for part, source in (("test", config.test), ("validation", config.validation)):
        if source is not None:
            own[part], lost, _, n = read_examples(source, config, pool.label_names, columns)
            unusable, rows_read = _merged(unusable, lost, part), rows_read + n
    pool, *parts = with_near(pool, *own.values())
    own = dict(zip(own, parts, strict=True))
    test = own.get("test")
    languages = main_languages(pool.texts) if pool.images is None else {}
    findings = audit(pool, dropped, languages, test)
    return AuditedData(pool, own.get("validation"), test, columns, rows_read, unusable, findings, (*languages,))


def with_own_parts(config: DataConfig, with_test: bool = True) -> DataConfig:
    """Return the configuration with the parts of a folder that is divided already: training as data, others as such.

    It is a folder of images, or one that the datasets library has saved.
    """
    if isinstance(config.data, Table):
        return config
    folder = Path(config.data)
    saved = {part: str(folder / name) for part, name in _parts_among(saved_parts(folder)).items()}
    parts = saved or image_folders.parts_of(config.data)
    if "train" not in parts:
        return config
    return replace(
        config,
        data=parts["train"],
        validation=config.validation or parts.get("validation"),
        test=config.test or (parts.get("test") if with_test else None),
    )


def prepare(config: DataConfig, seed: int, with_test: bool = True) -> DataSplits:
    """Read all sources, audit them, drop duplicates and divide.

    A text of the training part is never in a validation part, and not in a test part that is divided off
    here; nor is one that is nearly the same, unless the split is by time. A test set of its own is measured as it
    is; its overlap is found and reported.

    Args:
        with_test: whether a test part is needed; not where cross-validation tests on every example.
    """
    config = with_own_parts(config, with_test)
    if with_test and config.test is None and isinstance(config.data, str):
        config = replace(config, test=samples.own_test(config.data))
    material = gather(config)
    pool, repeated = drop_duplicates(material.pool)
    dropped = material.dropped | repeated
    require_learnable(pool, 2 if config.test is None else 1, dropped)
    fractions = np.array(FRACTIONS) * [1, config.validation is None, with_test and config.test is None]
    train_share, validation_share, test_share = (fractions / fractions.sum()).tolist()
    split, how = _split(pool, seed, (train_share, validation_share, test_share))
    train, validation, test = pool.take(split.train), pool.take(split.validation), pool.take(split.test)
    if material.test is not None:
        test = material.test
    if material.validation is not None:
        validation, repeated = _without_repeats(material.validation, train)
        dropped = _merged(dropped, repeated, "validation")
    if not len(validation) or (with_test and not len(test)):
        raise DataError(f"{pool.source}: {_too_few(pool)}")
    if len(validation) < _FEW_VALIDATION_ROWS:
        progress.warn(
            f"{pool.source}: {len(validation)} rows are for validation, and what is chosen by so few is mostly chance; "
            "give more examples"
        )
    in_training = seen_before(test.inputs, content_hashes([*train.inputs, *validation.inputs]))
    near_training = np.isin(near_of(test), [*near_of(train), *near_of(validation)])
    read, said = (material.columns, material.rows_read, dropped), (material.findings, material.languages, how)
    return DataSplits(pool, train, validation, test, *read, in_training, near_training, *said)


def _too_few(pool: Examples) -> str:
    """Return what there is too little of to be divided, and the cure."""
    cures = ("of near duplicates", "give more different texts")
    if pool.groups is not None:
        cures = ("of `group_column` and near duplicates", "leave `group_column` out, or give more groups")
    few = "are too few to divide into training, validation and test"
    together = kept_together(pool)
    if together is not None and (n_groups := len(np.unique(together))) < len(pool):
        return f"{n_groups} groups {cures[0]} {few} without parting one; {cures[1]}"
    return f"{len(pool)} different {pool.what} {few}; give 10 or more a class"


def _split(pool: Examples, seed: int, fractions: Fractions) -> tuple[Split, str]:
    if pool.times is not None:
        split = by_time(pool.times, fractions)
        if not len(split.train):
            raise DataError(f"{pool.source}: too many rows have the same time to divide by it; leave `time_column` out")
        return split, "by time, the newest for the test"
    groups_too = "" if pool.groups is None else " and groups too"
    how = f"stratified at random with seed {seed}, texts that are nearly the same kept together{groups_too}"
    return stratified(strata(pool.labels), seed, fractions, kept_together(pool)), how


def read_examples(
    data: str | Table, config: DataConfig, label_names: tuple[str, ...] | None, known: Columns
) -> tuple[Examples, Dropped, Columns, int]:
    """Return examples, rows not used, columns used, rows read; columns that are `known` are preferred to a guess.

    Args:
        label_names: the classes, where they are known; then it is known whether a text may have several labels, too.
    """
    if isinstance(data, str) and image_folders.holds_images(data, config.text_column or known.text):
        return _read_images(data, config, label_names, known)
    asked = (config.text_column, config.label_column, config.group_column, config.time_column)
    names = [name for name in (*asked, *known[:2]) if name]
    table = data if isinstance(data, Table) else samples.read_any(data, names=names)
    # Columns that are named, else those that are known, else those found.
    require_column(table, config.text_column, "`text_column`")
    require_column(table, config.label_column, "`label_column`")
    text = config.text_column or known_column(table, known.text, "`text_column`")
    label = config.label_column or known_column(table, known.label, "`label_column`")
    text, label = infer_columns(table, text, label)
    image_folders.require_texts(table, text)
    separator = known.separator
    if label_names is None:
        asked_separator = config.label_separator
        separator = separator_of(table.column(label)) if asked_separator is None else asked_separator or None
        if separator is None and asked_separator is None:
            warn_of_separator(table.column(label), table.source)
    several = "" if separator is None else ", of which a text may have several"
    progress.say(f"{table.source}: {len(table.rows):,} rows; texts from {text!r}, labels from {label!r}{several}")
    examples, dropped = from_table(table, text, label, label_names, separator)
    if data == config.data:
        examples = with_groups_and_times(examples, table, config.group_column, config.time_column)
    return examples, dropped, Columns(text, label, separator), len(table.rows)


def _read_images(
    data: str, config: DataConfig, label_names: tuple[str, ...] | None, known: Columns
) -> tuple[Examples, Dropped, Columns, int]:
    """Return the same of images; those that cannot be used are named."""
    if config.label_separator or known.separator:
        raise DataError(f"{data}: an image has one label; leave `label_separator` out")
    listed = image_folders.read(data, config.text_column, config.label_column, known[:2])
    table, columns = listed.table, Columns(listed.image_column, listed.label_column)
    progress.say(f"{table.source}: {len(table.rows):,} images, labels from {columns.label!r}")
    examples, dropped = from_table(table, listed.image_column, listed.label_column, label_names)
    if data == config.data:
        examples = with_groups_and_times(examples, table, config.group_column, config.time_column)
    at = dict(zip(table.lines, listed.images, strict=True))
    examples = replace(examples, images=[at[line] for line in examples.lines.tolist()])
    usable = np.array(warn_of_unusable(examples.images or [], "it is not used"), dtype=np.int64)
    if unusable := np.delete(examples.lines, usable).tolist():
        dropped["unusable image"] = unusable
    if not len(usable):
        raise DataError(f"{table.source}: none of its {len(table.rows):,} images can be used; see the lines above")
    return examples.take(usable), dropped, columns, len(table.rows)


def _without_repeats(validation: Examples, train: Examples) -> tuple[Examples, Dropped]:
    unique, repeated = drop_duplicates(validation)
    leaked = seen_before(unique.inputs, content_hashes(train.inputs))
    if leaked.any():
        repeated["text of the training part"] = unique.lines[leaked].tolist()
    return unique.take(np.flatnonzero(~leaked)), repeated


def _merged(dropped: Dropped, more: Dropped, part: str) -> Dropped:
    return dropped | {f"{part}: {reason}": lines for reason, lines in more.items()}
