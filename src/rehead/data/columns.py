"""Which columns of a table hold texts and labels: what is known decides, and a guess is said with its rivals."""

from __future__ import annotations

import re

from rehead.data.cells import Table
from rehead.data.headers import LABEL_NAMES, TEXT_NAMES, is_number
from rehead.runtime import progress
from rehead.runtime.errors import DataError

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
    lengths = {name: _mean_length(table, name) for name in others}
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
    listed = [name for name in others if _is_of_lists(values[name])]
    by_name = _by_name([name for name in others if name in sensible or name in listed], LABEL_NAMES)
    most = max(_MOST_VALUES, n / _ROWS_A_VALUE)
    repeated = [name for name in sensible if len(values[name]) <= most and len(values[name]) < n]
    # A text column in which much comes up again is no column of labels beside one of short values.
    short = [name for name in repeated if _words(table, name) < _WORDS] or repeated
    candidates = [name for name in short if not _is_measure(values[name])] or short
    flags = [name for name in candidates if values[name] <= {"0", "1"} or _lowered(values[name]) <= {"true", "false"}]
    if by_name is None and candidates and len(flags) == len(candidates) > 1:
        raise DataError(
            f"{table.source}: {', '.join(flags[:_NAMED])} hold 0 and 1 each, a column for each label; name one with "
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
        rivals = [name for name in rivals if name.lower() in LABEL_NAMES]
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


def _lowered(values: set[str]) -> set[str]:
    return {value.lower() for value in values}


def _is_of_lists(values: set[str]) -> bool:
    """Return whether every value is a list, so that several together may be all different and yet be labels."""
    return bool(values) and all(value[0] in "[(" or ";" in value for value in values)


def _is_measure(values: set[str]) -> bool:
    """Return whether the values are many numbers, as of a price or a date, rather than names of classes."""
    return len(values) > 2 * _FEW_ROWS and all(map(is_number, values))


def _mean_length(table: Table, name: str) -> float:
    return sum(len(cell or "") for cell in table.column(name)) / max(1, len(table.rows))


def _words(table: Table, name: str) -> float:
    return sum(len((cell or "").split()) for cell in table.column(name)) / max(1, len(table.rows))
