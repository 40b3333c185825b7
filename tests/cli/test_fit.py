"""`rehead fit`: from a file to a saved classifier."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.cli.running import FIT, Finished, contents, in_child
from tests.tiny_texts import messages, write_csv, write_messages


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
    finished = in_child(*FIT, data, "--model", decoder, "-o", tmp_path / "model")
    assert finished.code == 0
    assert re.search(r"\d+\.\d\d% accuracy on 12 test texts, 95 % interval \d", finished.out)
    for expected in ("TF-IDF", "majority class", "precision", "predicted", f"model   {tmp_path / 'model'}"):
        assert expected in finished.out
    assert finished.out.splitlines()[-1] == f'next    rehead predict {tmp_path / "model"} "a text"'
    assert "FLOP" not in finished.out + finished.err
    assert "Traceback" not in finished.err


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
        rehead(*FIT, data, "--model", base, "--strategy", tune, "--epochs", 2, "--json", "-o", tmp_path / name)
        for name in ("first", "second")
    )
    assert (first.code, second.code) == (0, 0), first.err
    assert lasting(first.json) == lasting(second.json)
    for name in ("model.safetensors", "reference.safetensors", "rehead.json", "README.md", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_another_process_with_the_same_seed_gives_the_same_bytes(
    rehead: Callable[..., Finished], fitted: Finished, model: Path, data: Path, decoder: Path, tmp_path: Path
) -> None:
    again = rehead(*FIT, data, "--model", decoder, "--json", "-o", tmp_path / "model")
    assert lasting(again.json) == lasting(fitted.json)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("tune", ["head", "last-1"])
def test_another_seed_gives_another_classifier(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path, tune: str
) -> None:
    options = ("--model", decoder, "--strategy", tune, "--depth", 2, "--pool", "mean", "--epochs", 1)
    for seed in (1, 2):
        assert rehead(*FIT, data, *options, "--seed", seed, "-o", tmp_path / str(seed)).code == 0
    first, second = ((tmp_path / str(seed) / "model.safetensors").read_bytes() for seed in (1, 2))
    assert first != second


def test_last_k_freezes_the_layers_before_the_last_k(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    options = ("--strategy", "last-2", "--depth", 3, "--epochs", 1, "--json")
    facts = rehead(*FIT, data, "--model", decoder, *options, "-o", tmp_path / "model").json
    assert (facts["tune"], facts["depth"], facts["cut"]) == ("last-2", 3, 1)
    assert len(facts["epochs"]["validation_losses"]) == 2


@pytest.mark.parametrize(("kind", "pool"), [("decoder", "last"), ("decoder", "both"), ("encoder", "cls")])
def test_depth_and_pooling_are_those_asked_for(
    rehead: Callable[..., Finished], request: pytest.FixtureRequest, data: Path, tmp_path: Path, kind: str, pool: str
) -> None:
    options = ("--model", request.getfixturevalue(kind), "--depth", 2, "--pool", pool, "--json")
    facts = rehead(*FIT, data, *options, "-o", tmp_path / "model").json
    assert (facts["depth"], facts["pool"]) == (2, pool)


def test_rows_that_are_not_used_are_counted_and_named_by_line(
    rehead: Callable[..., Finished], decoder: Path, tmp_path: Path
) -> None:
    rows = list(zip(*messages(60), strict=True))
    unusable = [("", "ham"), ("free prize", ""), (rows[0][0].upper(), rows[0][1]), (rows[1][0], "ham"), ("  ", "ham")]
    data = write_csv(tmp_path / "data.csv", ["text", "label"], [*rows, *unusable])
    finished = rehead(*FIT, data, "--model", decoder, "--json", "-o", tmp_path / "model")
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
    finished = rehead(*FIT, data, "--test", test, "--model", decoder, "--json", "-o", tmp_path / "model")
    facts = finished.json
    assert (facts["test"]["n"], facts["overlap"]["n"], facts["overlap"]["test_without"]["n"]) == (20, 6, 14)
    assert facts["overlap"]["baselines_without"].keys() == {"majority", "tfidf"}
    assert "warning: 6 of 20 test texts are also in training" in finished.err
    assert f"{facts['overlap']['test_without']['accuracy']:.2%}" in finished.err


def test_a_test_set_without_overlap_gives_no_warning(
    rehead: Callable[..., Finished], data: Path, unseen: Path, decoder: Path, tmp_path: Path
) -> None:
    finished = rehead(*FIT, data, "--test", unseen, "--model", decoder, "--json", "-o", tmp_path / "model")
    assert finished.json["overlap"] is None
    assert finished.json["rows"]["test"] == 20
    assert finished.said == []


def test_a_validation_set_of_ones_own_loses_what_training_has_too(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    validation = write_messages(tmp_path / "validation.csv", n=70, start=0)
    options = ("--validation", validation, "--model", decoder, "--json")
    rows = rehead(*FIT, data, *options, "-o", tmp_path / "model").json["rows"]
    assert rows["dropped"] == {"validation: text of the training part": rows["train"]}
    assert rows["validation"] == 70 - rows["train"]


def test_columns_are_those_asked_for(rehead: Callable[..., Finished], decoder: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    decoys = ["x" * (i % 3 + 1) for i in range(60)]
    rows = zip(decoys, decoys, texts, labels, strict=True)
    data = write_csv(tmp_path / "data.csv", ["text", "label", "said", "kind"], rows)
    options = ("--text-column", "said", "--label-column", "kind", "--model", decoder, "--json")
    assert rehead(*FIT, data, *options, "-o", tmp_path / "model").json["labels"] == ["ham", "spam"]
    answers = rehead("predict", tmp_path / "model", data, "--json").out.splitlines()
    assert sum(json.loads(line)["label"] == label for line, label in zip(answers, labels, strict=True)) > 50


def test_an_existing_model_is_replaced_by_a_new_one(
    rehead: Callable[..., Finished], model: Path, data: Path, decoder: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(model, tmp_path / "out" / "model")
    options = ("--depth", 1, "--pool", "both", "--json")
    assert rehead(*FIT, data, "--model", decoder, *options, "-o", older).code == 0
    description = json.loads((older / "rehead.json").read_text())
    assert (description["depth"], description["pool"]) == (1, "both")
    assert [path.name for path in older.parent.iterdir()] == ["model"]


def test_an_existing_model_stays_as_it_was_when_a_fit_fails(
    rehead: Callable[..., Finished], model: Path, data: Path, decoder: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(model, tmp_path / "out" / "model")
    assert rehead(*FIT, data, "--model", decoder, "--depth", 99, "-o", older).code == 2
    assert contents(older) == contents(model)
    assert [path.name for path in older.parent.iterdir()] == ["model"]


def test_decisions_are_chosen_on_validation_told_of_the_test_and_kept(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path
) -> None:
    wanted = ["--precision", "spam=0.5", "--abstain-below", "0.999999", "--coverage", "0.8"]
    fit = rehead(*FIT, data, "--model", decoder, "--json", "-o", tmp_path / "model", *wanted).json
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
    rehead(*FIT, data, "--model", decoder, "-o", tmp_path / "model", "--costs", costs)
    assert rehead("predict", tmp_path / "model", "win free prize").out.startswith("ham\t")


def test_groups_stay_together_and_times_in_order(
    rehead: Callable[..., Finished], decoder: Path, tmp_path: Path
) -> None:
    texts, labels = messages(60)
    rows = [
        (text, label, f"writer {i // 6}", f"2026-01-{1 + i // 3:02d}")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    data = write_csv(tmp_path / "data.csv", ["text", "label", "writer", "when"], rows)
    grouped = rehead(*FIT, data, "--model", decoder, "--json", "-o", tmp_path / "a", "--group-column", "writer").json
    assert "groups" in grouped["split"]
    assert grouped["rows"]["test"] % 6 == 0
    timed = rehead(*FIT, data, "--model", decoder, "--json", "-o", tmp_path / "b", "--time-column", "when").json
    assert timed["split"].startswith("by time")
    assert timed["rows"]["test"] == 12


def test_split_is_saved_with_the_model(fitted: Finished, model: Path) -> None:
    split = json.loads((model / "split.json").read_text())
    rows = [row for part in ("train", "validation", "test") for row in split[part]["rows"]]
    assert sorted(rows) == list(range(2, 62))
    assert len(split["test"]["rows"]) == fitted.json["rows"]["test"]


@pytest.mark.parametrize(("long", "cut"), [("truncate", 60), ("head-tail", 60), ("chunks", 0)])
def test_long_texts_are_treated_in_the_fit_as_in_prediction(
    rehead: Callable[..., Finished], encoder: Path, tmp_path: Path, long: str, cut: int
) -> None:
    texts, labels = messages(60)
    data = write_csv(
        tmp_path / "d.csv", ["text", "label"], [(f"{t} " * 4, la) for t, la in zip(texts, labels, strict=True)]
    )
    options = ["--model", encoder, "--max-length", "6", "--long", long, "--json"]
    fit = rehead("fit", data, *options, "--strategy", "head", "-o", tmp_path / "model").json
    assert fit["long"] == long
    assert sum(fit["truncated"].values()) == cut
    again = rehead("evaluate", tmp_path / "model", data, "--json").json
    assert again["truncated"]["test"] == cut
    predicted = rehead("predict", tmp_path / "model", f"{texts[0]} " * 4, "--json").json
    assert (predicted["tokens_cut"] > 0) == (cut > 0)
    assert again["long"] == long
