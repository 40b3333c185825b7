"""`rehead predict`: texts, lines, tables and what is wrong with them."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.running import (
    Finished,
    Place,
    assert_nothing_written,
    assert_refused,
    in_child,
    truncate_weights,
)
from tests.tiny_texts import messages, write_csv


def test_predict_classifies_a_text(model: Path) -> None:
    finished = in_child("predict", model, "win free prize")
    assert finished.code == 0
    assert re.fullmatch(r"spam\t[01]\.\d{4}\twin free prize\n", finished.out)


def test_predict_reads_a_text_a_line_from_stdin(model: Path) -> None:
    finished = in_child("predict", model, "-", stdin="win free cash\nlunch at noon\r\ncall now txt\n")
    assert finished.code == 0
    assert [line.split("\t")[::2] for line in finished.out.splitlines()] == [
        ["spam", "win free cash"],
        ["ham", "lunch at noon"],
        ["spam", "call now txt"],
    ]


def test_output_into_a_closed_pipe_is_no_error(model: Path) -> None:
    command = [sys.executable, "-m", "rehead.cli", "predict", str(model), "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as child:
        child.stdout.close()
        child.stdin.write(b"free prize\n" * 20_000)
        child.stdin.close()
        errors = child.stderr.read().decode()
        assert child.wait(timeout=120) == 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "csv": pd.read_csv,
    "tsv": lambda path: pd.read_csv(path, sep="\t"),
    "jsonl": lambda path: pd.read_json(path, lines=True),
    "parquet": pd.read_parquet,
}


@pytest.mark.parametrize("kind", READERS)
def test_predictions_of_a_file_keep_its_columns(
    rehead: Callable[..., Finished], model: Path, tmp_path: Path, kind: str
) -> None:
    texts, labels = messages(20, start=60)
    numbers = [f"n{i}" for i in range(20)]
    data = write_csv(tmp_path / "new.csv", ["id", "text", "note"], zip(numbers, texts, ["a, b"] * 20, strict=True))
    finished = rehead("predict", model, data, "-o", tmp_path / f"out.{kind}")
    assert (finished.code, finished.out) == (0, "")
    table = READERS[kind](tmp_path / f"out.{kind}")
    assert list(table) == ["id", "text", "note", "predicted", "p(ham)", "p(spam)", "tokens_cut"]
    assert (table["id"].tolist(), table["text"].tolist()) == (numbers, texts)
    assert set(table["note"]) == {"a, b"}
    assert (table["predicted"] == labels).mean() > 0.8
    assert (table["p(ham)"] + table["p(spam)"]).tolist() == pytest.approx([1.0] * 20)


def test_a_column_that_is_named_like_a_result_is_kept_or_refused(
    rehead: Callable[..., Finished], model: Path, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "new.csv", ["text", "predicted"], [("free prize", "by hand"), ("lunch", "by hand")])
    finished = rehead("predict", model, data, "-o", tmp_path / "out.csv")
    assert finished.code == 2 or "by hand" in (tmp_path / "out.csv").read_text()


def test_predict_json_is_an_object_a_row(rehead: Callable[..., Finished], model: Path, unseen: Path) -> None:
    lines = rehead("predict", model, unseen, "--json").out.splitlines()
    assert len(lines) == 20
    for answer in map(json.loads, lines):
        assert answer["probabilities"].keys() == {"ham", "spam"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_predict_takes_a_text_file_line_by_line(rehead: Callable[..., Finished], model: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("win free cash, now\nlunch at noon\n")
    lines = rehead("predict", model, tmp_path / "lines.txt").out.splitlines()
    assert [line.split("\t")[2] for line in lines] == ["win free cash, now", "lunch at noon"]


def test_predict_reads_stdin_in_this_process_too(
    rehead: Callable[..., Finished], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("free prize\n\nlunch at noon"))
    lines = rehead("predict", model, "-", "--json").out.splitlines()
    assert [json.loads(line)["label"] for line in (lines[0], lines[2])] == ["spam", "ham"]
    assert len(lines) == 3


def test_predict_says_how_many_texts_were_cut(
    rehead: Callable[..., Finished], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("free prize\n" + "free prize " * 40))
    finished = rehead("predict", model, "-", "--json")
    assert [json.loads(line)["tokens_cut"] for line in finished.out.splitlines()] == [0, 16]
    assert "warning: 1 of 2 texts" in finished.err


def test_predict_says_which_rows_have_no_text(rehead: Callable[..., Finished], model: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "new.csv", ["id", "text"], [("1", "free prize"), ("2", ""), ("3", "lunch")])
    finished = rehead("predict", model, data)
    assert len(finished.out.splitlines()) == 3
    assert re.search(r"warning: 1 rows? ha(s|ve) no text .*row 3", finished.err)


@pytest.mark.parametrize(
    "command", [("predict", "{}", "free prize"), ("predict", "{}", "{data}"), ("evaluate", "{}", "{data}")]
)
@pytest.mark.parametrize("what", ["missing", "folder of something else", "file"])
def test_what_is_no_model_is_refused(
    rehead: Callable[..., Finished], place: Place, command: tuple[str, ...], what: str
) -> None:
    not_a_model = {"missing": "nowhere", "folder of something else": "base", "file": "data.csv"}[what]
    path = place.data.parent / not_a_model
    arguments = [path if part == "{}" else place.data if part == "{data}" else part for part in command]
    assert_refused(rehead(*arguments), not_a_model)


def test_predicting_with_damaged_weights_is_refused(
    rehead: Callable[..., Finished], model: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(model, tmp_path / "model")
    truncate_weights(damaged)
    assert_refused(rehead("predict", damaged, "free prize"), r"model\.safetensors")


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.parquet", "nowhere.txt", "no/where.jsonl"])
def test_predicting_a_missing_file_is_refused(rehead: Callable[..., Finished], model: Path, name: str) -> None:
    assert_refused(rehead("predict", model, name), f"{name}: no such file")


@pytest.mark.parametrize("name", ["out.xyz", "out", "out.csv.gz"])
def test_predicting_into_an_unknown_format_is_refused(
    rehead: Callable[..., Finished], model: Path, unseen: Path, place: Place, name: str
) -> None:
    finished = rehead("predict", model, unseen, "-o", place.output.with_name(name))
    assert_refused(finished, rf"{re.escape(name)}.*\.csv, \.tsv, \.jsonl, \.parquet")
    assert_nothing_written(place.output)


def test_predicting_into_a_missing_folder_is_refused(
    rehead: Callable[..., Finished], model: Path, unseen: Path, place: Place
) -> None:
    assert_refused(rehead("predict", model, unseen, "-o", place.output / "out.csv"), "does not exist")
    assert_nothing_written(place.output)


def test_predicting_a_column_that_is_not_there_is_refused(
    rehead: Callable[..., Finished], model: Path, unseen: Path
) -> None:
    assert_refused(rehead("predict", model, unseen, "--text-column", "nowhere"), "'nowhere'")


def test_predicting_an_empty_stdin_is_refused(
    rehead: Callable[..., Finished], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert_refused(rehead("predict", model, "-"), "stdin")
