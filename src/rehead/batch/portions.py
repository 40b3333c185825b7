"""What is read, scored and written at a time: a few thousand rows, and between them those that cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rehead.data.records import BadRow

if TYPE_CHECKING:
    from pyarrow import RecordBatch

# Enough that their texts can be packed by length; few enough that what an interruption costs is seconds.
PORTION_ROWS = 2048
# About 200,000 tokens, of four characters each: a portion of long texts has fewer rows.
PORTION_CHARACTERS = 800_000
# A portion of many columns has fewer rows: Python's objects for its cells take some hundred megabytes.
_PORTION_CELLS = 2_000_000


class Row(NamedTuple):
    """A row that can be scored.

    Attributes:
        source: the file that it stands in.
        number: the line at which it begins, or which row it is; from 1.
        text: what is scored; empty where there is none.
        values: of the original columns.
    """

    source: str
    number: int
    text: str
    values: list[Any]


@dataclass(frozen=True)
class Portion:
    """n rows that are scored together.

    Attributes:
        texts: n texts.
        values: the original columns of the n rows: a list of values each, or all of them where they have types.
        bad: rows among them that cannot be read; not among the n.
        empty: how many texts are empty; the first of them stands in `first_empty`.
        done: rows or bytes of the source that have been read when this portion ends.
    """

    texts: list[str]
    values: list[list[Any]] | RecordBatch
    bad: list[BadRow]
    empty: int
    first_empty: str | None
    done: int

    def rows(self) -> list[list[Any]]:
        """Return values of the original columns, a list for each of the n rows."""
        if isinstance(self.values, list):
            return self.values
        columns = [column.to_pylist() for column in self.values.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def add_to(self, digest: hashlib._Hash) -> None:
        """Let a digest of all portions so far know this one."""
        read = (self.rows(), [tuple(row) for row in self.bad])
        digest.update(repr(read).encode("utf-8", errors="surrogatepass"))


def rows_at_once(most: int, columns: int) -> int:
    """Return how many rows with that number of columns are held at a time: `most`, or fewer of wide ones."""
    return max(1, min(most, _PORTION_CELLS // max(1, columns)))


def portioned(rows: Iterable[Row | BadRow], n_rows: int, done: Callable[[], int]) -> Iterator[Portion]:
    """Divide rows into portions of `n_rows`, or fewer where texts are long.

    Where a portion ends depends on what stands before alone, so that a run that goes on makes the same portions.

    Args:
        done: how much of the source has been read.
    """
    kept: list[Row] = []
    bad: list[BadRow] = []
    characters = 0
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            kept.append(row)
            characters += len(row.text)
        if len(kept) + len(bad) >= n_rows or characters >= PORTION_CHARACTERS:
            yield _portion(kept, bad, done())
            kept, bad, characters = [], [], 0
    if kept or bad:
        yield _portion(kept, bad, done())


def _portion(kept: list[Row], bad: list[BadRow], done: int) -> Portion:
    empty = [row for row in kept if not row.text.strip()]
    first = f"{empty[0].source} row {empty[0].number}" if empty else None
    return Portion([row.text for row in kept], [row.values for row in kept], bad, len(empty), first, done)


def read_ahead(portions: Iterator[Portion]) -> Generator[Portion, None, None]:
    """Return the portions; while one is being scored, the next is read."""
    with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
        coming = reader.submit(next, portions, None)
        while (portion := coming.result()) is not None:
            coming = reader.submit(next, portions, None)
            yield portion
