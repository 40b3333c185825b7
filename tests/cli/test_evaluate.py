"""`rehead evaluate`: a saved classifier on other data."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import FIT, Finished, Place, assert_nothing_written, assert_refused, in_child


def test_evaluate_measures_a_saved_classifier(model: Path, unseen: Path, tmp_path: Path) -> None:
    finished = in_child("evaluate", model, unseen, "--json", "--report", tmp_path / "report.html")
    assert finished.code == 0, finished.err
    assert finished.json["test"]["n"] == 20
    assert "<h1>" in (tmp_path / "report.html").read_text()


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
    fit = rehead(*FIT, data, "--test", unseen, "--model", decoder, "--json", "-o", tmp_path / "model").json
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
