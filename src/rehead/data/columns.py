"""A table of text cells: whether its first row names the columns, and which of them hold texts and labels.

What is known decides; a guess is said with its rivals.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rehead.runtime import progress
from rehead.runtime.errors import DataError

# The longest field that can be a text to classify; a longer one is a binary or a file without line breaks.
MAX_FIELD_CHARACTERS = 1_000_000
# JSON can spell half a character, which no encoding can write.
SURROGATE = re.compile("[\ud800-\udfff]")

# Names that people give to the two columns; the first that a table has is taken.
TEXT_NAMES = (
    *("text", "message", "sentence", "content", "body", "review", "document", "article", "tweet", "sms"),
    *("utterance", "comment", "question", "description", "title", "v2"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "topic", "intent", "sentiment", "y", "tag"),
    *("stars", "rating", "v1"),
)
# How programs write that there is no value, in a cell that should hold one.
_MISSING = frozenset(["nan", "NaN", "-nan", "<NA>", "NA", "N/A", "n/a", "#N/A", "#NA", "NaT", "None", "NULL", "null"])
# The share of the cells below a name that are of another kind than it.
_MOSTLY = 0.95
# Fewer rows say nothing about what is usual in a column.
_FEW = 3
_NAME = re.compile(r"[^\W\d]\w*([ ._-]?\w+){0,2}")
_FILE = re.compile(r"\S.*\w\.[A-Za-z][A-Za-z0-9]{1,4}")
_WORD = re.compile(r"[a-z]\w*|[A-Z][A-Z_]+|\w+_\w+")
# Of the known names of a text column, these often stand above a short text beside the long one.
_WEAK_NAMES = ("question", "description", "title", "comment", "v2")
# Texts that are longer than another column's by this factor are the likelier ones.
_LONGER = 2.0
# A column whose values come up again has at most these, or one for this number of rows.
_MOST_VALUES, _ROWS_A_VALUE = 50, 5
# In fewer rows, values that are all different say nothing.
_FEW_ROWS = 10
# Words a cell from which on a column holds texts.
_WORDS = 3.0
# Rivals that are named in a warning.
_NAMED = 5
_NUMBERED = re.compile(r"column \d+")
# As many as a spreadsheet can have. What follows from a column's cells is not looked for among more.
_MAX_COLUMNS = 16_384


def require_width(columns: int, source: object) -> None:
    """Raise DataError where a table has more columns than any that people make."""
    if columns > _MAX_COLUMNS:
        raise DataError(f"{source} has {columns:,} columns, the limit is {_MAX_COLUMNS:,}; keep those that are needed")


def require_different(columns: list[str], where: str) -> None:
    """Raise DataError where two columns have the same name, or there are too many."""
    require_width(len(columns), where)
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{where}: two columns are named {twice!r}; rename one of them")


@dataclass(frozen=True)
class Table:
    """A table as it stands in a file: every cell is text, None where there is no value.

    Attributes:
        source: where it came from, for messages.
        columns: names of the columns.
        rows: one list of cells a row, as many as there are columns.
        lines: the line in the file at which each row begins, from 1 (the row's number, where there are no lines).
        header: whether the names stand in the file.
    """

    source: str
    columns: list[str]
    rows: list[list[str | None]]
    lines: list[int]
    header: bool = True

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.columns)}

    def column(self, name: str) -> list[str | None]:
        position = self._positions[name]
        return [row[position] for row in self.rows]


def listed(values: Any) -> list[Any]:
    """Return the values of any library's sequence or array, as Python's own where they would be no texts or labels.

    Raises:
        DataError: it is one value, or a dictionary, of which only the keys would be taken.
    """
    if isinstance(values, Mapping):
        raise DataError("a dictionary is no list of texts or labels; give its values, such as list(y.values())")
    if isinstance(values, str | bytes) or getattr(values, "shape", None) == ():
        raise DataError(f"{values!r:.40} is one text or label; give a list of them")
    if str(getattr(values, "dtype", "")) in ("float32", "float16"):
        return list(np.asarray(values))  # as short as they were written, and not as Python's own
    if hasattr(values, "to_pylist"):
        return list(values.to_pylist())
    return list(values if hasattr(values, "__iter__") else np.asarray(values))


def is_no_value(value: object) -> bool:
    """Return whether it is None, not a number or not a time, of whichever library."""
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def as_text(cell: object) -> str | None:
    """Return a value as the text of a cell; None for none, and for what is not a number."""
    if isinstance(cell, str):
        return str.__str__(cell)  # a member of a str Enum has another text
    if is_no_value(cell):
        return None
    if isinstance(cell, bytes):
        return cell.decode("utf-8", errors="replace")
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def is_utf8(cell: bytes) -> bool:
    """Return whether they are the bytes of a text."""
    try:
        cell.decode()
    except UnicodeDecodeError:
        return False
    return True


def with_names(cell: object, names: list[str]) -> object:
    """Return the class that a number stands for, or those of a list; None for -1, which stands for no label."""
    if isinstance(cell, list):
        return [with_names(each, names) for each in cell]
    if isinstance(cell, float) and cell.is_integer():  # as pandas makes of whole numbers where some are missing
        cell = int(cell)
    if isinstance(cell, int) and cell < 0:
        return None
    return names[cell] if isinstance(cell, int) and cell < len(names) else cell


def header_of(
    rows: Sequence[Sequence[str | None]], source: object, *, unlabelled: bool, names: Collection[str] = ()
) -> bool:
    """Return whether the first row names the columns, and warn where it could as well be an example.

    Args:
        unlabelled: texts alone are enough, so that nothing need come up again.
        names: that are expected; one such as "column 2" says that a first row that could be an example is one.
    """
    header, is_sure = _is_header(rows, unlabelled, names)
    if is_sure:
        return header
    shown = " ".join(", ".join(cell or "" for cell in rows[0])[:100].split())
    if header and not any(map(_NUMBERED.fullmatch, names)):
        progress.warn(
            f"{source}: its first row ({shown}) is taken for the names of the columns; if it is an example, name the "
            "column of the texts by its number, such as 'column 2', with `text_column`"
        )
        return True
    if not header:
        _warn_of_example(source, shown)
    return False


def is_name_of_texts(texts: Sequence[str], source: object, names: Collection[str]) -> bool:
    """Return whether the first of the texts of a table of one column is its name, and warn where it may be one."""
    name = texts[0].strip()
    if name.lower() in {*TEXT_NAMES, *map(str.lower, names)}:
        return True
    if _NAME.fullmatch(name) and _mostly(_is_sentence, [text.strip() for text in texts[1:]]):
        _warn_of_example(source, name)
    return False


def _warn_of_example(source: object, first_row: str) -> None:
    progress.warn(
        f"{source}: its first row ({first_row}) is taken for an example; if it names the columns, give the name of "
        "that of the texts with `text_column`"
    )


def _is_header(rows: Sequence[Sequence[str | None]], unlabelled: bool, names: Collection[str]) -> tuple[bool, bool]:
    """Return whether the first row names the columns, and whether that is sure.

    One of the `names` that are expected does, and so do two known ones, and one above numbers or names of files. So
    does a known name that does not come up again in its column, or a word above sentences. Otherwise a first cell that
    comes up again is a value, and a first row with nothing of this is a header where labels are expected, which would
    come up again. What is decided by this alone is sure if in some column hardly a value stands alone.
    """
    cells = [(cell or "").strip("\ufeff \t\n") for cell in rows[0]]
    first = [cell.lower() for cell in cells]
    if set(first) & {name.lower() for name in names}:
        return True, True
    below = [[(row[i] or "").strip() for row in rows[1:] if len(row) > i] for i in range(len(first))]
    columns = [(cell, column) for cell, column in zip(cells, below, strict=True) if cell or any(column)]
    known = [(cell, column) for cell, column in columns if cell.lower() in TEXT_NAMES or cell.lower() in LABEL_NAMES]
    again = [cell for cell, column in columns if cell.lower() in map(str.lower, column)]
    if len(known) >= 2 or any(_names_a_kind(cell, column) for cell, column in columns):
        return True, True
    is_new = any(_is_no_value_of(cell, column) for cell, column in columns)
    if any(is_number(cell) and _mostly(is_number, column, least=1) for cell, column in columns):
        return False, not any(_NAME.fullmatch(cell) and _is_no_value_of(cell, column) for cell, column in columns)
    are_names = all(_NAME.fullmatch(cell) for cell, _ in columns)
    if known and known[0][0] not in again:
        return True, is_new or (are_names and _suits(*known[0]))
    # A single word in the form of a name above texts of several words.
    if sentences := [column for cell, column in columns if _WORD.fullmatch(cell) and _mostly(_is_sentence, column)]:
        short = min(1 + sum(not _is_sentence(text) for text in column) for column in sentences)
        return True, short <= (1 - _MOSTLY) * len(rows) or (is_new and not again)
    if again or not all(cell for cell, _ in columns) or len(set(first)) < len(first):
        return False, not are_names
    return (True, is_new) if is_new or not unlabelled else (False, not are_names)


def _names_a_kind(cell: str, column: list[str]) -> bool:
    """Return whether a cell is a name above numbers or names of files, or none above the numbers of the rows."""
    if not cell:
        return len(column) >= _FEW and column in ([str(i + start) for i in range(len(column))] for start in (0, 1))
    if _FILE.fullmatch(cell) is None and _mostly(lambda text: bool(_FILE.fullmatch(text)), column, least=1):
        return True
    return bool(_NAME.fullmatch(cell)) and not is_missing(cell) and _mostly(is_number, column)


def _suits(name: str, column: list[str]) -> bool:
    """Return whether a known name stands above what it names: labels, or texts that hardly come up again."""
    return name.lower() in LABEL_NAMES or (2 * len(set(column)) > len(column) and any(" " in cell for cell in column))


def _is_no_value_of(cell: str, column: list[str]) -> bool:
    """Return whether a cell is not in a column that hardly has other values.

    The share of values that stand alone estimates how likely a further one is new (Good, Biometrika 40, 1953).
    """
    counts = Counter(value.lower() for value in column if value)
    alone = sum(count == 1 for count in counts.values())
    return cell.lower() not in counts and (alone + 1) / (counts.total() + 1) <= 1 - _MOSTLY


def _mostly(is_kind: Callable[[str], bool], column: list[str], least: int = _FEW) -> bool:
    """Return whether nearly all of a column's cells are of a kind; of few cells nothing can be said."""
    filled = [cell for cell in column if cell]
    return len(filled) >= least and sum(map(is_kind, filled)) >= _MOSTLY * len(filled)


def is_missing(cell: str) -> bool:
    """Return whether a cell says that there is no value."""
    return cell.strip() in _MISSING


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_sentence(text: str) -> bool:
    return len(text.split()) >= 4


def infer_columns(table: Table, text_column: str | None, label_column: str | None) -> tuple[str, str]:
    """Return which column holds the texts and which the labels, honouring what the user named.

    Raises:
        DataError: a named column does not exist, or no column looks like labels or texts.
    """
    for option, name in (("`text_column`", text_column), ("`label_column`", label_column)):
        require_column(table, name, option)
    if text_column is not None and text_column == label_column:
        raise DataError(f"{table.source}: column {text_column!r} cannot be the text and the label; name two columns")
    label = label_column or _infer_label_column(table, text_column)
    return infer_text_column(table, text_column, label), label


def require_column(table: Table, name: str | None, option: str) -> None:
    """Raise DataError where a column that was named is not there."""
    if name is not None and name not in table.columns:
        columns = ", ".join(table.columns)
        raise DataError(f"{table.source} has no column {name!r} ({option}); its columns are {columns[:500]}")


def known_column(table: Table, name: str | None, option: str) -> str | None:
    """Return the column that a classifier was trained on, in a table to be classified or measured.

    Args:
        name: of that column; None where it is not known.
        option: that names another one.

    Returns:
        None where it has to be found: none is known, or neither table has names.

    Raises:
        DataError: the table has names, and not this one.
    """
    if name is None or name in table.columns:
        return name
    alike = [column for column in table.columns if column.strip().casefold() == name.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    if _NUMBERED.fullmatch(name) or not table.header or len(table.columns) == 1:
        return None
    columns = ", ".join(table.columns)
    raise DataError(
        f"{table.source} has no column {name!r}, which the classifier was trained on; its columns are {columns[:500]}: "
        f"name the right one with {option}, or rename it to {name!r}"
    )


def text_column_of(table: Table, named: str | None, trained_on: str | None) -> str:
    """Return the column of the texts to be classified: the one that is named, else the one that the classifier was
    trained on, else, where the table has no names or only one column, as `infer_text_column` says.

    Raises:
        DataError: it is not there.
    """
    require_column(table, named, "`text_column`")
    known = named or known_column(table, trained_on, "`text_column`")
    if known is None and len(table.columns) > 1 and not table.header and trained_on and not _NUMBERED.match(trained_on):
        found = infer_text_column(table, None, None, quietly=True)
        progress.warn(
            f"{table.source} does not name its columns, so {found!r}, the one with the longest texts, is read for "
            f"{trained_on!r}; name another with `text_column`"
        )
        return found
    return known or infer_text_column(table, None, None)


def infer_text_column(table: Table, text_column: str | None, label_column: str | None, *, quietly: bool = False) -> str:
    """Return which column holds the texts: the one named, else by its name, else the one with the longest cells.

    Raises:
        DataError: the named column does not exist, or the labels are the only column.
    """
    require_column(table, text_column, "`text_column`")
    if text_column is not None:
        return text_column
    others = [name for name in table.columns if name != label_column]
    if not others:
        raise DataError(f"{table.source} has no column beside {label_column!r}; give a file with texts and labels")
    # What is the same in every row says nothing of it.
    others = [name for name in others if len(_values(table, name)) > 1] or others
    # Nor does a code, an address of a page or an object, however long it is.
    others = [name for name in others if not _mostly(_is_code, [cell or "" for cell in table.column(name)])] or others
    lengths = {name: _mean(len, table, name) for name in others}
    longest = max(others, key=lambda name: lengths[name])
    by_name = _by_name(others, TEXT_NAMES)
    chosen = by_name or longest
    if by_name and by_name.lower() in _WEAK_NAMES and lengths[longest] >= _LONGER * lengths[by_name]:
        chosen = longest
    rivals = [
        name
        for name in others
        if name != chosen
        and _words(table, name) >= _WORDS
        and (lengths[name] >= lengths[chosen] / _LONGER or name == by_name or name.lower() in TEXT_NAMES)
    ]
    if by_name == chosen and chosen.lower() not in _WEAK_NAMES:
        # A name such as "text" leaves no doubt unless another column is much longer or has such a name, too.
        rivals = [name for name in rivals if name.lower() in TEXT_NAMES or lengths[name] >= _LONGER * lengths[chosen]]
    if rivals and not quietly:
        _warn_of(table, "texts", chosen, rivals, "`text_column`")
    return chosen


def _infer_label_column(table: Table, text_column: str | None) -> str:
    """Return the column with a known name whose values can be labels, else the one with the fewest values."""
    others = [name for name in table.columns if name != text_column]
    values = {name: _values(table, name) for name in others}
    n = len(table.rows)
    sensible = [name for name in others if len(values[name]) >= 2 and (len(values[name]) < n or n < _FEW_ROWS)]
    # Several labels together may be all different and yet be labels.
    listed = [name for name in others if values[name] and all(v[0] in "[(" or ";" in v for v in values[name])]
    by_name = _by_name([name for name in others if name in sensible or name in listed], LABEL_NAMES)
    most = max(_MOST_VALUES, n / _ROWS_A_VALUE)
    repeated = [name for name in sensible if len(values[name]) <= most and len(values[name]) < n]
    # A text column in which much comes up again is no column of labels beside one of short values.
    short = [name for name in repeated if _words(table, name) < _WORDS] or repeated
    candidates = [name for name in short if not _is_measure(values[name])] or short
    truths = ({"0", "1"}, {"0.0", "1.0"}, {"true", "false"}, {"yes", "no"}, {"y", "n"})
    flags = [name for name in candidates if any({*map(str.lower, values[name])} <= pair for pair in truths)]
    if by_name is None and candidates and len(flags) == len(candidates) > 1:
        raise DataError(
            f"{table.source}: {', '.join(flags[:_NAMED])} hold yes or no each, a column for each label; name one with "
            "`label_column`, or write the labels of a text into one column, with ; between them"
        )
    chosen = by_name or min(
        [name for name in candidates if name not in flags] or flags, key=lambda name: len(values[name]), default=None
    )
    if chosen is None:
        raise DataError(
            f"{table.source}: none of its columns ({', '.join(table.columns)[:200]}) looks like labels, few values "
            f"that repeat{_why_none(values, n)}; name it with `label_column`"
        )
    rivals = [name for name in candidates if name != chosen]
    if by_name is not None:
        rivals = [name for name in rivals if name.lower() in LABEL_NAMES or _are_names_of(table, name, chosen)]
    if rivals:
        _warn_of(table, "labels", chosen, rivals, "`label_column`")
    return chosen


def _why_none(values: dict[str, set[str]], n: int) -> str:
    """Return why the column that is most likely to be meant cannot be the labels.

    Args:
        values: different ones of each column.
        n: rows of the table.
    """
    constant = next((name for name in values if len(values[name]) == 1), None)
    name = _by_name(list(values), LABEL_NAMES) or constant
    if name is None or len(values[name]) not in (1, n):
        return ""
    if len(values[name]) == n > 1:
        return f": {name!r} has another value in every row"
    return f": {name!r} has one value alone, and a classifier needs examples of at least two classes"


def _warn_of(table: Table, what: str, chosen: str, rivals: list[str], option: str) -> None:
    named = ", ".join(map(repr, rivals[:_NAMED])) + (", ..." if len(rivals) > _NAMED else "")
    verb = "holds" if len(rivals) == 1 else "hold"
    progress.warn(
        f"{table.source}: {what} are taken from {chosen!r}; {named} may be what {verb} them as well: name the right "
        f"column with {option}"
    )


def _by_name(columns: list[str], names: tuple[str, ...]) -> str | None:
    lowered = {column.strip().lower(): column for column in columns}
    return next((lowered[name] for name in names if name in lowered), None)


def _values(table: Table, name: str) -> set[str]:
    return {cell.strip() for cell in table.column(name) if cell and cell.strip()}


def _are_names_of(table: Table, name: str, numbers: str) -> bool:
    """Return whether a column has words for the numbers in another: each of its values beside one of those."""
    if is_number(table.column(name)[0] or "0") or not all(map(is_number, _values(table, numbers))):
        return False
    pairs = set(zip(table.column(name), table.column(numbers), strict=True))
    return len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs})


def _is_code(cell: str) -> bool:
    return cell.isascii() and (" " not in cell.strip() or (cell[0], cell[-1]) == ("{", "}"))


def _is_measure(values: set[str]) -> bool:
    """Return whether the values are many numbers, as of a price or a date, rather than names of classes."""
    return len(values) > 2 * _FEW_ROWS and all(map(is_number, values))


def _mean(measure: Callable[[str], int], table: Table, name: str) -> float:
    """Return the mean over a column's cells of what is measured of each."""
    return sum(measure(cell or "") for cell in table.column(name)) / max(1, len(table.rows))


def _words(table: Table, name: str) -> float:
    return _mean(lambda cell: len(cell.split()), table, name)
