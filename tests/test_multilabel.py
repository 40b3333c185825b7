"""Several labels a text from end to end: estimator, saved folder, Transformers' pipeline, command line, report."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import DataConversionWarning
from transformers import pipeline

import rehead
from rehead import Classifier, DataError
from rehead.analysis import label_study
from rehead.data.preparation import DataConfig, prepare
from rehead.evaluation.decisions import DecisionConfig
from rehead.workflows.evaluate import evaluate
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_csv

PARTS = {"win": "free prize win", "meal": "lunch at noon", "phone": "call now txt"}
CHOICES = [["win"], ["meal"], ["phone"], ["win", "phone"], ["meal", "phone"], []]
FILLERS = ["you", "home", "later", "for", "cash", "meet"]


def rows(n: int = 120) -> tuple[list[str], list[list[str]]]:
    """Texts of the tiny models' words, which name each of their labels, and these labels; some have none."""
    texts, labels = [], []
    for i in range(n):
        chosen = CHOICES[i % len(CHOICES)]
        # In a different order each time, so that no text comes up twice.
        fillers = [FILLERS[(i // 6 + i // 36 * k + k) % 6] for k in range(3)]
        texts.append(" ".join([*(PARTS[name] for name in chosen), *fillers, *(["ok"] * (i // 36))]))
        labels.append(chosen)
    return texts, labels


TEXTS, LABELS = rows()
INDICATOR = np.array([[int(name in chosen) for name in ("meal", "phone", "win")] for chosen in LABELS])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("llama"), "llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    records = [{"text": text, "labels": chosen} for text, chosen in zip(TEXTS, LABELS, strict=True)]
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


@pytest.fixture(scope="module")
def fitted(base: str, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("fit") / "model"
    model = Classifier(base, tune="head", depth=3, pool="last")
    return fit(
        DataConfig(str(data)), model, folder, decisions=DecisionConfig("f1", "all"), full_report=True
    ).to_json(), folder


@pytest.mark.parametrize("tune", ["head", "last-1", "full"])
@pytest.mark.parametrize("y", [LABELS, [set(chosen) for chosen in LABELS], INDICATOR])
def test_estimator_takes_collections_and_indicators(base: str, tune: str, y: Any) -> None:
    model = Classifier(base, tune=tune, depth=3, pool="mean", epochs=1).fit(TEXTS, y)
    predicted = model.predict(TEXTS)
    assert model.classes_.tolist() == ([0, 1, 2] if y is INDICATOR else ["meal", "phone", "win"])
    assert predicted.shape == INDICATOR.shape
    assert (predicted == INDICATOR).mean() > 0.9
    probabilities = model.predict_proba(TEXTS)
    np.testing.assert_array_equal(predicted, probabilities >= 0.5)


def test_more_columns_of_anything_else_are_refused(base: str) -> None:
    with pytest.raises(DataError, match="other numbers than 0 and 1"):
        Classifier(base).fit(TEXTS, 2 * INDICATOR)


def test_one_column_is_one_label_each(base: str) -> None:
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model = Classifier(base, tune="head", depth=2, pool="mean").fit(TEXTS, INDICATOR[:, :1])
    assert model.predict(TEXTS).shape == (len(TEXTS),)


def test_saved_classifier_comes_back(base: str, tmp_path: Path) -> None:
    model = Classifier(base, tune="head", depth=2, pool="mean").fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    again = rehead.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(TEXTS), model.predict_proba(TEXTS))
    np.testing.assert_array_equal(again.predict(TEXTS), model.predict(TEXTS))


def test_transformers_pipeline_gives_the_same_probabilities(base: str, tmp_path: Path) -> None:
    model = Classifier(base, tune="head", depth=3, pool="last", ngrams=False).fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    ours = model.predict_proba(TEXTS[:12])
    answers = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)(TEXTS[:12])
    theirs = [
        [next(a["score"] for a in answer if a["label"] == name) for name in ("meal", "phone", "win")]
        for answer in answers
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_fit_measures_what_is_asked_of_several_labels(fitted: tuple[dict[str, Any], Path]) -> None:
    facts, folder = fitted
    assert facts["multilabel"]
    assert facts["test"]["micro_f1"] > 0.9
    assert "confusion" not in facts["test"]
    assert set(facts["decisions"]["thresholds"]) == {"meal", "phone", "win"}
    assert facts["decisions"]["test"]["micro_f1"] > 0.8
    assert facts["baselines"]["majority"]["accuracy"] < facts["baselines"]["tfidf"]["accuracy"]
    assert facts["label_study"]["errors"]["examined"] == facts["rows"]["train"] + facts["rows"]["validation"]
    told = json.loads((folder / "rehead.json").read_text())
    assert (told["multilabel"], told["label_separator"]) == (True, ";")


def test_report_and_card_speak_of_several_labels(fitted: tuple[dict[str, Any], Path]) -> None:
    _, folder = fitted
    report = (folder / "report.html").read_text()
    assert "Micro F1" in report
    assert "Thresholds" in report
    assert "Confusion matrix" not in report
    assert "most frequent labels" in report
    assert "any of these labels: meal, phone, win" in (folder / "README.md").read_text()


def test_evaluation_of_a_saved_classifier_is_that_of_its_rule(
    fitted: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    facts, folder = fitted
    fresh = write_csv(tmp_path / "fresh.csv", ["text", "labels"], [["lunch at noon call now txt cash", "meal;phone"]])
    measured = evaluate(folder, str(fresh), tmp_path / "report.html").to_json()
    assert measured["test"]["n"] == 1
    assert measured["decisions"]["thresholds"] == facts["decisions"]["thresholds"]
    assert (tmp_path / "report.html").is_file()


def test_planted_wrong_label_is_found(fitted: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    _, folder = fitted
    labels = [";".join(chosen) for chosen in LABELS]
    labels[0] = "meal"  # the text says that it is a win
    table = write_csv(tmp_path / "planted.csv", ["text", "labels"], zip(TEXTS, labels, strict=True))
    first = label_study.label_errors(folder, str(table)).errors.most_suspicious[0]
    assert (first.row, first.label, first.suggested) == (2, "meal", "win")


def test_each_label_is_in_every_part_of_the_split(data: Path) -> None:
    parts = prepare(DataConfig(str(data)), seed=0)
    for part in (parts.train, parts.validation, parts.test):
        assert part.labels.any(0).all()


def test_semicolons_can_be_told_to_mean_nothing(tmp_path: Path) -> None:
    cells = [";".join(chosen) or "none" for chosen in LABELS]
    table = write_csv(tmp_path / "rows.csv", ["text", "labels"], zip(TEXTS, cells, strict=True))
    assert prepare(DataConfig(str(table)), seed=0).train.multilabel
    single = prepare(DataConfig(str(table), label_separator=""), seed=0).train
    assert not single.multilabel
    assert "meal;phone" in single.label_names


def test_cross_validation_tests_every_text(base: str, data: Path) -> None:
    facts = fit(DataConfig(str(data)), Classifier(base, tune="head", depth=3, pool="mean"), n_folds=2).to_json()
    assert facts["test"]["n"] == len(set(TEXTS))
    assert len(facts["folds"]) == 2


Run = Callable[..., tuple[int, str, str]]


def test_command_line_from_a_file_with_another_separator(base: str, tmp_path: Path, in_process: Run) -> None:
    labels = ["|".join(chosen) or "rest" for chosen in LABELS]
    table = write_csv(tmp_path / "rows.csv", ["text", "labels"], zip(TEXTS, labels, strict=True))
    folder = tmp_path / "model"
    how = ["--base", base, "--tune", "head", "--depth", 3, "--pool", "mean", "--label-separator", "|", "--f1", "all"]
    code, out, err = in_process("fit", table, *how, "-o", folder)
    assert code == 0, err
    assert "of which a text may have several" in err
    assert "of all labels of a text together" in out
    assert "micro F1" in out

    code, out, _ = in_process("predict", folder, "free prize win call now txt home later", "--json")
    assert json.loads(out)["labels"] == ["phone", "win"]
    code, out, _ = in_process("predict", folder, "free prize win call now txt home later")
    assert out.startswith("phone;win\t")

    code, _, _ = in_process("predict", folder, table, "-o", tmp_path / "out.csv")
    predicted = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)["predicted"]
    wanted = [";".join(sorted(label.split("|"))) for label in labels]
    assert np.mean(predicted == wanted) > 0.9

    code, out, err = in_process("evaluate", folder, table, "--json")
    assert code == 0, err
    assert json.loads(out)["test"]["micro_f1"] > 0.9


@pytest.mark.parametrize("option", [("--abstain-below", "0.5"), ("--coverage", "0.9"), ("--f1", "nothing")])
def test_what_is_for_one_label_each_is_refused_before_anything_is_trained(
    option: tuple[str, str], base: str, data: Path, tmp_path: Path, in_process: Run
) -> None:
    code, _, err = in_process("fit", data, "--base", base, *option, "-o", tmp_path / "model")
    assert code == 2
    assert option[0] in err.splitlines()[-1]
    assert not (tmp_path / "model").exists()


def test_lists_in_parquet_are_read(tmp_path: Path) -> None:
    pd.DataFrame({"text": TEXTS, "labels": LABELS}).to_parquet(tmp_path / "rows.parquet")
    train = prepare(DataConfig(str(tmp_path / "rows.parquet")), seed=0).train
    assert train.multilabel
    assert train.label_names == ("meal", "phone", "win")
