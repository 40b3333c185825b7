"""Labelled examples from all their sources, divided for a fit, so that no text of one part is in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead import progress
from rehead.data import samples
from rehead.data.audit import drop_duplicates, fingerprints, seen_before
from rehead.data.examples import Dropped, Examples, from_table, require_learnable
from rehead.data.splits import FRACTIONS, stratified
from rehead.data.tables import infer_columns
from rehead.errors import DataError

# The names of the text and the label column, where they are known.
Columns = tuple[str | None, str | None]


@dataclass(frozen=True)
class Sources:
    """Where labelled examples come from; each is a file or `sample:NAME`.

    Attributes:
        data: what to learn from, and to test on where `test` is None.
        validation: examples that choose regularisation, depth and epoch; taken out of `data` if None.
        test: examples to measure on; taken out of `data` if None.
        text_column, label_column: found by name and content if None.
    """

    data: str
    validation: str | None = None
    test: str | None = None
    text_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class Parts:
    """Examples divided for a fit.

    Attributes:
        columns: where the texts and the labels were.
        rows_read: rows of all sources.
        dropped: why and at which lines rows are not used, over all sources.
        in_training: (n_test,) bool, test texts that training or validation has too (up to case and white space).
    """

    train: Examples
    validation: Examples
    test: Examples
    columns: Columns
    rows_read: int
    dropped: Dropped
    in_training: npt.NDArray[np.bool_]


def prepare(sources: Sources, seed: int) -> Parts:
    """Reads all sources, drops duplicates and divides.

    A text of the training part is never in a validation part, and not in a test part that is divided off
    here. A test set that was given is measured as it is; its overlap is found and reported.
    """
    pool, dropped, columns, rows_read = read_examples(sources.data, sources, None, (None, None))
    pool, repeated = drop_duplicates(pool)
    dropped |= repeated
    require_learnable(pool)
    fractions = np.array(FRACTIONS) * [1, sources.validation is None, sources.test is None]
    train_share, validation_share, test_share = (fractions / fractions.sum()).tolist()
    split = stratified(pool.labels, seed, (train_share, validation_share, test_share))
    train, validation, test = pool.take(split.train), pool.take(split.validation), pool.take(split.test)
    if sources.test is not None:
        test, unusable, _, n = read_examples(sources.test, sources, pool.label_names, columns)
        dropped, rows_read = _merged(dropped, unusable, "test"), rows_read + n
    if sources.validation is not None:
        validation, unusable, n = _given_validation(sources, train, columns)
        dropped, rows_read = _merged(dropped, unusable, "validation"), rows_read + n
    if not len(validation) or not len(test):
        raise DataError(
            f"{pool.source}: {len(pool)} different texts are too few to divide into training, validation and test; "
            "give 10 or more a class"
        )
    in_training = seen_before(test.texts, fingerprints([*train.texts, *validation.texts]))
    return Parts(train, validation, test, columns, rows_read, dropped, in_training)


def read_examples(
    data: str, sources: Sources, label_names: tuple[str, ...] | None, known: Columns
) -> tuple[Examples, Dropped, Columns, int]:
    """Examples, rows not used, columns used, rows read; columns that are `known` are preferred to a guess."""
    table = samples.read_any(data)
    text_column, label_column = (name if name in table.columns else None for name in known)
    text, label = infer_columns(table, sources.text_column or text_column, sources.label_column or label_column)
    progress.say(f"{table.source}: {len(table.rows):,} rows; texts from {text!r}, labels from {label!r}")
    examples, dropped = from_table(table, text, label, label_names)
    return examples, dropped, (text, label), len(table.rows)


def _given_validation(sources: Sources, train: Examples, columns: Columns) -> tuple[Examples, Dropped, int]:
    assert sources.validation is not None
    given, unusable, _, n = read_examples(sources.validation, sources, train.label_names, columns)
    unique, repeated = drop_duplicates(given)
    leaked = seen_before(unique.texts, fingerprints(train.texts))
    if leaked.any():
        repeated["text of the training part"] = unique.lines[leaked].tolist()
    return unique.take(np.flatnonzero(~leaked)), unusable | repeated, n


def _merged(dropped: Dropped, more: Dropped, part: str) -> Dropped:
    return dropped | {f"{part}: {reason}": lines for reason, lines in more.items()}
