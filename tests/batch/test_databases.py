"""Rows of databases: as they come, without changing anything, and without saying a password."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import pyarrow.parquet as pq
import pytest

from rehead.artifact.artifact import Artifact
from rehead.artifact.predictor import Predictor
from rehead.batch import databases, sources
from rehead.batch.scoring import score_table
from rehead.runtime import progress
from rehead.runtime.errors import DataError, Interrupted, SettingError
from tests.batch.running import ANSWERS, KINDS, Watched, bad_rows_of, originals, rows_of, same_content, state_folder
from tests.tiny_texts import messages

N = 20
PASSWORD = "s3cret/of@them:all"
TABLE = "CREATE TABLE mails (id INTEGER PRIMARY KEY, text TEXT, price REAL)"
QUERY = "SELECT id, text, price FROM mails ORDER BY id"
NOBODY = 65534


@dataclass(frozen=True)
class Database:
    """One of three kinds, with the table of messages in it.

    Attributes:
        url: as the command is given it.
        execute: runs a statement that changes something.
    """

    url: str
    execute: Callable[[str], None]


def in_sqlite(path: Path) -> Database:
    def execute(statement: str) -> None:
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

    return Database(f"sqlite:{path}", execute)


def in_duckdb(path: Path) -> Database:
    def execute(statement: str) -> None:
        with duckdb.connect(str(path)) as connection:
            connection.execute(statement)

    return Database(f"duckdb:{path}", execute)


def programs_of_postgresql() -> Path | None:
    """The folder with Debian's, or whatever is on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    there = shutil.which("initdb")
    return found[-1].parent if found else Path(there).parent if there else None


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """A server of its own on the loopback device; the URL of its database."""
    programs = programs_of_postgresql()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:  # a socket's path must be short
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        user: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            for path in (folder, folder / "password"):
                os.chown(path, NOBODY, NOBODY)

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(folder / "data"), *arguments]
            subprocess.run(command, check=True, capture_output=True, cwd=folder, **user)

        run("initdb", "-U", "tester", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
        port = str(20000 + os.getpid() % 20000)
        # Its output to a file: a pipe would stay open as long as the server runs.
        options = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off"
        run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql://tester:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "-m", "immediate")


def in_postgresql(url: str) -> Database:
    import psycopg

    def execute(statement: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    return Database(url, execute)


@pytest.fixture(params=["sqlite", "duckdb", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "postgresql":
        made = in_postgresql(request.getfixturevalue("postgresql"))
        made.execute("DROP TABLE IF EXISTS mails")
    else:
        (tmp_path / "in").mkdir()
        made = {"sqlite": in_sqlite, "duckdb": in_duckdb}[request.param](tmp_path / "in" / "mails.db")
    made.execute(TABLE)
    rows = (f"({i}, '{text}', {i / 2 if i else 'NULL'})" for i, text in enumerate(messages(N)[0]))
    made.execute(f"INSERT INTO mails VALUES {', '.join(rows)}")  # noqa: S608
    return made


def test_duckdb_draws_no_bar_on_stdout(tmp_path: Path) -> None:
    database = in_duckdb(tmp_path / "mails.db")
    database.execute(TABLE)
    query = "SELECT cast(current_setting('enable_progress_bar') AS varchar) AS text, 'a column' AS other"
    with sources.opened(database.url, query, tmp_path / "out.csv") as source:
        assert [portion.texts for portion in source.portions("text", 9)] == [["false"]]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_query_are_scored(
    model: Artifact, predictor: Predictor, database: Database, tmp_path: Path, kind: str
) -> None:
    output = tmp_path / f"out.{kind}"
    told: list[tuple[int, int]] = []
    result = score_table(
        model,
        predictor,
        database.url,
        output,
        query=f"{QUERY}; ",
        portion_rows=8,
        on_progress=lambda done, total: told.append((done, total)),
    )
    rows = rows_of(output)
    assert list(rows[0]) == ["id", "text", "price", *ANSWERS]
    assert [row["text"] for row in rows] == messages(N)[0]
    assert result.rows == N
    assert told == [(8, N), (16, N), (N, N), (N, N)]
    if kind == "jsonl":
        assert originals(rows)[:2] == [
            {"id": 0, "text": messages(1)[0][0], "price": None},
            {"id": 1, "text": messages(2)[0][1], "price": 0.5},
        ]
    if kind == "parquet":
        assert pq.read_schema(output).field("id").type == "string"


def test_percent_signs_colons_and_comments_are_the_querys_own(
    model: Artifact, predictor: Predictor, database: Database, tmp_path: Path
) -> None:
    query = "SELECT text, 'at 12:30 :x' AS note FROM mails WHERE text LIKE '%free%' -- and no more"
    result = score_table(model, predictor, database.url, tmp_path / "out.csv", query=query)
    assert result.rows == sum("free" in text for text in messages(N)[0]) > 0
    assert rows_of(tmp_path / "out.csv")[0]["note"] == "at 12:30 :x"


def interrupt(model: Artifact, predictor: Predictor, database: Database, output: Path) -> None:
    with pytest.raises(Interrupted):
        score_table(model, Watched(predictor, interrupted_at=3), database.url, output, query=QUERY, portion_rows=4)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_query_goes_on_where_rows_come_in_the_same_order(
    model: Artifact, predictor: Predictor, database: Database, tmp_path: Path, kind: str
) -> None:
    whole, output = tmp_path / f"whole.{kind}", tmp_path / f"out.{kind}"
    score_table(model, predictor, database.url, whole, query=QUERY, portion_rows=4)
    interrupt(model, predictor, database, output)
    # Behind what was scored, rows may have come since.
    result = score_table(model, predictor, database.url, output, query=QUERY, portion_rows=4)
    assert result.resumed_rows == 8
    assert same_content(output, whole)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE mails SET price = -1 WHERE id = 3",
        "DELETE FROM mails WHERE id = 7",
        "DELETE FROM mails WHERE id > 2",
        "INSERT INTO mails VALUES (-1, 'new', 0)",
    ],
)
def test_a_query_with_other_rows_begins_anew_and_says_how_to_avoid_it(
    model: Artifact,
    predictor: Predictor,
    database: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: str,
) -> None:
    output = tmp_path / "out.csv"
    interrupt(model, predictor, database, output)
    database.execute(change)
    progress.show(True)
    try:
        result = score_table(model, predictor, database.url, output, query=QUERY, portion_rows=4)
    finally:
        progress.show(False)
    assert "ORDER BY a unique column" in capsys.readouterr().err.replace("\n", " ")
    assert result.resumed_rows == 0
    score_table(model, predictor, database.url, tmp_path / "whole.csv", query=QUERY, portion_rows=4)
    assert same_content(output, tmp_path / "whole.csv")


def test_rows_that_have_come_since_are_scored_too(
    model: Artifact, predictor: Predictor, database: Database, tmp_path: Path
) -> None:
    interrupt(model, predictor, database, tmp_path / "out.csv")
    database.execute("INSERT INTO mails VALUES (99, 'new', 0)")
    result = score_table(model, predictor, database.url, tmp_path / "out.csv", query=QUERY, portion_rows=4)
    assert (result.rows, result.resumed_rows) == (N + 1, 8)


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM mails", "SELECT 1; DELETE FROM mails", "SELECT * FROM nowhere", "SELEC 1", "SELECT * FROM mails) --"],
)
def test_what_is_no_query_is_refused_and_changes_nothing(
    model: Artifact, predictor: Predictor, database: Database, tmp_path: Path, query: str
) -> None:
    with pytest.raises(DataError) as refused:
        score_table(model, predictor, database.url, tmp_path / "out.csv", query=query)
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert score_table(model, predictor, database.url, tmp_path / "out.csv", query=QUERY).rows == N
    assert not state_folder(tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        (None, SettingError, "`query="),
        (" ", SettingError, "`query="),
        ("SELECT text, id AS text FROM mails", DataError, "two columns of the query are named 'text'"),
        ("SELECT text FROM mails WHERE id < -5", DataError, "the query has no rows"),
    ],
)
def test_a_query_that_cannot_be_scored_is_refused(
    model: Artifact,
    predictor: Predictor,
    database: Database,
    tmp_path: Path,
    query: str | None,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        score_table(model, predictor, database.url, tmp_path / "out.csv", query=query)


def test_a_text_that_is_not_utf8_is_set_aside(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    database = in_sqlite(tmp_path / "mails.db")
    database.execute(TABLE)
    database.execute("INSERT INTO mails VALUES (1, 'free', 0), (2, CAST(x'636166e9' AS TEXT), 0)")
    result = score_table(model, predictor, database.url, tmp_path / "out.csv", query=QUERY)
    assert (result.rows, result.bad_rows) == (1, 1)
    (bad,) = bad_rows_of(tmp_path / "out.csv")
    assert (bad["row"], bad["reason"]) == (2, "column 'text' cannot be decoded")
    assert bad["content"] == "id: 2, text: caf\\xe9, price: 0.0"


def test_a_password_is_never_said_or_written(
    model: Artifact,
    predictor: Predictor,
    postgresql: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database = in_postgresql(postgresql)
    database.execute("DROP TABLE IF EXISTS mails")
    database.execute(TABLE)
    database.execute("INSERT INTO mails SELECT n, 'free', 0 FROM generate_series(1, 20) AS n")
    wrong = postgresql.replace("s3cret", "wr0ng")
    secrets = ("s3cret", "wr0ng", "them")
    progress.show(True)
    try:
        interrupt(model, predictor, database, tmp_path / "out.csv")
        with pytest.raises(DataError, match="password authentication failed") as refused:
            score_table(model, predictor, wrong, tmp_path / "other.csv", query=QUERY)
        said = [str(refused.value)]
        for url in (postgresql.replace("%40", "@"), postgresql.replace("127.0.0.1:", "127.0.0.1:x")):
            with pytest.raises((SettingError, DataError)) as refused:
                score_table(model, predictor, url, tmp_path / "other.csv", query=QUERY)
            said.append(str(refused.value))
    finally:
        progress.show(False)
    captured = capsys.readouterr()
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    for place in (*said, captured.out, captured.err, *written):
        assert not any(secret in place for secret in secrets), place


@pytest.mark.parametrize(
    ("given", "is_one"),
    [
        ("sqlite:a.db", True),
        ("duckdb:a", True),
        ("postgresql://u:p@h/d", True),
        ("sqlite: a database", False),
        ("mails.db", False),
    ],
)
def test_a_database_is_told_from_a_text(given: str, is_one: bool) -> None:
    assert databases.is_database(given) == is_one


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_database_that_is_not_there_is_not_made(
    model: Artifact, predictor: Predictor, tmp_path: Path, kind: str
) -> None:
    with pytest.raises(DataError, match=r"nowhere\.db: no such file"):
        score_table(model, predictor, f"{kind}:{tmp_path / 'nowhere.db'}", tmp_path / "out.csv", query="SELECT 1")
    assert list(tmp_path.iterdir()) == []


def test_a_query_of_a_file_is_refused(model: Artifact, predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text\nfree\n")
    with pytest.raises(SettingError, match="`query` is for databases"):
        score_table(model, predictor, str(tmp_path / "data.csv"), tmp_path / "out.csv", query="SELECT 1")


MANY = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    "SELECT i, printf('%.2000c', 'x') || i AS text FROM n",
    "duckdb": "SELECT i, repeat('x', 2000) || i AS text FROM range({}) AS n (i)",
    "postgresql": "SELECT i, repeat('x', 2000) || i AS text FROM generate_series(1, {}) AS n (i)",
}


@pytest.mark.slow
def test_a_result_is_never_in_memory_as_a_whole(database: Database) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from rehead.batch import sources\n"
        "with sources.opened(sys.argv[1], sys.argv[2], Path('out.csv')) as source:\n"
        "    n = sum(len(portion.texts) for portion in source.portions('text', 2048))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for n in (2_000, 150_000):
        query = MANY[database.url.partition(":")[0]].format(n)
        arguments = [sys.executable, "-c", script, database.url, query]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        rows, peak = map(int, done.stdout.split())
        assert rows == n
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 100_000, peaks  # kilobytes; the texts alone are 300 MB
