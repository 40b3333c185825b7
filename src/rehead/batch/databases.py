"""Rows out of a database, as they come: the result of a query is never in memory as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rehead.batch.portions import Portion, Row, portioned
from rehead.data.columns import SURROGATE, Table, as_text, is_utf8
from rehead.data.records import BadRow, problem_of_length
from rehead.runtime.errors import DataError, SettingError, first_line

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

PREFIXES = ("sqlite:", "duckdb:", "postgresql:")
# Rows that are fetched at a time, and looked at to choose the text column.
_FETCHED = 2000


class Query:
    """Rows of a query's result. A `rehead.batch.sources.RowSource`.

    They may come in another order, or be others, when the query is asked again.

    Args:
        name: of the database, without a password.

    Attributes:
        total: rows that the query had when it was counted.

    Raises:
        DataError: the query is refused, or has no rows.
    """

    changeable = True
    schema = None

    def __init__(self, connection: Connection, name: str, query: str) -> None:
        self._connection, self._name = connection, name
        self._query = query.strip().rstrip(";").rstrip()
        self.identity = f"{name}\n{self._query}"
        with _said_as(name):
            # A comment may end the query.
            counted = connection.exec_driver_sql(
                f"SELECT COUNT(*) FROM ({self._query}\n) AS counted",  # noqa: S608
                execution_options={"no_parameters": True},
            )
            self.total = int(counted.scalar_one())
        self._asked: tuple[Any, list[Any]] | None = self._ask()
        result, first = self._asked
        self.columns = list(result.keys())
        if twice := next((column for column in self.columns if self.columns.count(column) > 1), None):
            raise DataError(f"{name}: two columns of the query are named {twice!r}; name one of them with AS")
        if not first:
            raise DataError(f"{name}: the query has no rows")
        rows = [[as_text(cell) for cell in row] for row in first]
        self.sample = Table(name, self.columns, rows, list(range(1, len(rows) + 1)))

    def _ask(self) -> tuple[Any, list[Any]]:
        """Return the result, and its first rows."""
        options = {"no_parameters": True, "yield_per": _FETCHED}
        with _said_as(self._name):
            result = self._connection.exec_driver_sql(self._query, execution_options=options)
            return result, list(result.fetchmany(_FETCHED))

    def portions(self, text_column: str, n_rows: int) -> Iterator[Portion]:
        """Yield all rows; see `rehead.batch.portions.portioned`. From the second time on the query is asked anew."""
        result, first = self._asked or self._ask()
        self._asked = None
        read, at = 0, self.columns.index(text_column)

        def rows() -> Iterator[Row | BadRow]:
            nonlocal read
            with _said_as(self._name):
                for row in chain(first, result):
                    read += 1
                    yield self._checked(read, list(row), at)

        return portioned(rows(), n_rows, lambda: min(read, self.total))

    def _checked(self, number: int, values: list[Any], at: int) -> Row | BadRow:
        problem = None
        for name, value in zip(self.columns, values, strict=True):
            if isinstance(value, str):
                problem = problem or problem_of_length(name, len(value))
                if not value.isascii() and SURROGATE.search(value):
                    problem = problem or f"column {name!r} cannot be decoded"
        if isinstance(values[at], bytes) and not is_utf8(values[at]):
            problem = problem or f"column {self.columns[at]!r} is not UTF-8"
        if problem:
            content = ", ".join(f"{name}: {as_text(cell)}" for name, cell in zip(self.columns, values, strict=True))
            return BadRow(self._name, number, problem, content)
        return Row(self._name, number, as_text(values[at]) or "", values)


def is_database(address: str) -> bool:
    """Return whether it says where a database is, rather than being a text or a file."""
    has_space = any(character.isspace() for character in address)
    return address.startswith("postgresql://") or (address.startswith(PREFIXES) and not has_space)


@contextmanager
def opened(address: str, query: str | None) -> Iterator[Query]:
    """Yield the rows of a query, as long as the database is open; nothing in it is changed.

    Args:
        address: `sqlite:FILE`, `duckdb:FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.

    Raises:
        SettingError: there is no query, or what talks to databases is not installed.
        DataError: the database cannot be opened, or the query is refused.
    """
    if not query or not query.strip():
        raise SettingError('which rows of the database? Give `query="SELECT ..."`')
    engine, name = _engine(address)
    with _said_as(name), engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True)
        if connection.dialect.name == "duckdb":
            # It would stand on stdout, among the JSON, where a query takes more than two seconds.
            connection.exec_driver_sql("SET enable_progress_bar = false")
        yield Query(connection, name, query)


def _engine(address: str) -> tuple[Engine, str]:
    """Return what connects to the database, and the database's name without a password."""
    try:
        import sqlalchemy
    except ImportError:
        raise SettingError("databases need a few packages more: pip install 'rehead[databases]'") from None
    kind, _, rest = address.partition(":")
    try:
        if kind == "postgresql":
            url = _url(address)
            engine = sqlalchemy.create_engine(url.set(drivername="postgresql+psycopg"), poolclass=sqlalchemy.NullPool)
            return engine, url.render_as_string(hide_password=True)
        path = Path(rest.removeprefix("///"))
        if not path.is_file():
            raise DataError(f"{path}: no such file; check the path of the database")
        if kind == "duckdb":
            where = sqlalchemy.URL.create("duckdb", database=str(path))
            engine = sqlalchemy.create_engine(where, connect_args={"read_only": True}, poolclass=sqlalchemy.NullPool)
        else:
            engine = sqlalchemy.create_engine("sqlite://", creator=lambda: _sqlite(path), poolclass=sqlalchemy.NullPool)
        return engine, f"{kind}:{path}"
    except (ImportError, sqlalchemy.exc.NoSuchModuleError):
        raise SettingError(f"{kind} needs packages that are not there: pip install 'rehead[databases]'") from None


def _url(address: str) -> URL:
    import sqlalchemy

    try:
        url = sqlalchemy.make_url(address)
        # Of a password with an @ in it a part would be taken for the host, and be said.
        readable = "@" not in (url.host or "")
    except (sqlalchemy.exc.ArgumentError, ValueError):
        readable = False
    if not readable:
        raise SettingError(
            "the database's address cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/NAME, with %40 for an @ "
            "in the password"
        ) from None
    return url


def _sqlite(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False)
    # One that is not UTF-8 must not end the run.
    connection.text_factory = lambda content: content.decode("utf-8", errors="surrogateescape")
    return connection


@contextmanager
def _said_as(name: str) -> Iterator[None]:
    """Let what the database refuses be an error with its own first line, and no more of what was sent to it."""
    import sqlalchemy

    try:
        yield
    except sqlalchemy.exc.SQLAlchemyError as error:
        refused = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig else error
        raise DataError(f"{name}: {first_line(refused)}; check the address and the query") from error
