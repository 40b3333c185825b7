"""`rehead predict -o` on tables: the real command, killed and started again; memory that does not grow."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batch.running import ANSWERS, bad_rows_of, rows_of, same_content, state_folder, write_ids_and_messages
from tests.tiny_models import WORDS

Run = Callable[..., tuple[int, str, str]]


def write_long(path: Path, n: int) -> Path:
    """A CSV file of n rows of a few words each, hardly any of them alike."""
    words = random.Random(0)  # noqa: S311
    with path.open("w") as file:
        file.write("id,text\n")
        for i in range(n):
            file.write(f"{i},{' '.join(words.choices(WORDS, k=6))}\n")
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rehead.cli", "predict", *map(str, arguments)]


def test_a_table_is_written_with_what_is_predicted(in_process: Run, spam: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text(f"id,text\n1,free prize\n2,\n3,{'lunch ' * 80}\n4,x,y\n")
    output = tmp_path / "out.jsonl"
    code, out, err = in_process("predict", spam, data, "-o", output)
    assert (code, out) == (0, "")
    assert [row["id"] for row in rows_of(output)] == ["1", "2", "3"]
    assert re.search(r"warning: 1 row has no text and is classified as empty \(data\.csv row 3, \.\.\.\)", err)
    assert "warning: 1 of 3 texts is longer than the model takes" in err
    assert f"warning: 1 row cannot be read; it is in {tmp_path / 'out.bad.jsonl'}" in err
    assert "3 predictions written" in err
    assert len(bad_rows_of(output)) == 1


def test_json_says_what_became_of_the_rows(in_process: Run, spam: Path, tmp_path: Path) -> None:
    data = write_ids_and_messages(tmp_path / "data.csv", 20)
    code, out, _ = in_process("predict", spam, data, "-o", tmp_path / "out.csv", "--json")
    assert code == 0
    (line,) = out.splitlines()
    printed = json.loads(line)
    assert (printed["rows"], printed["bad_rows"], printed["output"]) == (20, 0, str(tmp_path / "out.csv"))


def test_rows_of_a_database_are_written(in_process: Run, spam: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "mails.db")
    connection.executescript("CREATE TABLE mails (text TEXT); INSERT INTO mails VALUES ('free'), ('lunch');")
    connection.close()
    options = ("--query", "SELECT text FROM mails", "-o", tmp_path / "out.csv")
    assert in_process("predict", spam, f"sqlite:{tmp_path / 'mails.db'}", *options)[0] == 0
    assert list(rows_of(tmp_path / "out.csv")[0]) == ["text", *ANSWERS]


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (("sqlite:mails.db",), "give one with -o"),
        (("sqlite:mails.db", "-o", "out.csv"), "--query"),
        (("free prize", "--query", "SELECT 1"), "--query is for databases"),
        (("nowhere.csv", "-o", "out.csv"), r"nowhere\.csv: no such file"),
        (("nowhere/*.csv", "-o", "out.csv"), "no file has such a name"),
        (("data.csv", "-o", "out.csv", "--text-column", "nowhere"), "no column 'nowhere'.*; its columns are id, text"),
    ],
)
def test_a_mistake_is_one_line(
    in_process: Run,
    spam: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    about: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_ids_and_messages(tmp_path / "data.csv", 5)
    sqlite3.connect(tmp_path / "mails.db").close()
    code, out, err = in_process("predict", spam, *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"rehead: .*{about}.*\n", err)
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", "mails.db"}


def test_a_text_is_written_as_before(in_process: Run, spam: Path, tmp_path: Path) -> None:
    for text in ("free prize", "is this a *prize*?", "sqlite: a database"):
        assert in_process("predict", spam, text, "-o", tmp_path / "out.csv")[0] == 0
        assert [row["text"] for row in rows_of(tmp_path / "out.csv")] == [text]


def started(folder: Path, output: Path) -> subprocess.Popen[str]:
    """The command, after it has kept two portions at least."""
    child = subprocess.Popen(
        command(folder, output.with_name("data.csv"), "-o", output),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    state = state_folder(output) / "state.json"
    while child.poll() is None:
        try:
            if json.loads(state.read_text())["portions"] >= 2:
                return child
        except FileNotFoundError:
            pass
        time.sleep(0.002)
    raise AssertionError(child.communicate()[1])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_killed_process_loses_nothing(in_process: Run, spam: Path, tmp_path: Path, kind: str) -> None:
    data, output = write_long(tmp_path / "data.csv", 20_000), tmp_path / f"out.{kind}"
    child = started(spam, output)
    child.kill()
    child.communicate()
    assert not output.exists()
    code, _, err = in_process("predict", spam, data, "-o", output)
    assert code == 0, err
    assert re.search(r"goes on behind [\d,]+ rows", err)
    whole = tmp_path / f"whole.{kind}"
    assert in_process("predict", spam, data, "-o", whole)[0] == 0
    assert [int(row["id"]) for row in rows_of(output)] == list(range(20_000))
    assert same_content(output, whole)
    assert {path.name for path in tmp_path.iterdir()} == {"data.csv", output.name, whole.name}


def test_ctrl_c_says_that_the_same_command_goes_on(spam: Path, tmp_path: Path) -> None:
    write_long(tmp_path / "data.csv", 40_000)
    child = started(spam, tmp_path / "out.csv")
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    said = r"rehead: interrupted; [\d,]+ rows are kept, and the same command goes on from there\n"
    assert re.search(said, err)
    assert (state_folder(tmp_path / "out.csv") / "state.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_rows(spam: Path, tmp_path: Path, kind: str) -> None:
    script = (
        "import resource, sys\n"
        "from rehead import cli\n"
        "try:\n"
        "    cli.main(sys.argv[1:])\n"
        "finally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for n in (5_000, 200_000):
        data = write_long(tmp_path / f"{n}.csv", n)
        arguments = [sys.executable, "-c", script, *command(spam, data, "-o", tmp_path / f"out.{kind}")[3:]]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=os.environ)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.3 * peaks[0], peaks
