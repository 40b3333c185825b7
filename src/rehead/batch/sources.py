"""Where rows come from: a file, a folder of files, a pattern of their names, or a database."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from rehead.batch import databases
from rehead.data.dialects import ARROW, DELIMITED, IN_PORTIONS, PARQUET, kind_of
from rehead.data.records import read_head
from rehead.data.tables import FORMATS, is_named_as_table, is_saved_data_set
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError

if TYPE_CHECKING:
    from rehead.batch.databases import Query
    from rehead.batch.parquet_files import ParquetFiles
    from rehead.batch.text_files import TextFiles, WholeFiles

# The column that says which file a row is from, where there are several.
FILE_COLUMN = "file"


# Rows that are read in portions. Of each source:
#   columns: names of the original columns, in order.
#   schema: names and types of these, where they have types.
#   sample: the first rows, to choose the text column by.
#   total: of what is read, in rows or bytes.
#   identity: of what is read; another one, other rows.
#   changeable: whether the rows may be others next time although the identity is the same.
#   portions: all rows, from the first one; what bounds a portion is said by `rehead.batch.portions.portioned`.
RowSource: TypeAlias = "Query | ParquetFiles | TextFiles | WholeFiles"


def is_table(source: str) -> bool:
    """Return whether INPUT is a table that can be read in portions, or several; looks at names alone."""
    if databases.is_database(source):
        return True
    try:
        path = Path(source)
        if path.exists():
            return path.is_file() or is_saved_data_set(path) or any(_is_table_file(file) for file in path.iterdir())
    except OSError:  # too long for a file's name, so it is a text
        return False
    is_pattern = glob.has_magic(source) and os.sep in source and not any(map(str.isspace, source))
    return is_named_as_table(source) or is_pattern or bool(_matching(source))


@contextmanager
def opened(source: str, query: str | None, output: Path, names: Collection[str] = ()) -> Iterator[RowSource]:
    """Yield the rows of INPUT, as long as it is open.

    Args:
        query: of a database: which rows.
        output: where results go; in a folder of tables it is not one of them.
        names: of columns that are looked for; a first row with one of them is a header.

    Raises:
        DataError: something cannot be read, or several files do not have the same columns.
        SettingError: a query without a database, or the other way round.
    """
    if databases.is_database(source):
        with databases.opened(source, query) as rows_of_query:
            yield rows_of_query
        return
    if query is not None:
        raise SettingError(f"`query` is for databases, and {source} is none; leave it out")
    files = files_of(source, output)
    if len(files) > 1:
        progress.say(f"{source}: {len(files):,} tables")
    yield rows_of(files, FILE_COLUMN if len(files) > 1 else None, names)


def rows_of(files: list[tuple[Path, str]], file_column: str | None, names: Collection[str] = ()) -> RowSource:
    """Return the rows of files, one after the other.

    Args:
        files: and what each is called in results.
        file_column: the name of a column that says which file a row is from; None for no such column.
        names: of columns that are looked for; a first row with one of them is a header.

    Raises:
        DataError: something cannot be read, several files do not have the same columns, or they have no rows.
    """
    # A file that is empty says nothing about the others.
    heads = (read_head(path) for path, _ in files if path.is_file())
    saved = files[0][0].is_dir()
    with progress.quiet():  # they are read again for their rows
        kind = ARROW if saved else next((kind_of(head) for head in heads if not head.is_empty), DELIMITED)
    rows: RowSource
    if kind == PARQUET:
        from rehead.batch.parquet_files import ParquetFiles

        rows = ParquetFiles(files, file_column)
    else:
        from rehead.batch.text_files import TextFiles, WholeFiles

        rows = (TextFiles if kind in IN_PORTIONS else WholeFiles)(files, kind, file_column, names)
    if rows.columns.count(FILE_COLUMN) > 1:
        raise DataError(f"{files[0][0]} has a column {FILE_COLUMN!r} already, for the names of files; rename it")
    return rows


def files_of(source: str, output: Path) -> list[tuple[Path, str]]:
    """Return the files that INPUT stands for, in the order of their names, and what each is called in results.

    Raises:
        DataError: there are none.
    """
    path = Path(source)
    if path.is_dir() and not is_saved_data_set(path):
        ours = {output.resolve(), bad_rows_file(output).resolve()}
        files = sorted(file for file in path.iterdir() if _is_table_file(file) and file.resolve() not in ours)
        if not files:
            raise DataError(f"{source}: no table lies in that folder; give one with {', '.join(FORMATS)} files")
        return [(file, file.name) for file in files]
    if path.exists():
        return [(path, path.name)]
    if not (files := _matching(source)):
        kind = "file has such a name; check the pattern" if glob.has_magic(source) else "such file; check the path"
        raise DataError(f"{source}: no {kind}")
    return [(file, str(file)) for file in files]


def _matching(pattern: str) -> list[Path]:
    """Return files whose names fit a pattern."""
    if not glob.has_magic(pattern):
        return []
    # Path.glob takes no absolute pattern.
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207
    return sorted(path for name in found if (path := Path(name)).is_file())


def _is_table_file(file: Path) -> bool:
    return file.suffix.lower() in FORMATS and not file.name.startswith(".") and file.is_file()


def bad_rows_file(output: Path) -> Path:
    """Return where rows go that cannot be read: beside the results."""
    return output.with_suffix(".bad.jsonl")
