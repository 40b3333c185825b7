"""A static model is loaded by Model2Vec alone, and what is said of it is what it does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from tokenizers import Tokenizer

import rehead
from rehead import Classifier
from rehead.data.preparation import DataConfig
from rehead.export import static_model
from rehead.export.workflow import export
from rehead.runtime import extras
from rehead.runtime.errors import DataError, SettingError
from rehead.workflows.fit import fit
from tests.tiny_images import save_folders
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages
from tests.tiny_vision_models import save_tiny_vision_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", 120)


@pytest.fixture(scope="module")
def saved(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with n-grams beside its head, which a static model may be distilled of, too."""
    folder = tmp_path_factory.mktemp("saved")
    base = str(save_tiny_model(folder / "base", "bert"))
    fit(DataConfig(str(data)), Classifier(base, tune="head", depth=2, pool="mean"), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def exported(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("model2vec", reason="the extra `static` is not installed")
    folder = tmp_path_factory.mktemp("exported") / "static"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static_model, "_TIMED", 100)
        result = export(saved, "static", folder)
    (folder / "printed.json").write_text(json.dumps(result.to_json()))
    return folder


def test_the_folder_is_loaded_without_rehead_and_without_torch(exported: Path) -> None:
    code = (exported / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = f"import sys\nfor name in ('rehead', 'torch', 'transformers'): sys.modules[name] = None\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=exported, capture_output=True, text=True, check=True)
    assert set(done.stdout.strip("[]\n").split()) <= {"'ham'", "'spam'"}
    assert not [path for path in exported.iterdir() if path.suffix in (".pkl", ".bin", ".skops")]
    assert ModelCard.load(exported / "README.md").data.library_name == "model2vec"


def test_accuracy_is_that_on_the_texts_that_the_classifier_was_tested_on(
    saved: Path, exported: Path, data: Path
) -> None:
    said = json.loads((exported / "export.json").read_text())
    printed = json.loads((exported / "printed.json").read_text())
    test = json.loads((saved / "split.json").read_text())["test"]
    lines = dict(enumerate(data.read_text().splitlines(), start=1))
    texts, labels = messages(120)
    rows = [row - 2 for row in test["rows"]]
    assert all(texts[row] in lines[row + 2] for row in rows)
    predicted = static_model.read(exported).predict([texts[row] for row in rows])
    expected = np.mean([label == labels[row] for label, row in zip(predicted, rows, strict=True)])
    assert said["accuracy"]["export"] == printed["accuracy"]["export"] == pytest.approx(expected)
    metrics = json.loads((saved / "rehead.json").read_text())["metrics"]
    assert said["accuracy"]["rehead"] == pytest.approx(metrics["test"]["accuracy"])
    assert said["accuracy"]["export"] > 0.9
    assert (printed["compared"], printed["format"]) == (len(rows), "static")
    assert printed["a_second"]["export"] > 0


def test_labelled_data_may_be_named(
    saved: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_model, "_TIMED", 100)
    texts, labels = messages(30)
    wrong = [{"ham": "spam", "spam": "ham"}[label] for label in labels]
    rows = [list(row) for row in zip(texts, wrong, strict=True)]
    result = export(
        saved, "static", tmp_path / "out", data=str(write_csv(tmp_path / "data.csv", ["text", "label"], rows))
    )
    assert result.accuracy is not None
    assert result.accuracy.export < 0.1
    assert result.comparison.compared == len(rows)
    unknown = write_csv(tmp_path / "other.csv", ["text", "label"], [["a text", "eggs"], ["b", "eggs"]])
    with pytest.raises(DataError):
        export(saved, "static", tmp_path / "none", data=str(unknown))
    assert not (tmp_path / "none").exists()


def test_frequent_tokens_count_less(exported: Path, saved: Path) -> None:
    tokenizer = Tokenizer.from_file(str(saved / "tokenizer.json"))
    weights = static_model._weights(tokenizer, ["win"] * 999 + ["free"])
    of = {token: float(weights[tokenizer.token_to_id(token), 0]) for token in ("win", "free", "noon")}
    assert of["noon"] == 1
    assert of["free"] == pytest.approx(0.5)
    assert of["win"] == pytest.approx(0.001, rel=2e-3)


@pytest.mark.parametrize("gone", ["data", "split"])
def test_what_it_was_fitted_to_is_asked_for(saved: Path, data: Path, tmp_path: Path, gone: str) -> None:
    pytest.importorskip("model2vec", reason="the extra `static` is not installed")
    file = data if gone == "data" else saved / "split.json"
    kept = file.read_text()
    file.unlink()
    try:
        with pytest.raises((SettingError, rehead.ArtifactError), match=r"cannot be read any more|is missing"):
            export(saved, "static", tmp_path / "out")
    finally:
        file.write_text(kept)
    assert not (tmp_path / "out").exists()


def test_without_a_network_of_texts_there_is_nothing_to_distil(
    tmp_path: Path, bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "require", lambda *_: None)
    Classifier("tfidf").fit(*messages(40)).save(tmp_path / "ngrams")
    photos = sorted(save_folders(tmp_path / "stripes", 6).rglob("*.png"))
    base = str(save_tiny_vision_model(tmp_path / "base", "vit"))
    model = Classifier(base, ngrams=False, tune="head", depth=1, pool="cls")
    model.fit(photos, [path.parent.name for path in photos]).save(tmp_path / "images")
    for folder in ("ngrams", "images"):
        with pytest.raises(SettingError, match="a network that reads texts"):
            export(tmp_path / folder, "static", tmp_path / "out")


def test_a_missing_package_is_named_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model2vec", None)
    with pytest.raises(SettingError, match=r"needs model2vec; pip install 'rehead\[static\]'"):
        export(tmp_path / "no such model", "static", tmp_path / "out")
