"""Whether the first row of a table names its columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

# Names that people give to the two columns; the first that a table has is taken.
TEXT_NAMES = (
    *("text", "message", "sentence", "content", "body", "review", "document", "article", "tweet", "sms"),
    *("utterance", "comment", "question", "description", "title", "v2"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "topic", "intent", "sentiment", "y", "tag"),
    *("stars", "rating", "v1"),
)
# The share of the cells below a name that are of another kind than it.
_MOSTLY = 0.95
# Fewer rows say nothing about what is usual in a column.
_FEW = 3
_NAME = re.compile(r"[^\W\d]\w*([ ._-]?\w+){0,2}")


class Header(NamedTuple):
    """Whether the first row names the columns, and whether it could as well be an example."""

    found: bool
    doubtful: bool = False


def header_of(rows: Sequence[Sequence[str | None]], unlabelled: bool, names: Collection[str] = ()) -> Header:
    """Return whether the first row names the columns.

    One of the `names` that are expected does, and so do two known ones. A known name that does not come up again in its
    column does, too, and one above numbers. Otherwise a first cell that comes up again is a value, unless it stands
    beside a name above sentences. A first row with nothing of this is a header only where labels are expected, which
    would come up again.
    """
    cells = [(cell or "").strip() for cell in rows[0]]
    first = [cell.lower() for cell in cells]
    if set(first) & {name.lower() for name in names}:
        return Header(True)
    known = [cell in TEXT_NAMES or cell in LABEL_NAMES for cell in first]
    if sum(known) >= 2:
        return Header(True)
    below = [[(row[i] or "").strip() for row in rows[1:] if len(row) > i] for i in range(len(first))]
    again = [cell in map(str.lower, column) for cell, column in zip(first, below, strict=True)]
    if any(is_known and not comes_again for is_known, comes_again in zip(known, again, strict=True)):
        return Header(True)
    if any(_stands_above_numbers(cell, column) for cell, column in zip(cells, below, strict=True)):
        return Header(True)
    if any(_stands_above_sentences(cell, column) for cell, column in zip(cells, below, strict=True)):
        return Header(True, doubtful=unlabelled or any(again))
    return Header(not any(again) and not unlabelled and all(first) and len(set(first)) == len(first))


def _stands_above_numbers(cell: str, column: list[str]) -> bool:
    filled = [each for each in column if each]
    return (
        len(filled) >= _FEW
        and _NAME.fullmatch(cell) is not None
        and sum(map(is_number, filled)) >= _MOSTLY * len(filled)
    )


def _stands_above_sentences(cell: str, column: list[str]) -> bool:
    """Return whether a single word in the form of a name stands above texts of several words."""
    filled = [each for each in column if each]
    return (
        len(filled) >= _FEW
        and re.fullmatch(r"[a-z]\w*|[A-Z][A-Z_]+|\w+_\w+", cell) is not None
        and sum(len(each.split()) >= 4 for each in filled) >= _MOSTLY * len(filled)
    )


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
