"""`--base tfidf` is the baseline itself, with all that belongs to a classifier and without a network."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import rehead
from rehead import Classifier
from rehead.analysis.label_study import label_errors
from rehead.artifact.artifact import NgramArtifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import MANIFEST
from rehead.artifact.predictor import NgramPredictor
from rehead.data.preparation import DataConfig
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.calibration import at_temperature
from rehead.evaluation.decisions import DecisionConfig
from rehead.export.workflow import export
from rehead.runtime.errors import ArtifactError, DataError, RheadError, SettingError
from rehead.workflows.fit import fit
from tests.saved_folders import describe
from tests.tiny_images import save_folders
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages

TEXTS, LABELS = messages(80)
UNSEEN = [*messages(12, 300)[0], "zebra", "", "WIN a prize!", "中文 字符"]
SEVERAL = {"win": "free prize", "meal": "lunch at noon", "phone": "call now"}
FILLERS = ["you", "home", "later", "for", "cash", "meet", "txt", "ok", "yes", "zebra", "river", "stone"]

Run = Callable[..., tuple[int, str, str]]


def write_several(path: Path) -> Path:
    """Texts that name each of their labels, of which they may have several."""
    generator = np.random.default_rng(0)
    rows = []
    for i in range(160):
        chosen = [name for bit, name in enumerate(SEVERAL) if (i % 7 + 1) >> bit & 1]
        words = [*(SEVERAL[name] for name in chosen), *generator.choice(FILLERS, 6)]
        rows.append([" ".join(generator.permutation(words)), ";".join(chosen)])
    return write_csv(path, ["text", "label"], rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tfidf")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return write_messages(folder / "messages.csv", n=400)


@pytest.fixture(scope="module")
def model(folder: Path, data: Path) -> Path:
    fit(str(data), Classifier("tfidf"), folder / "model", full_report=True)
    return folder / "model"


@pytest.fixture(scope="module")
def fitted() -> Classifier:
    return Classifier("tfidf").fit(TEXTS, LABELS)


@pytest.mark.parametrize("write", [write_messages, write_several])
def test_probabilities_are_those_of_the_baseline_beside_another_fit_but_for_the_temperature(
    tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    data = str(write(tmp_path / "data.csv"))
    base = save_tiny_model(tmp_path / "base", "llama")
    other = fit(data, Classifier(str(base), tune="head", depth=1, pool="mean")).model.artifact_
    found = fit(data, Classifier("tfidf"))
    alone, told = found.model.artifact_, found.model.artifact_.manifest
    assert other.reference is not None
    baseline = other.reference.baselines
    assert isinstance(baseline, Baselines)
    uncalibrated = at_temperature(alone.scores(UNSEEN).probabilities, 1 / told.temperature, alone.multilabel)
    np.testing.assert_allclose(uncalibrated, baseline.probabilities(UNSEEN), atol=1e-6)
    assert told.temperature != 1
    assert told.multilabel == (write is write_several)
    assert found.evaluation.test.accuracy == found.evaluation.baselines["tfidf"].accuracy


def test_estimator_keeps_the_contract_and_comes_back_from_disk(fitted: Classifier, tmp_path: Path) -> None:
    probabilities = fitted.predict_proba(UNSEEN)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert fitted.predict(TEXTS).tolist() == LABELS
    assert (fitted.depth_, fitted.pool_) == (None, None)
    fitted.save(tmp_path / "model")
    again = rehead.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(UNSEEN), probabilities)
    np.testing.assert_array_equal(clone(again).fit(TEXTS, LABELS).predict_proba(UNSEEN), probabilities)
    again.save(tmp_path / "copy")
    np.testing.assert_array_equal(Classifier.load(tmp_path / "copy").predict_proba(UNSEEN), probabilities)


def test_the_same_data_give_the_same_classifier(fitted: Classifier) -> None:
    again = Classifier("tfidf").fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))


def test_labels_of_any_type_come_back(tmp_path: Path) -> None:
    numbers = [int(label == "spam") for label in LABELS]
    Classifier("tfidf").fit(TEXTS, numbers).save(tmp_path / "model")
    assert Classifier.load(tmp_path / "model").predict(TEXTS).tolist() == numbers


@given(st.lists(st.sampled_from([*UNSEEN, *TEXTS[:10]]), max_size=12))
@settings(max_examples=30)
def test_a_text_scores_the_same_whatever_it_is_asked_with(fitted: Classifier, texts: list[str]) -> None:
    predictor = fitted.artifact_.predictor(label=None)
    together = predictor.scores(texts, keep_features=True)
    for i, text in enumerate(texts):
        alone = predictor.scores([text], keep_features=True)
        np.testing.assert_allclose(together.probabilities[i], alone.probabilities[0], rtol=1e-6)
        assert together.features is not None
        assert alone.features is not None
        np.testing.assert_allclose(together.features[i], alone.features[0], atol=1e-6)
    assert together.probabilities.shape == (len(texts), 2)
    assert not together.tokens_cut.any()


def test_texts_are_scored_a_portion_at_a_time(fitted: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = fitted.artifact_.predictor(label=None)
    whole = predictor.scores(UNSEEN, keep_features=np.array([1, 9]))
    monkeypatch.setattr("rehead.artifact.predictor._CHUNK", 5)
    divided = predictor.scores(UNSEEN, keep_features=np.array([1, 9]))
    np.testing.assert_allclose(divided.probabilities, whole.probabilities, rtol=1e-6)
    assert divided.features is not None
    assert whole.features is not None
    np.testing.assert_allclose(divided.features, whole.features, atol=1e-6)


def test_from_the_command_line_to_predictions(
    in_process: Run, data: Path, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rehead.models.loading.load_folder", lambda *_, **__: pytest.fail("a network was loaded"))
    code, out, err = in_process("fit", data, "--base", "tfidf", "-o", tmp_path / "model", "--json")
    facts = json.loads(out)
    assert code == 0
    assert "n-grams" in err
    assert not empty_cache.exists()
    assert (facts["base"], facts["tune"], facts["depth"], facts["refitted"]) == ("tfidf", "head", None, True)
    assert facts["test"]["accuracy"] == facts["baselines"]["tfidf"]["accuracy"] == 1
    assert facts["comparison"]["verdict"].startswith("better than the majority class, p < 0.001")
    assert facts["calibration"]["temperature"] > 0
    assert {file.name for file in (tmp_path / "model").iterdir()} == {
        *("README.md", "report.html", "metrics.jsonl", "split.json", MANIFEST),
        *("model.safetensors", "reference.safetensors", "fingerprint.safetensors"),
    }
    code, out, _ = in_process("predict", tmp_path / "model", "win a free prize", "--json")
    assert (code, json.loads(out)["label"]) == (0, "spam")
    code, _, _ = in_process("predict", tmp_path / "model", data, "-o", tmp_path / "scored.csv")
    assert code == 0
    scored = (tmp_path / "scored.csv").read_text().splitlines()
    assert len(scored) == 401
    assert all(row.split(",")[1] == row.split(",")[2] for row in scored[1:])
    code, out, _ = in_process("evaluate", tmp_path / "model", data, "--report", tmp_path / "report.html", "--json")
    assert (code, json.loads(out)["test"]["accuracy"]) == (0, 1)
    code, out, _ = in_process("explain", tmp_path / "model", "win at noon", "--data", data, "--json")
    pieces = {piece["text"]: piece["weight"] for piece in json.loads(out)["pieces"]}
    assert pieces["win"] * pieces["noon"] < 0
    similar = [neighbour["similarity"] for neighbour in json.loads(out)["neighbours"]]
    assert similar == sorted(similar, reverse=True)
    code, out, _ = in_process("drift", tmp_path / "model", data, "--json")
    assert (code, json.loads(out)["drifted"]) == (0, False)


def test_report_and_card_speak_of_no_network(model: Path) -> None:
    page, card = ((model / name).read_text() for name in ("report.html", "README.md"))
    for text in (page, card):
        assert "majority class" in text
        assert "None" not in text.replace("None: every test text", "")
        assert "layers" not in text
    assert "no pretrained model" in page
    assert "Comparison with the baselines" in page
    assert "Learning curve" in page
    assert "without a pretrained model" in card
    assert "library_name: rehead" in card


def test_printed_table_names_no_baseline_twice(in_process: Run, data: Path, tmp_path: Path) -> None:
    _, out, _ = in_process("fit", data, "--base", "tfidf", "-o", tmp_path / "model")
    assert "majority class" in out
    assert "TF-IDF" not in out


def test_a_text_is_most_like_itself(model: Path, data: Path) -> None:
    text = data.read_text().splitlines()[7].split(",")[0]
    near = rehead.explain(model, text, str(data)).neighbours
    assert (near[0].row, near[0].similarity) == (8, pytest.approx(1, abs=1e-6))


def test_wrong_labels_are_found_by_ngrams(model: Path, tmp_path: Path) -> None:
    texts, labels = messages(400)
    wrong = set(range(5, 400, 20))
    swapped = [{"ham": "spam", "spam": "ham"}[label] if i in wrong else label for i, label in enumerate(labels)]
    noisy = write_csv(tmp_path / "noisy.csv", ["text", "label"], zip(texts, swapped, strict=True))
    first = label_errors(model, str(noisy), tmp_path / "errors.csv").errors.most_suspicious
    assert len({label.row - 2 for label in first} & wrong) >= 0.8 * len(wrong)


def test_every_fold_is_tested_and_thresholds_are_chosen(data: Path, tmp_path: Path) -> None:
    found = fit(str(data), Classifier("tfidf"), n_folds=3, decisions=DecisionConfig("precision", "spam", 0.9)).to_json()
    assert [fold["accuracy"] for fold in found["folds"]] == [1, 1, 1]
    assert found["decisions"]["threshold"]["label"] == "spam"


def test_validation_of_ones_own_is_not_learned_from(data: Path, tmp_path: Path) -> None:
    own = write_messages(tmp_path / "validation.csv", n=20, start=300)
    found = fit(DataConfig(str(data), validation=str(own)), Classifier("tfidf"))
    assert found.training.refitted is False


@pytest.mark.parametrize(
    ("setting", "parameter"),
    [
        ({"tune": "last-4"}, "`tune`"),
        ({"depth": 2}, "`depth`"),
        ({"pool": "mean"}, "`pool`"),
        ({"max_length": 64}, "`max_length`"),
        ({"long": "chunks"}, "`long`"),
        ({"ngrams": False}, "`ngrams=False`"),
        ({"views": 2}, "`views`"),
        ({"average_views": True}, "`average_views`"),
        ({"epochs": 3}, "`epochs`"),
        ({"batch_size": 8}, "`batch_size`"),
        ({"learning_rate": 1e-3}, "`learning_rate`"),
        ({"label_smoothing": 0.1}, "`label_smoothing`"),
        ({"class_weight": "balanced"}, "`class_weight`"),
    ],
)
def test_settings_of_a_network_are_refused(setting: dict[str, Any], parameter: str) -> None:
    with pytest.raises(SettingError, match=f"`base='tfidf'` .*; leave {parameter} out, or give a pretrained base"):
        Classifier("tfidf", **setting).fit(TEXTS, LABELS)


@pytest.mark.parametrize("setting", [{"tune": "head"}, {"preset": "quick"}, {"budget": 60.0}])
def test_settings_that_it_keeps_are_taken(setting: dict[str, Any]) -> None:
    assert Classifier("tfidf", **setting).fit(TEXTS, LABELS).predict(["win a prize"]).tolist() == ["spam"]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("fit", ["--base", "tfidf", "--dry-run"]),
        ("search", ["--base", "tfidf"]),
        ("compare", ["--base", "tfidf"]),
        ("inspect", ["--base", "tfidf"]),
    ],
)
def test_what_needs_a_network_refuses_it_in_one_line(
    in_process: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = in_process(command, data, *options)
    assert code == 2
    assert err.splitlines()[-1].startswith("rehead: base 'tfidf' has no layers and no tokenizer")
    assert "give a pretrained base here (smollm2" in err


def test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is for texts, and these are images; use `base='efficientnet-lite0'`"):
        fit(str(save_folders(tmp_path / "images", 16)), Classifier("tfidf"))


def test_images_are_not_scored(fitted: Classifier) -> None:
    with pytest.raises(RheadError, match="for texts, and these are images; give texts"):
        fitted.predict([np.zeros((8, 8, 3), dtype=np.uint8)])


def test_texts_that_share_nothing_are_refused() -> None:
    texts = [chr(ord("a") + i) for i in range(20)]
    with pytest.raises(DataError, match="no word or run of characters is in two of the texts"):
        Classifier("tfidf").fit(texts, [i % 2 for i in range(20)])


@pytest.mark.parametrize("form", ["onnx", "transformers"])
def test_export_is_refused(model: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(SettingError, match="has no network to export"):
        export(model, form, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pair", [(0.25, 0.5), (("a",), ("b", "a")), (True, False), ("a", "b")], ids=repr)
def test_labels_of_every_type_are_scored(pair: tuple[Any, Any]) -> None:
    labels = [pair[label == "spam"] for label in LABELS]
    model = Classifier("tfidf").fit(TEXTS, labels)
    assert model.score(TEXTS, iter(labels)) > 0.9
    wrong = [pair[label == "ham"] for label in LABELS]
    assert model.score(TEXTS, wrong) == pytest.approx(1 - model.score(TEXTS, labels))
    assert model.score(TEXTS[:2], [labels[0], wrong[1]], sample_weight=[3, 1]) == 0.75


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["ham", "spam", "news"]}, "does not fit the labels"),
        ({"multilabel": True}, "does not fit the labels"),
        ({"depth": 3}, "'depth' is missing or makes no sense"),
        ({"base": "minilm"}, "'pool' is missing or makes no sense"),
        ({"temperature": 0}, "'temperature' is missing or makes no sense"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused(
    model: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(model, tmp_path / "model")
    describe(tmp_path / "model", **changes)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(tmp_path / "model")


def test_what_is_saved_is_the_regression_once(model: Path) -> None:
    loaded = load_artifact(model)
    assert isinstance(loaded, NgramArtifact)
    assert isinstance(loaded.predictor(), NgramPredictor)
    assert loaded.reference is not None
    assert loaded.reference.baselines is loaded.regression


def test_bases_names_it(in_process: Run, empty_cache: Path) -> None:
    _, out, _ = in_process("bases")
    assert any(line.startswith("tfidf ") and "nothing to fetch" in line for line in out.splitlines())
