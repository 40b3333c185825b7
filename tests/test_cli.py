"""The command line: from a file to a saved classifier and back, and one line for each mistake."""

import io
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages

# What a command says on its way; whatever else is on stderr is meant for the user to read.
PROGRESS = re.compile(
    r"warning: .*: \d+ rows are for validation|.*: [\d,]+ rows; texts from|[\d,]+ tokens, [\d.]+ TFLOP: about|"
    r"training [\d,]+, validation|kept \d+ of|output layer |"
    r"(probing|predicting|trunk pass|converting|training)\b|[\w-]+: calibrated validation loss|the baseline stands"
)


# Only the tests of other ways of tuning have to wait for them: a later --tune overrides this one.
FIT = ("fit", "--tune", "head")


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that stdout must be, with no number that JSON does not have."""
        lines = self.out.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    @property
    def said(self) -> list[str]:
        """Lines on stderr that are not progress."""
        return [line for line in self.err.splitlines() if line.strip() and not PROGRESS.match(line)]


def in_child(*arguments: object, stdin: str = "", **environment: str) -> Finished:
    """The real command."""
    command = [sys.executable, "-m", "rehead.cli", *map(str, arguments)]
    env = os.environ | environment
    finished = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=env)
    return Finished(finished.returncode, finished.stdout, finished.stderr)


@pytest.fixture
def rehead(in_process: Callable[..., tuple[int, str, str]]) -> Callable[..., Finished]:
    """The command in this process."""
    return lambda *arguments: Finished(*in_process(*arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return write_messages(folder / "messages.csv")


@pytest.fixture(scope="module")
def unseen(folder: Path) -> Path:
    return write_messages(folder / "unseen.csv", n=20, start=60)


@pytest.fixture(scope="module")
def decoder(folder: Path) -> Path:
    return save_tiny_model(folder / "llama", "llama")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Path:
    return save_tiny_model(folder / "bert", "bert")


@pytest.fixture(scope="module")
def fitted(folder: Path, data: Path, decoder: Path) -> Finished:
    # A cache with nothing in it, whichever tests ran before: what was computed is asserted.
    return in_child(*FIT, data, "--base", decoder, "--json", "-o", folder / "model", REHEAD_CACHE=str(folder / "cache"))


@pytest.fixture(scope="module")
def model(folder: Path, fitted: Finished) -> Path:
    assert fitted.code == 0, fitted.err
    return folder / "model"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The real command, from end to end.


def test_fit_prints_one_json_object_with_all_that_is_promised(fitted: Finished, folder: Path, decoder: Path) -> None:
    facts = fitted.json
    assert facts["model"] == str(folder / "model")
    assert facts["base"] == str(decoder)
    assert (facts["tune"], facts["labels"]) == ("head", ["ham", "spam"])
    assert 1 <= facts["depth"] == facts["cut"] <= 4
    assert facts["pool"] in ("last", "mean", "both")
    assert {key: facts["rows"][key] for key in ("read", "used", "dropped")} == {"read": 60, "used": 60, "dropped": {}}
    for part in ("validation", "test"):
        assert {"n", "accuracy", "accuracy_ci", "macro_f1", "log_loss", "ece"} <= facts[part].keys()
    for baseline in ("majority", "tfidf"):
        assert facts["baselines"][baseline].keys() == {"accuracy", "macro_f1"}
    assert {"total", "load", "trunk", "tail"} <= facts["seconds"].keys()
    assert facts["seconds"]["total"] >= facts["seconds"]["load"] > 0
    assert facts["flops"] > 0
    assert facts["gflops"] > 0
    assert facts["peak_share"] > 0
    assert facts["peak_rss_bytes"] > 1e7


def test_fit_uses_every_row_once(fitted: Finished) -> None:
    rows = fitted.json["rows"]
    assert rows["train"] + rows["validation"] + rows["test"] == rows["used"]
    assert fitted.json["test"]["n"] == rows["test"]


def test_fit_says_nothing_but_progress(fitted: Finished) -> None:
    assert fitted.said == []


def test_fit_without_json_prints_the_evaluation(data: Path, decoder: Path, tmp_path: Path) -> None:
    finished = in_child(*FIT, data, "--base", decoder, "-o", tmp_path / "model")
    assert finished.code == 0
    assert re.search(r"\d+\.\d\d% accuracy on 12 test texts, 95 % interval \d", finished.out)
    for expected in ("TF-IDF", "majority class", "precision", "predicted", f"model   {tmp_path / 'model'}"):
        assert expected in finished.out
    assert "Traceback" not in finished.err


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


def test_evaluate_measures_a_saved_classifier(model: Path, unseen: Path, tmp_path: Path) -> None:
    finished = in_child("evaluate", model, unseen, "--json", "--report", tmp_path / "report.html")
    assert finished.code == 0, finished.err
    assert finished.json["test"]["n"] == 20
    assert "<h1>" in (tmp_path / "report.html").read_text()


def test_a_mistake_of_the_users_is_one_line_in_the_real_command(decoder: Path, tmp_path: Path) -> None:
    finished = in_child(*FIT, tmp_path / "nowhere.csv", "--base", decoder, "-o", tmp_path / "model")
    assert (finished.code, finished.out) == (2, "")
    assert re.fullmatch(r"rehead: .*nowhere\.csv: no such file.*\n", finished.err)


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


def test_help_comes_at_once() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert in_child("--help").code == 0
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.5


# Fit.


VARYING = ("model", "report", "seconds", "peak_rss_bytes", "gflops", "peak_share", "flops")


def lasting(facts: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for the same seed: all but times, folders, memory, and what the cache has spared."""
    stages = [{**stage, "seconds": None} for stage in facts["stages"]]
    return {key: value for key, value in facts.items() if key not in VARYING} | {"stages": stages}


@pytest.mark.parametrize("tune", ["head", "last-1"])
@pytest.mark.parametrize("kind", ["decoder", "encoder"])
def test_the_same_seed_gives_the_same_bytes_and_the_same_numbers(
    rehead: Callable[..., Finished], request: pytest.FixtureRequest, data: Path, tmp_path: Path, kind: str, tune: str
) -> None:
    base = request.getfixturevalue(kind)
    first, second = (
        rehead(*FIT, data, "--base", base, "--tune", tune, "--epochs", 2, "--json", "-o", tmp_path / name)
        for name in ("first", "second")
    )
    assert (first.code, second.code) == (0, 0), first.err
    assert lasting(first.json) == lasting(second.json)
    for name in ("model.safetensors", "reference.safetensors", "rehead.json", "README.md", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_another_process_with_the_same_seed_gives_the_same_bytes(
    rehead: Callable[..., Finished], fitted: Finished, model: Path, data: Path, decoder: Path, tmp_path: Path
) -> None:
    again = rehead(*FIT, data, "--base", decoder, "--json", "-o", tmp_path / "model")
    assert lasting(again.json) == lasting(fitted.json)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("tune", ["head", "last-1"])
def test_another_seed_gives_another_classifier(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path, tune: str
) -> None:
    options = ("--base", decoder, "--tune", tune, "--depth", 2, "--pool", "mean", "--epochs", 1)
    for seed in (1, 2):
        assert rehead(*FIT, data, *options, "--seed", seed, "-o", tmp_path / str(seed)).code == 0
    first, second = ((tmp_path / str(seed) / "model.safetensors").read_bytes() for seed in (1, 2))
    assert first != second


def test_last_k_freezes_the_blocks_before_the_last_k(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    options = ("--tune", "last-2", "--depth", 3, "--epochs", 1, "--json")
    facts = rehead(*FIT, data, "--base", decoder, *options, "-o", tmp_path / "model").json
    assert (facts["tune"], facts["depth"], facts["cut"]) == ("last-2", 3, 1)
    assert len(facts["epochs"]["validation_losses"]) == 2


@pytest.mark.parametrize(("kind", "pool"), [("decoder", "last"), ("decoder", "both"), ("encoder", "cls")])
def test_depth_and_pooling_are_those_asked_for(
    rehead: Callable[..., Finished], request: pytest.FixtureRequest, data: Path, tmp_path: Path, kind: str, pool: str
) -> None:
    options = ("--base", request.getfixturevalue(kind), "--depth", 2, "--pool", pool, "--json")
    facts = rehead(*FIT, data, *options, "-o", tmp_path / "model").json
    assert (facts["depth"], facts["pool"]) == (2, pool)


def test_rows_that_are_not_used_are_counted_and_named_by_line(
    rehead: Callable[..., Finished], decoder: Path, tmp_path: Path
) -> None:
    rows = list(zip(*messages(60), strict=True))
    unusable = [("", "ham"), ("free prize", ""), (rows[0][0].upper(), rows[0][1]), (rows[1][0], "ham"), ("  ", "ham")]
    data = write_csv(tmp_path / "data.csv", ["text", "label"], [*rows, *unusable])
    finished = rehead(*FIT, data, "--base", decoder, "--json", "-o", tmp_path / "model")
    lines = {"no text": [62, 66], "no label": [63], "duplicate": [64], "duplicate with another label": [65]}
    assert finished.json["rows"]["dropped"] == {reason: len(where) for reason, where in lines.items()}
    assert finished.json["rows"]["dropped_lines"] == lines
    assert (finished.json["rows"]["read"], finished.json["rows"]["used"]) == (65, 60)
    for reason, where in lines.items():
        shown = ", ".join(map(str, where))
        assert re.search(rf"warning: {len(where)} rows? not used, {reason} \(rows? {shown}\)", finished.err)


def test_a_test_set_that_overlaps_with_training_is_measured_with_and_without_the_overlap(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    test = write_messages(tmp_path / "test.csv", n=20, start=54)
    finished = rehead(*FIT, data, "--test", test, "--base", decoder, "--json", "-o", tmp_path / "model")
    facts = finished.json
    assert (facts["test"]["n"], facts["overlap"]["n"], facts["overlap"]["test_without"]["n"]) == (20, 6, 14)
    assert facts["overlap"]["baselines_without"].keys() == {"majority", "tfidf"}
    assert "warning: 6 of 20 test texts are also in training" in finished.err
    assert f"{facts['overlap']['test_without']['accuracy']:.2%}" in finished.err


def test_a_test_set_without_overlap_gives_no_warning(
    rehead: Callable[..., Finished], data: Path, unseen: Path, decoder: Path, tmp_path: Path
) -> None:
    finished = rehead(*FIT, data, "--test", unseen, "--base", decoder, "--json", "-o", tmp_path / "model")
    assert finished.json["overlap"] is None
    assert finished.json["rows"]["test"] == 20
    assert finished.said == []


def test_a_validation_set_of_ones_own_loses_what_training_has_too(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    validation = write_messages(tmp_path / "validation.csv", n=70, start=0)
    options = ("--validation", validation, "--base", decoder, "--json")
    rows = rehead(*FIT, data, *options, "-o", tmp_path / "model").json["rows"]
    assert rows["dropped"] == {"validation: text of the training part": rows["train"]}
    assert rows["validation"] == 70 - rows["train"]


def test_columns_are_those_asked_for(rehead: Callable[..., Finished], decoder: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    decoys = ["x" * (i % 3 + 1) for i in range(60)]
    rows = zip(decoys, decoys, texts, labels, strict=True)
    data = write_csv(tmp_path / "data.csv", ["text", "label", "said", "kind"], rows)
    options = ("--text-column", "said", "--label-column", "kind", "--base", decoder, "--json")
    assert rehead(*FIT, data, *options, "-o", tmp_path / "model").json["labels"] == ["ham", "spam"]
    answers = rehead("predict", tmp_path / "model", data, "--json").out.splitlines()
    assert sum(json.loads(line)["label"] == label for line, label in zip(answers, labels, strict=True)) > 50


def test_an_existing_model_is_replaced_by_a_new_one(
    rehead: Callable[..., Finished], model: Path, data: Path, decoder: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(model, tmp_path / "out" / "model")
    options = ("--depth", 1, "--pool", "both", "--json")
    assert rehead(*FIT, data, "--base", decoder, *options, "-o", older).code == 0
    description = json.loads((older / "rehead.json").read_text())
    assert (description["depth"], description["pool"]) == (1, "both")
    assert [path.name for path in older.parent.iterdir()] == ["model"]


def test_an_existing_model_stays_as_it_was_when_a_fit_fails(
    rehead: Callable[..., Finished], model: Path, data: Path, decoder: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(model, tmp_path / "out" / "model")
    assert rehead(*FIT, data, "--base", decoder, "--depth", 99, "-o", older).code == 2
    assert contents(older) == contents(model)
    assert [path.name for path in older.parent.iterdir()] == ["model"]


# Predict and evaluate.


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


def test_evaluate_has_all_that_fit_has(
    rehead: Callable[..., Finished], fitted: Finished, model: Path, unseen: Path
) -> None:
    facts = rehead("evaluate", model, unseen, "--json").json
    promised = {"model", "base", "tune", "depth", "cut", "pool", "labels", "rows", "validation", "test", "baselines"}
    promised |= {"seconds", "flops", "peak_rss_bytes", "overlap"}
    assert promised <= facts.keys()
    assert {"total", "load", "trunk", "tail"} <= facts["seconds"].keys()
    assert (facts["rows"]["read"], facts["rows"]["used"], facts["rows"]["dropped"]) == (20, 20, {})
    assert facts["validation"] == fitted.json["validation"]
    assert facts["overlap"] is None


def test_evaluate_gives_the_numbers_of_the_fit_on_the_same_test_set(
    rehead: Callable[..., Finished], data: Path, unseen: Path, decoder: Path, tmp_path: Path
) -> None:
    fit = rehead(*FIT, data, "--test", unseen, "--base", decoder, "--json", "-o", tmp_path / "model").json
    again = rehead("evaluate", tmp_path / "model", unseen, "--json").json
    for number in ("accuracy", "macro_f1", "log_loss", "ece"):
        assert again["test"][number] == pytest.approx(fit["test"][number], abs=1e-5)
    assert again["baselines"] == fit["baselines"]


def test_evaluate_on_what_was_trained_on_says_so(
    rehead: Callable[..., Finished], fitted: Finished, model: Path, data: Path
) -> None:
    finished = rehead("evaluate", model, data, "--json")
    trained_on = fitted.json["rows"]["train"] + fitted.json["rows"]["validation"]
    assert finished.json["overlap"]["n"] == trained_on
    assert finished.json["overlap"]["test_without"]["n"] == 60 - trained_on
    assert f"warning: {trained_on} of 60 test texts are also in the training data" in finished.err


def test_evaluate_without_json_prints_the_evaluation(
    rehead: Callable[..., Finished], model: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    finished = rehead("evaluate", model, data)
    assert "accuracy on 60 test texts" in finished.out
    assert "accuracy without overlap" in finished.out


# What there is.


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("bases", {"smollm2", "minilm", "mpnet", "multilingual-e5-small", "efficientnet-lite2"}),
        ("samples", {"sample:sms"}),
    ],
)
def test_lists_what_there_is_and_that_nothing_is_fetched_yet(
    rehead: Callable[..., Finished], empty_cache: Path, command: str, expected: set[str]
) -> None:
    entries = rehead(command, "--json").json["entries"]
    assert expected <= {entry["name"] for entry in entries}
    for entry in entries:
        assert entry.keys() == {"name", "about", "licence", "package", "megabytes", "fetched"}
        assert entry["fetched"] is False
    assert not empty_cache.exists()


@pytest.mark.parametrize(("command", "expected"), [("bases", "smollm2"), ("samples", "sample:sms")])
def test_lists_what_there_is_a_line_each(
    rehead: Callable[..., Finished], empty_cache: Path, command: str, expected: str
) -> None:
    assert re.search(rf"^{expected}\t.*MB to fetch$", rehead(command).out, re.MULTILINE)


def test_version_is_the_packages(rehead: Callable[..., Finished]) -> None:
    import rehead as package

    assert rehead("--version").out == f"rehead {package.__version__}\n"


# Mistakes of the user's: exit code 2, one line that names the trouble, nothing written.


def lines_of(rows: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


ROWS = list(zip(*messages(20), strict=True))
JUNK = random.Random(0).randbytes(100_000)  # noqa: S311
BAD_FILES = {
    "empty": (b"", "empty"),
    "white space": (b"\n \n", "empty"),
    "header only": (b"text,label\n", "no rows"),
    "one class": (lines_of([(text, "ham") for text, _ in ROWS]).encode(), "two classes"),
    "a class with one example": (lines_of([*ROWS, ("ok", "news")]).encode(), "row 22.*'news' has one example"),
    "too few rows": (lines_of(ROWS[:4]).encode(), "too few"),
    "one column": ("\n".join(["text", *(text for text, _ in ROWS)]).encode(), "one column"),
    "no column that repeats": ("".join(f"{i} a,{i} b\n" for i in range(20)).encode(), "--label-column"),
    "every text missing": (lines_of([("", label) for _, label in ROWS]).encode(), "--text-column"),
    "a row too short": (lines_of(ROWS).encode() + b"lunch\n", "row 22"),
    "binary": (JUNK, "binary"),
    "binary without zeros": (JUNK.replace(b"\0", b"\1"), "UTF-8"),
    "binary that looks like Parquet": (b"PAR1" + JUNK, "Parquet"),
    "a line of 10 MB": (b"text,label\n" + b"a" * 10_000_000, "row 2.*10,000,000"),
    "only a line of 10 MB": (b"free prize " * 1_000_000, "11,000,000"),
    "broken JSON": (b'{"text": "a", "label": "b"}\n{"text": \n', "row 2"),
    "a JSON array of arrays": (b'[["a", "b"]]', "row 1: not a JSON object.*JSON Lines"),
}


@dataclass(frozen=True)
class Place:
    """A fit that would work, to be spoilt: `data` and `base` may be changed, nothing else may be in `output.parent`."""

    data: Path
    base: Path
    output: Path


@pytest.fixture
def place(tmp_path: Path, data: Path, decoder: Path) -> Place:
    (tmp_path / "out").mkdir()
    return Place(
        Path(shutil.copy(data, tmp_path / "data.csv")),
        shutil.copytree(decoder, tmp_path / "base"),
        tmp_path / "out" / "model",
    )


def assert_refused(finished: Finished, about: str) -> None:
    assert finished.code == 2, finished.err
    assert finished.out == ""
    assert "Traceback" not in finished.err
    (line,) = finished.said
    assert line.startswith("rehead: ")
    assert re.search(about, line)


def assert_nothing_written(output: Path) -> None:
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("json_wanted", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize(("content", "about"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_data_that_cannot_be_learned_from_is_refused(
    rehead: Callable[..., Finished], place: Place, content: bytes, about: str, json_wanted: bool
) -> None:
    place.data.write_bytes(content)
    name = place.data.rename(place.data.with_suffix(".json")) if about == "JSON" else place.data
    options = ["--json"] if json_wanted else []
    finished = rehead(*FIT, name, "--base", place.base, "-o", place.output, *options)
    assert_refused(finished, about)
    assert name.name in finished.err
    assert_nothing_written(place.output)


@pytest.mark.parametrize("part", ["DATA", "--test", "--validation"])
def test_a_missing_file_is_refused(rehead: Callable[..., Finished], place: Place, part: str) -> None:
    missing = place.data.with_name("nowhere.csv")
    sources = (missing,) if part == "DATA" else (place.data, part, missing)
    assert_refused(rehead(*FIT, *sources, "--base", place.base, "-o", place.output), r"nowhere\.csv: no such file")
    assert_nothing_written(place.output)


def test_a_folder_as_data_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data.parent, "--base", place.base, "-o", place.output)
    assert_refused(finished, "folder")
    assert_nothing_written(place.output)


def test_an_unknown_sample_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    assert_refused(rehead(*FIT, "sample:nowhere", "--base", place.base, "-o", place.output), "sample")
    assert_nothing_written(place.output)


@pytest.mark.parametrize(
    ("options", "about"),
    [
        (["--label-column", "nowhere"], "'nowhere'.*--label-column.*text, label"),
        (["--text-column", "nowhere"], "'nowhere'.*--text-column.*text, label"),
        (["--text-column", "label", "--label-column", "label"], "column"),
        (["--depth", "99"], "has 4 blocks.*99"),
        (["--depth", "0"], "--depth.*0"),
        (["--depth", "-1"], "--depth"),
        (["--depth", "x"], "--depth.*'x'"),
        (["--tune", "last-99"], "last-99.*4"),
        (["--tune", "last-0"], "--tune.*'last-0'"),
        (["--tune", "nonsense"], "--tune.*'nonsense'"),
        (["--tune", "last-3", "--depth", "2"], "--depth"),
        (["--pool", "cls"], "encoder"),
        (["--pool", "nonsense"], "--pool.*'nonsense'"),
        (["--max-length", "0"], "max.length"),
        (["--epochs", "0"], "epochs"),
        (["--batch-size", "-8"], "batch.size"),
        (["--learning-rate", "0"], "learning.rate"),
        (["--learning-rate", "nan"], "learning.rate"),
        (["--seed", "-1"], "seed"),
        (["--seed", "x"], "--seed.*'x'"),
        (["--nonsense"], "--nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_that_makes_no_sense_is_refused(
    rehead: Callable[..., Finished], place: Place, options: list[str], about: str
) -> None:
    assert_refused(rehead(*FIT, place.data, "--base", place.base, "-o", place.output, *options), about)
    assert_nothing_written(place.output)


def test_last_token_pooling_of_an_encoder_is_refused(
    rehead: Callable[..., Finished], place: Place, encoder: Path
) -> None:
    finished = rehead(*FIT, place.data, "--base", encoder, "--pool", "last", "-o", place.output)
    assert_refused(finished, "--pool last needs a decoder")
    assert_nothing_written(place.output)


def truncate_weights(base: Path) -> None:
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[: len(content) // 2])


def change_config(**changes: object) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | changes))

    return change


BAD_BASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config.json": (lambda base: (base / "config.json").unlink(), r"config\.json"),
    "broken config.json": (lambda base: (base / "config.json").write_text("{"), r"config\.json"),
    "config.json that is no object": (lambda base: (base / "config.json").write_text("[]"), r"config\.json"),
    "no weights": (lambda base: (base / "model.safetensors").unlink(), r"no \.safetensors weights"),
    "truncated weights": (truncate_weights, "cannot be loaded"),
    "empty weights": (lambda base: (base / "model.safetensors").write_bytes(b""), "cannot be loaded"),
    "no tokenizer": (lambda base: (base / "tokenizer.json").unlink(), "cannot be loaded"),
    "broken tokenizer": (lambda base: (base / "tokenizer.json").write_text("{"), "cannot be loaded"),
    "unsupported family": (change_config(model_type="t5"), "'t5'"),
    "unknown family": (change_config(model_type="nonsense"), "'nonsense'"),
    "more blocks than weights": (change_config(num_hidden_layers=5), "lacks"),
    "wider than its weights": (change_config(hidden_size=64), "base"),
    "more words than weights": (change_config(vocab_size=999), "base"),
}


@pytest.mark.parametrize(("spoil", "about"), BAD_BASES.values(), ids=BAD_BASES.keys())
def test_a_base_that_cannot_be_trusted_is_refused(
    rehead: Callable[..., Finished], place: Place, spoil: Callable[[Path], object], about: str
) -> None:
    spoil(place.base)
    assert_refused(rehead(*FIT, place.data, "--base", place.base, "-o", place.output), about)
    assert_nothing_written(place.output)


@pytest.mark.parametrize("name", ["nonsense", "nobody/nothing", "not a name!", "nowhere/at/all", "model.bin"])
def test_an_unknown_base_is_refused(
    rehead: Callable[..., Finished], place: Place, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(place.output.parent)
    assert_refused(rehead(*FIT, place.data, "--base", name, "-o", place.output), "base")
    assert_nothing_written(place.output)


def test_a_file_that_is_no_base_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    assert_refused(rehead(*FIT, place.data, "--base", place.data, "-o", place.output), "is a file")
    assert_nothing_written(place.output)


def test_a_broken_gguf_file_is_refused(rehead: Callable[..., Finished], place: Place, empty_cache: Path) -> None:
    broken = place.data.with_suffix(".gguf")
    broken.write_bytes(b"GGUF" + JUNK)
    assert_refused(rehead(*FIT, place.data, "--base", broken, "-o", place.output), r"data\.gguf")
    assert_nothing_written(place.output)


def test_an_output_folder_with_something_else_in_it_is_left_alone(
    rehead: Callable[..., Finished], place: Place
) -> None:
    place.output.mkdir()
    (place.output / "thesis.txt").write_text("years of work")
    assert_refused(rehead(*FIT, place.data, "--base", place.base, "-o", place.output), "not a rehead model")
    assert contents(place.output.parent) == {"model/thesis.txt": b"years of work"}


def test_an_output_that_is_a_file_is_left_alone(rehead: Callable[..., Finished], place: Place) -> None:
    place.output.write_text("years of work")
    assert_refused(rehead(*FIT, place.data, "--base", place.base, "-o", place.output), "is a file")
    assert contents(place.output.parent) == {"model": b"years of work"}


def test_an_output_below_a_file_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data, "--base", place.base, "-o", place.data / "model")
    assert_refused(finished, r"output folder .*data\.csv/model")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write to")
def test_an_output_that_cannot_be_written_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data, "--base", place.base, "-o", "/proc/nowhere/model")
    assert_refused(finished, "cannot write to the output folder /proc/nowhere/model")


def test_a_refused_fit_does_not_leave_parents_of_the_output_behind(
    rehead: Callable[..., Finished], place: Place
) -> None:
    output = place.output / "of" / "mine"
    assert_refused(rehead(*FIT, place.data, "--base", place.base, "--depth", 99, "-o", output), "99")
    assert_nothing_written(place.output)


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


def test_evaluating_a_label_that_was_not_learned_is_refused(
    rehead: Callable[..., Finished], model: Path, place: Place
) -> None:
    with place.data.open("a") as file:
        file.write("ok later,news\n")
    assert_refused(rehead("evaluate", model, place.data), r"data\.csv row 62: label 'news'.*ham, spam")


def test_a_report_into_a_missing_folder_is_refused(
    rehead: Callable[..., Finished], model: Path, unseen: Path, place: Place
) -> None:
    finished = rehead("evaluate", model, unseen, "--report", place.output / "report.html")
    assert_refused(finished, r"report\.html")
    assert_nothing_written(place.output)


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["fit"], ["predict"], ["predict", "model"], ["evaluate", "model"], ["--nonsense"]]
)
def test_a_command_line_that_makes_no_sense_is_refused(rehead: Callable[..., Finished], arguments: list[str]) -> None:
    assert_refused(rehead(*arguments), "--help")


def test_a_fault_of_reheads_own_is_told_apart(
    rehead: Callable[..., Finished], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero\nand more")

    monkeypatch.setattr("rehead.workflows.fit.fit", fail)
    finished = rehead(*FIT, place.data, "--base", place.base, "-o", place.output)
    assert finished.code == 1
    assert finished.said == ["rehead: a fault of rehead's own: ZeroDivisionError: by zero (run with --debug)"]


def test_an_interrupted_fit_leaves_nothing_but_its_state(
    rehead: Callable[..., Finished], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rehead.artifact.artifact._verify", interrupt)
    finished = rehead(*FIT, place.data, "--base", place.base, "-o", place.output)
    assert (finished.code, finished.said) == (
        130,
        ["rehead: interrupted; the same command with --resume goes on from what is kept"],
    )
    assert [path.name for path in place.output.parent.iterdir()] == [f".{place.output.name}.rehead-run"]


def test_debug_shows_where_an_error_came_from(place: Place) -> None:
    finished = in_child(*FIT, "nowhere.csv", "--base", place.base, "-o", place.output, "--debug")
    assert finished.code != 0
    assert "Traceback" in finished.err
    assert "DataError" in finished.err
    assert_nothing_written(place.output)


# Inspect: the audit, and what labels are worth.


def test_inspect_prints_one_json_object_with_all_that_is_promised(
    rehead: Callable[..., Finished], tmp_path: Path
) -> None:
    texts, labels = messages(40)
    rows = [*zip(texts, labels, strict=True), (texts[0], "spam"), ("", "ham")]
    facts = rehead("inspect", write_csv(tmp_path / "data.csv", ["text", "label"], rows), "--json").json
    assert facts["rows"] == {"read": 42, "used": 40, "dropped": {"no text": 1, "duplicate with another label": 1}}
    assert facts["classes"] == {"spam": 21, "ham": 20}
    assert facts["lengths"]["histogram"] == {"4": 41}
    kinds = {finding["kind"]: finding for finding in facts["findings"]}
    assert kinds["contradicting labels"]["grade"] == "error"
    assert kinds["rows with no text"]["examples"] == [{"row": 43}]
    assert all(finding.keys() == {"grade", "kind", "count", "examples", "advice"} for finding in facts["findings"])


def test_inspect_without_json_prints_findings_with_their_cure(rehead: Callable[..., Finished], data: Path) -> None:
    finished = rehead("inspect", data)
    assert finished.code == 0
    assert re.search(r"60 rows, 60 of them used", finished.out)
    assert "nothing was found" in finished.out


def test_inspect_counts_the_tokens_of_a_base(rehead: Callable[..., Finished], data: Path, encoder: Path) -> None:
    facts = rehead("inspect", data, "--base", encoder, "--max-length", "4", "--json").json
    (finding,) = [finding for finding in facts["findings"] if finding["kind"] == "texts that are cut off"]
    assert facts["lengths"]["unit"] == f"tokens of {encoder}"
    assert finding["count"] == 60


def test_inspect_finds_test_texts_in_the_training_data(rehead: Callable[..., Finished], data: Path) -> None:
    facts = rehead("inspect", data, "--test", data, "--json").json
    kinds = {finding["kind"]: finding["count"] for finding in facts["findings"]}
    assert kinds["test texts in the training data"] == 60


def test_inspect_ranks_labels_with_a_model(
    rehead: Callable[..., Finished], model: Path, data: Path, tmp_path: Path
) -> None:
    facts = rehead("inspect", model, data, "--json", "--label-errors", tmp_path / "errors.csv").json
    assert facts["examined"] == len(pd.read_csv(tmp_path / "errors.csv")) == 60
    finished = rehead("inspect", model, data, "--label-errors")
    assert "60 labels are suspected to be wrong" in finished.out


@pytest.mark.parametrize("arguments", [("{model}", "{data}"), ("{data}", "--label-errors"), ("{data}",) * 3])
def test_inspect_says_what_it_needs(
    rehead: Callable[..., Finished], model: Path, data: Path, arguments: tuple[str, ...]
) -> None:
    finished = rehead("inspect", *(argument.format(model=model, data=data) for argument in arguments))
    assert (finished.code, finished.out) == (2, "")
    assert "give DATA alone, or MODEL and DATA" in finished.err


# Decisions.


def test_decisions_are_chosen_on_validation_told_of_the_test_and_kept(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    wanted = ["--precision", "spam=0.5", "--abstain-below", "0.999999", "--coverage", "0.8"]
    fit = rehead(*FIT, data, "--base", decoder, "--json", "-o", tmp_path / "model", *wanted).json
    told = fit["decisions"]
    assert told["threshold"]["label"] == "spam"
    assert told["test"]["precision"] is None or 0 <= told["test"]["precision"] <= 1
    assert 0 <= told["test"]["coverage"] <= 1
    again = rehead("evaluate", tmp_path / "model", data, "--json").json["decisions"]
    assert (again["threshold"], again["set_above"]) == (told["threshold"], told["set_above"])
    predicted = rehead("predict", tmp_path / "model", "lunch prize", "--json").json
    assert predicted["label"] is None
    assert set(predicted["possible"]) <= {"ham", "spam"}
    assert rehead("predict", tmp_path / "model", "lunch prize").out.startswith("-\t")
    rehead("predict", tmp_path / "model", data, "-o", tmp_path / "out.csv")
    assert {"predicted", "possible"} <= set(pd.read_csv(tmp_path / "out.csv").columns)


def test_costs_of_errors_change_the_labels(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    costs = tmp_path / "costs.json"
    costs.write_text('{"ham": {"spam": 1e9}}')
    rehead(*FIT, data, "--base", decoder, "-o", tmp_path / "model", "--costs", costs)
    assert rehead("predict", tmp_path / "model", "win free prize").out.startswith("ham\t")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["--precision", "spam"], "--precision must be a class and a number"),
        (["--recall", "spam=2"], "--recall must be a class and a number"),
        (["--precision", "spam=0.9", "--recall", "spam=0.9"], "two ways to choose a threshold"),
        (["--recall", "news=0.9"], "there is no class 'news'; the classes are ham, spam"),
        (["--coverage", "1.5"], "--coverage must be between 0 and 1"),
        (["--coverage", "0.999"], "needs 999 validation examples"),
        (["--abstain-below", "1"], "--abstain-below must be from 0 to below 1"),
        (["--costs", "nowhere.json"], "cannot read nowhere.json"),
        (["--cv", "1"], "--cv must be from 2"),
    ],
)
def test_decisions_that_cannot_be_made_are_refused(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path, wanted: list[str], message: str
) -> None:
    finished = rehead(*FIT, data, "--base", decoder, "-o", tmp_path / "model", *wanted)
    assert finished.code == 2
    assert message in finished.err.splitlines()[-1]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("content", ["[]", '{"ham": 1}', "{", '{"ham": {"spam": "x"}}', '{"ham": {"eggs": 1}}'])
def test_costs_that_are_none_are_refused(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "costs.json").write_text(content)
    finished = rehead(*FIT, data, "--base", decoder, "-o", tmp_path / "model", "--costs", tmp_path / "costs.json")
    assert finished.code == 2
    assert "--costs" in finished.err.splitlines()[-1]


# Splits by group and by time.


def test_groups_stay_together_and_times_in_order(
    rehead: Callable[..., Finished], decoder: Path, tmp_path: Path
) -> None:
    texts, labels = messages(60)
    rows = [
        (text, label, f"writer {i // 6}", f"2026-01-{1 + i // 3:02d}")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    data = write_csv(tmp_path / "data.csv", ["text", "label", "writer", "when"], rows)
    grouped = rehead(*FIT, data, "--base", decoder, "--json", "-o", tmp_path / "a", "--group-column", "writer").json
    assert "groups" in grouped["split"]
    assert grouped["rows"]["test"] % 6 == 0
    timed = rehead(*FIT, data, "--base", decoder, "--json", "-o", tmp_path / "b", "--time-column", "when").json
    assert timed["split"].startswith("by time")
    assert timed["rows"]["test"] == 12


@pytest.mark.parametrize(
    ("option", "column", "message"),
    [
        ("--group-column", "nobody", "has no column 'nobody' \\(--group-column\\)"),
        ("--time-column", "text", "row 2: .* in column 'text' is not a time"),
        ("--time-column", "same", "too many rows have the same time"),
    ],
)
def test_columns_that_divide_nothing_are_refused(
    rehead: Callable[..., Finished], decoder: Path, tmp_path: Path, option: str, column: str, message: str
) -> None:
    rows = [(text, label, "2026") for text, label in zip(*messages(60), strict=True)]
    data = write_csv(tmp_path / "data.csv", ["text", "label", "same"], rows)
    finished = rehead(*FIT, data, "--base", decoder, "-o", tmp_path / "model", option, column)
    assert finished.code == 2
    assert re.search(message, finished.err.splitlines()[-1])


# Explain.


def test_explain_tells_the_weight_of_each_word_and_similar_examples(
    rehead: Callable[..., Finished], model: Path, data: Path
) -> None:
    facts = rehead("explain", model, "win free lunch", "--data", data, "--json").json
    assert [piece["text"] for piece in facts["pieces"]] == ["win", "free", "lunch"]
    assert facts["label"] in ("ham", "spam")
    assert len(facts["neighbours"]) == 5
    finished = rehead("explain", model, "win free lunch", "--data", data)
    assert "win free lunch" in finished.out
    assert "similarity" in finished.out


def test_split_is_saved_with_the_model(fitted: Finished, model: Path) -> None:
    split = json.loads((model / "split.json").read_text())
    rows = [row for part in ("train", "validation", "test") for row in split[part]["rows"]]
    assert sorted(rows) == list(range(2, 62))
    assert len(split["test"]["rows"]) == fitted.json["rows"]["test"]


# Long texts.


@pytest.mark.parametrize(("long", "cut"), [("truncate", 60), ("head-tail", 60), ("chunks", 0)])
def test_long_texts_are_treated_in_the_fit_as_in_prediction(
    rehead: Callable[..., Finished], encoder: Path, tmp_path: Path, long: str, cut: int
) -> None:
    texts, labels = messages(60)
    data = write_csv(
        tmp_path / "d.csv", ["text", "label"], [(f"{t} " * 4, la) for t, la in zip(texts, labels, strict=True)]
    )
    options = ["--base", encoder, "--max-length", "6", "--long", long, "--json"]
    fit = rehead("fit", data, *options, "--tune", "head", "-o", tmp_path / "model").json
    assert fit["long"] == long
    assert sum(fit["truncated"].values()) == cut
    again = rehead("evaluate", tmp_path / "model", data, "--json").json
    assert again["truncated"]["test"] == cut
    predicted = rehead("predict", tmp_path / "model", f"{texts[0]} " * 4, "--json").json
    assert (predicted["tokens_cut"] > 0) == (cut > 0)
    assert again["long"] == long


def test_chunks_do_not_go_with_blocks_that_are_trained(
    rehead: Callable[..., Finished], data: Path, encoder: Path, tmp_path: Path
) -> None:
    options = ["--base", encoder, "--long", "chunks", "-o", tmp_path / "model"]
    finished = rehead("fit", data, *options, "--tune", "last-1")
    assert finished.code == 2
    assert "--long chunks goes with --tune head" in finished.err
    assert rehead("fit", data, *options, "--tune", "auto", "--json").json["tune"] == "head"
