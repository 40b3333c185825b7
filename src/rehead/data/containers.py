"""Take texts, images and tables out of what a program holds: lists, arrays, data frames, Arrow, datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from rehead.data.columns import SURROGATE, Table, as_text, listed, require_different, with_names
from rehead.data.images import ImageInput, as_image_input
from rehead.runtime.errors import DataError


class Tabular(Protocol):
    """A data frame, an Arrow table or a `datasets.Dataset`, whose columns have names; or parts of one by name."""

    def __getitem__(self, name: Any, /) -> Any: ...


# Where labelled examples come from: a file, `sample:NAME`, or a table in memory.
Source: TypeAlias = str | Path | Tabular


def inputs_of(X: Any) -> list[str] | list[ImageInput]:
    """Return the texts or the images that `Classifier` is given.

    Raises:
        DataError: a row is neither, or there are several columns.
    """
    if isinstance(X, str):
        raise DataError("X is one text; give a list of texts")
    inputs = values_of(X)
    if inputs and not isinstance(inputs[0], str):
        pictures = [as_image_input(value, number) for number, value in enumerate(inputs, start=1)]
        if None not in pictures:
            return [picture for picture in pictures if picture is not None]
    for number, text in enumerate(inputs, start=1):
        if not isinstance(text, str):
            raise DataError(
                f"X row {number} is a {type(text).__name__}, not a text; give a list of strings, or of images"
            )
        if not text.isascii() and SURROGATE.search(text):
            raise DataError(f"X row {number} holds half a surrogate pair or a byte that is not UTF-8; remove it")
    return inputs


def values_of(X: Any) -> list[Any]:
    """Return the values of a sequence, or of the only column of a table or an array of two dimensions.

    Raises:
        DataError: there is another number of columns than one.
    """
    X = X if hasattr(X, "__iter__") else np.asarray(X)
    shape: tuple[int, ...] = getattr(X, "shape", (0,))
    if len(shape) not in (1, 2, 4) or (len(shape) == 2 and shape[1] != 1):
        raise DataError(f"X has the shape {tuple(shape)}; give one column of texts, such as X['text']")
    if len(shape) == 2:
        names = columns_of(X)
        X = X[names[0]] if names else X[:, 0]
    return listed(X)


def columns_of(table: Any) -> list[Any]:
    """Return the names of a table's columns; none of what is no table."""
    # Arrow and datasets have `column_names`; of a data frame that may be a column.
    named = "column_names" if hasattr(type(table), "column_names") else "columns"
    return list(getattr(table, named, ()))


def table_of(frame: Any) -> Table:
    """Return a data frame, an Arrow table or a `datasets.Dataset` as a file's rows are kept.

    Raises:
        DataError: it is no table.
    """
    names = columns_of(frame)
    if not names:
        raise DataError(f"a {type(frame).__name__} is no table; give a file, sample:NAME, a DataFrame or a Dataset")
    require_different(list(map(str, names)), f"a {type(frame).__name__}")
    features = frame.features if hasattr(type(frame), "features") else {}  # of datasets, which keep class ids
    classes = [getattr(features.get(name), "names", None) for name in names]
    columns = [
        [as_text(cell if ids is None else with_names(cell, ids)) for cell in values_of(frame[name])]
        for name, ids in zip(names, classes, strict=True)
    ]
    rows = [list(cells) for cells in zip(*columns, strict=True)]
    if not rows:
        raise DataError(f"a {type(frame).__name__} has no rows; give one with an example a row")
    return Table(type(frame).__name__, list(map(str, names)), rows, list(range(1, len(rows) + 1)))
