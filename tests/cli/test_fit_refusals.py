"""Mistakes in a fit: exit code 2, one line that names the trouble, nothing written."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import (
    FIT,
    JUNK,
    Finished,
    Place,
    assert_nothing_written,
    assert_refused,
    contents,
    truncate_weights,
)
from tests.tiny_texts import messages, write_csv


def lines_of(rows: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f"{text},{label}\n" for text, label in rows)


ROWS = list(zip(*messages(20), strict=True))


BAD_FILES = {
    "empty": (b"", "empty"),
    "white space": (b"\n \n", "empty"),
    "header only": (b"text,label\n", "no rows"),
    "one class": (lines_of([(text, "ham") for text, _ in ROWS]).encode(), "two classes"),
    "a class with one example": (lines_of([*ROWS, ("ok", "news")]).encode(), "row 22.*'news' has one example"),
    "too few rows": (lines_of(ROWS[:4]).encode(), "too few"),
    "one column": ("\n".join(["text", *(text for text, _ in ROWS)]).encode(), "one column"),
    "no column that repeats": (
        b"text,label\n" + "".join(f"{i} a,{i} b\n" for i in range(20)).encode(),
        "--label-column",
    ),
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


@pytest.mark.parametrize("json_wanted", [False, True], ids=["plain", "json"])
@pytest.mark.parametrize(("content", "about"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_data_that_cannot_be_learned_from_is_refused(
    rehead: Callable[..., Finished], place: Place, content: bytes, about: str, json_wanted: bool
) -> None:
    place.data.write_bytes(content)
    name = place.data.rename(place.data.with_suffix(".json")) if about == "JSON" else place.data
    options = ["--json"] if json_wanted else []
    finished = rehead(*FIT, name, "--model", place.base, "-o", place.output, *options)
    assert_refused(finished, about)
    assert name.name in finished.err
    assert_nothing_written(place.output)


@pytest.mark.parametrize("part", ["DATA", "--test", "--validation"])
def test_a_missing_file_is_refused(rehead: Callable[..., Finished], place: Place, part: str) -> None:
    missing = place.data.with_name("nowhere.csv")
    sources = (missing,) if part == "DATA" else (place.data, part, missing)
    assert_refused(rehead(*FIT, *sources, "--model", place.base, "-o", place.output), r"nowhere\.csv: no such file")
    assert_nothing_written(place.output)


def test_a_folder_as_data_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data.parent, "--model", place.base, "-o", place.output)
    assert_refused(finished, "folder")
    assert_nothing_written(place.output)


def test_an_unknown_sample_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    assert_refused(rehead(*FIT, "sample:nowhere", "--model", place.base, "-o", place.output), "sample")
    assert_nothing_written(place.output)


@pytest.mark.parametrize(
    ("options", "about"),
    [
        (["--label-column", "nowhere"], "'nowhere'.*--label-column.*text, label"),
        (["--text-column", "nowhere"], "'nowhere'.*--text-column.*text, label"),
        (["--text-column", "label", "--label-column", "label"], "column"),
        (["--depth", "99"], "has 4 layers; --depth must be from 1 to 4, not 99"),
        (["--depth", "0"], "--depth.*0"),
        (["--depth", "-1"], "--depth"),
        (["--depth", "x"], "--depth.*'x'"),
        (["--strategy", "last-99"], "last-99.*4"),
        (["--strategy", "last-0"], "--strategy must be .*'last-0'"),
        (["--strategy", "nonsense"], "--strategy must be.*'nonsense'"),
        (["--strategy", "last-3", "--depth", "2"], "--depth"),
        (["--pool", "cls"], "encoder"),
        (["--pool", "nonsense"], "--pool.*'nonsense'"),
        (["--max-length", "0"], "--max-length must"),
        (["--epochs", "0"], "--epochs must"),
        (["--batch-size", "-8"], "--batch-size must"),
        (["--learning-rate", "0"], "--learning-rate must"),
        (["--learning-rate", "nan"], "--learning-rate must"),
        (["--seed", "-1"], "--seed must"),
        (["--seed", "x"], "--seed.*'x'"),
        (["--label-smoothing", "1"], "--label-smoothing must"),
        (["--budget", "soon"], "--budget: must be a time such as 90s, 10m or 2h, not 'soon'"),
        (["--long", "middle"], "--long: must be truncate, head-tail or windows, not 'middle'"),
        (["--augmentations", "0"], "--augmentations must be a whole number from 1"),
        (["--augmentations", "2"], "--augmentations and --test-time-augmentation are for images, and these are texts"),
        (["--test-time-augmentation"], "--augmentations and --test-time-augmentation are for images"),
        (["--model", "tfidf", "--pool", "mean"], "--model tfidf .*; leave --pool out"),
        (["--model", "tfidf", "--no-ngrams"], "--model tfidf .*; leave --no-ngrams out"),
        (["--cv", "5", "--time-column", "text"], "--cv .*: leave --validation, --test and --time-column out"),
        (["--nonsense"], "there is no option --nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_setting_that_makes_no_sense_is_refused(
    rehead: Callable[..., Finished], place: Place, options: list[str], about: str
) -> None:
    assert_refused(rehead(*FIT, place.data, "--model", place.base, "-o", place.output, *options), about)
    assert_nothing_written(place.output)


def test_resuming_where_nothing_is_kept_begins_anew_and_says_so(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data, "--model", place.base, "-o", place.output, "--resume")
    assert finished.code == 0
    assert [line for line in finished.said if "--resume" in line] == [
        f"warning: --resume: nothing is kept of an interrupted run to {place.output}; it begins anew"
    ]
    assert (place.output / "rehead.json").is_file()


def test_last_token_pooling_of_an_encoder_is_refused(
    rehead: Callable[..., Finished], place: Place, encoder: Path
) -> None:
    finished = rehead(*FIT, place.data, "--model", encoder, "--pool", "last", "-o", place.output)
    assert_refused(finished, "--pool last needs a decoder")
    assert_nothing_written(place.output)


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
    assert_refused(rehead(*FIT, place.data, "--model", place.base, "-o", place.output), about)
    assert_nothing_written(place.output)


@pytest.mark.parametrize("name", ["nonsense", "nobody/nothing", "not a name!", "nowhere/at/all", "model.bin"])
def test_an_unknown_base_is_refused(
    rehead: Callable[..., Finished], place: Place, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(place.output.parent)
    assert_refused(rehead(*FIT, place.data, "--model", name, "-o", place.output), "base")
    assert_nothing_written(place.output)


def test_a_file_that_is_no_base_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    assert_refused(rehead(*FIT, place.data, "--model", place.data, "-o", place.output), "is a file")
    assert_nothing_written(place.output)


def test_a_broken_gguf_file_is_refused(rehead: Callable[..., Finished], place: Place, empty_cache: Path) -> None:
    broken = place.data.with_suffix(".gguf")
    broken.write_bytes(b"GGUF" + JUNK)
    assert_refused(rehead(*FIT, place.data, "--model", broken, "-o", place.output), r"data\.gguf")
    assert_nothing_written(place.output)


def test_an_output_folder_with_something_else_in_it_is_left_alone(
    rehead: Callable[..., Finished], place: Place
) -> None:
    place.output.mkdir()
    (place.output / "thesis.txt").write_text("years of work")
    assert_refused(rehead(*FIT, place.data, "--model", place.base, "-o", place.output), "not a rehead model")
    assert contents(place.output.parent) == {"model/thesis.txt": b"years of work"}


def test_an_output_that_is_a_file_is_left_alone(rehead: Callable[..., Finished], place: Place) -> None:
    place.output.write_text("years of work")
    assert_refused(rehead(*FIT, place.data, "--model", place.base, "-o", place.output), "is a file")
    assert contents(place.output.parent) == {"model": b"years of work"}


def test_an_output_below_a_file_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data, "--model", place.base, "-o", place.data / "model")
    assert_refused(finished, r"output folder .*data\.csv/model")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root can write to")
def test_an_output_that_cannot_be_written_is_refused(rehead: Callable[..., Finished], place: Place) -> None:
    finished = rehead(*FIT, place.data, "--model", place.base, "-o", "/proc/nowhere/model")
    assert_refused(finished, "cannot write to the output folder /proc/nowhere/model")


def test_a_refused_fit_does_not_leave_parents_of_the_output_behind(
    rehead: Callable[..., Finished], place: Place
) -> None:
    output = place.output / "of" / "mine"
    assert_refused(rehead(*FIT, place.data, "--model", place.base, "--depth", 99, "-o", output), "99")
    assert_nothing_written(place.output)


def test_an_interrupted_fit_leaves_nothing_but_its_state(
    rehead: Callable[..., Finished], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rehead.artifact.saving._verify", interrupt)
    finished = rehead(*FIT, place.data, "--model", place.base, "-o", place.output)
    assert (finished.code, finished.said) == (
        130,
        ["rehead: interrupted; run it again with --resume to go on from what is kept"],
    )
    assert [path.name for path in place.output.parent.iterdir()] == [f".{place.output.name}.rehead-run"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["--precision", "spam"], "--precision must be a class and a number"),
        (["--recall", "spam=2"], "--recall must be a class and a number"),
        (["--precision", "spam=0.9", "--recall", "spam=0.9"], "each choose a threshold; give one of them"),
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
    finished = rehead(*FIT, data, "--model", decoder, "-o", tmp_path / "model", *wanted)
    assert finished.code == 2
    assert message in finished.err.splitlines()[-1]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("content", ["[]", '{"ham": 1}', "{", '{"ham": {"spam": "x"}}', '{"ham": {"eggs": 1}}'])
def test_costs_that_are_none_are_refused(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "costs.json").write_text(content)
    finished = rehead(*FIT, data, "--model", decoder, "-o", tmp_path / "model", "--costs", tmp_path / "costs.json")
    assert finished.code == 2
    assert "--costs" in finished.err.splitlines()[-1]


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
    finished = rehead(*FIT, data, "--model", decoder, "-o", tmp_path / "model", option, column)
    assert finished.code == 2
    assert re.search(message, finished.err.splitlines()[-1])


def test_sliding_windows_do_not_go_with_layers_that_are_trained(
    rehead: Callable[..., Finished], data: Path, encoder: Path, tmp_path: Path
) -> None:
    options = ["--model", encoder, "--long", "windows", "-o", tmp_path / "model"]
    finished = rehead("fit", data, *options, "--strategy", "last-1")
    assert finished.code == 2
    assert "--long windows goes with --strategy head, not last-1" in finished.err
    assert rehead("fit", data, *options, "--strategy", "auto", "--json").json["tune"] == "head"
