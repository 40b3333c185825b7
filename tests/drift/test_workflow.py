"""From a fit to `rehead drift`: with a tiny model, of texts and of images."""

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rehead
from rehead import Classifier
from rehead.artifact import predictor
from rehead.artifact.loading import load_artifact
from rehead.artifact.predictor import Predictor
from rehead.cli import drift as drift_command
from rehead.data.preparation import DataConfig
from rehead.drift import sampling, workflow
from rehead.drift.monitor import Monitor
from rehead.drift.reference import FILE, ReferenceProfile
from rehead.runtime.errors import ArtifactError, DataError, SettingError
from rehead.workflows.fit import fit
from tests.saved_folders import seal
from tests.tiny_images import save_folders
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages
from tests.tiny_vision_models import save_tiny_vision_model

N_LEARNED = 260
# Nothing like what was learned: longer, of other words, and nearly all of one class.
OTHERS = [f"{text} {text} and a heron flew over reeds near {i} boats" for i, text in enumerate(messages(150, 260)[0])]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("base"), "llama"))


@pytest.fixture(scope="module")
def model(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    data = write_messages(folder / "messages.csv", N_LEARNED)
    fit(str(data), Classifier(base, tune="head", depth=2), folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("unseen") / "unseen.csv", 150, N_LEARNED)


def command(capsys: pytest.CaptureFixture[str], model: Path, data: object, **options: Any) -> str:
    given = {"model": str(model), "data": str(data), "text_column": None, "json": False} | options
    drift_command.run(argparse.Namespace(**given))
    return capsys.readouterr().out


def test_a_fit_leaves_a_fingerprint_of_what_was_held_out(model: Path) -> None:
    fingerprint = ReferenceProfile.load(model)
    assert fingerprint is not None
    rows = json.loads((model / "split.json").read_text())
    assert fingerprint.n == len(rows["validation"]["rows"]) + len(rows["test"]["rows"])
    assert len(fingerprint.features) == len(rows["test"]["rows"])
    assert fingerprint.unknown is not None
    assert fingerprint.unknown.mean == 0
    assert fingerprint.length is not None
    assert 10 < fingerprint.length.mean < 20
    assert (model / FILE).stat().st_size < 20_000


def test_what_is_held_out_looks_as_it_does_when_the_classifier_is_loaded_again(model: Path) -> None:
    loaded = load_artifact(model)
    fingerprint = ReferenceProfile.beside(loaded)
    assert fingerprint is not None
    texts = messages(50, N_LEARNED)[0]
    observed = fingerprint.observed(texts, loaded.predictor().scores(texts, keep_features=True))
    assert np.abs(observed.features).max() < 3 * np.abs(fingerprint.features).max()


def test_texts_of_the_same_source_are_no_drift_and_others_are(model: Path) -> None:
    same, other = workflow.drift(model, messages(150, N_LEARNED)[0]).to_json(), workflow.drift(model, OTHERS).to_json()
    assert same["drifted"] is False
    assert same["n"] == 150
    assert same["learned"] == 0
    assert other["drifted"] is True
    for name in ("length", "vocabulary", "embedding"):
        assert other["measures"][name]["drifted"], name
    assert "another kind" in other["advice"]
    assert sum(label["now"] for label in same["labels"].values()) == pytest.approx(1)
    assert sum(label["reference_probability"] for label in same["labels"].values()) == pytest.approx(1)


def test_the_command_prints_a_table_and_advice(
    model: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = command(capsys, model, unseen)
    assert "150 inputs, beside" in told
    for title in ("predicted labels", "confidence", "length in characters", "unknown words", "what the head sees"):
        assert title in told
    assert "yes" not in told
    assert told.strip().splitlines()[-1].startswith("The inputs are like those")
    (tmp_path / "others.txt").write_text("\n".join(OTHERS))
    told = command(capsys, model, tmp_path / "others.txt")
    assert told.count("yes") >= 3


def test_the_command_gives_json(model: Path, unseen: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(command(capsys, model, unseen, json=True), parse_constant=pytest.fail)
    assert facts["drifted"] is False
    assert set(facts["measures"]) == {"label", "confidence", "length", "vocabulary", "embedding"}
    assert set(facts["measures"]["length"]) == {"value", "threshold", "drifted", "reference", "now"}


def test_lines_of_stdin_and_a_column_by_name(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(OTHERS)))
    from_lines = json.loads(command(capsys, model, "-", json=True))
    rows = [(text, "meet you at noon") for text in OTHERS]
    table = write_csv(tmp_path / "two.csv", ["first", "text"], rows)
    from_column = json.loads(command(capsys, model, table, json=True, text_column="first"))
    assert from_lines["measures"] == from_column["measures"]
    with pytest.raises(DataError, match="no column 'third'"):
        command(capsys, model, table, text_column="third")


def test_few_texts_are_no_error(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = write_messages(tmp_path / "few.csv", 20, N_LEARNED)
    assert "too few to say anything" in command(capsys, model, few)
    assert json.loads(command(capsys, model, few, json=True))["drifted"] is None


def test_what_is_not_there_is_said(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no such file"):
        command(capsys, model, tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="no sample 'nothing'"):
        command(capsys, model, "sample:nothing")
    with pytest.raises(DataError, match="nothing to look at"):
        workflow.drift(model, [])
    with pytest.raises(ArtifactError, match="no such folder"):
        workflow.drift(tmp_path / "nothing", ["a text"])


def test_texts_that_were_learned_from_are_noticed(model: Path) -> None:
    facts = workflow.drift(model, messages(N_LEARNED)[0]).to_json()
    assert 0.7 * N_LEARNED < facts["learned"] < 0.9 * N_LEARNED


def test_of_many_inputs_some_are_drawn_evenly(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "_MOST", 120)
    by_class = sorted(zip(*messages(150, N_LEARNED), strict=True), key=lambda pair: pair[1])
    facts = workflow.drift(model, [text for text, _ in by_class]).to_json()
    assert facts["n"] == 120
    assert facts["measures"]["label"]["value"] < 0.15
    assert workflow.drift(model, [text for text, _ in by_class]).to_json()["measures"] == facts["measures"]


def test_a_classifier_without_a_fingerprint_still_predicts_and_is_told_to_be_trained_again(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "older").mkdir()
    for file in model.iterdir():
        if file.name != FILE:
            (tmp_path / "older" / file.name).write_bytes(file.read_bytes())
    assert rehead.load(str(tmp_path / "older")).predict(["free prize"]).shape == (1,)
    with pytest.raises(ArtifactError, match=r"older has no profile .* train it again"):
        workflow.drift(tmp_path / "older", messages(150)[0])


def test_a_damaged_fingerprint_is_an_error_of_one_line(model: Path, base: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    rehead.load(str(model)).save(copy)
    assert (copy / FILE).read_bytes() == (model / FILE).read_bytes()
    (copy / FILE).write_bytes((model / FILE).read_bytes()[:-100])
    loaded = load_artifact(copy)  # which prediction does not read it for
    with pytest.raises(ArtifactError, match=r"fingerprint\.safetensors is not the file that was saved") as refused:
        ReferenceProfile.beside(loaded)
    assert "\n" not in str(refused.value)
    seal(copy)
    with pytest.raises(ArtifactError, match=r"fingerprint\.safetensors is damaged"):
        workflow.drift(copy, messages(150)[0])
    three = write_csv(tmp_path / "3.csv", ["text", "label"], [(t, "abc"[i % 3]) for i, t in enumerate(messages(90)[0])])
    fit(str(three), Classifier(base, tune="head", depth=1), tmp_path / "three")
    (copy / FILE).write_bytes((tmp_path / "three" / FILE).read_bytes())
    seal(copy)
    with pytest.raises(ArtifactError, match="another classifier's"):
        workflow.drift(copy, messages(150)[0])


def test_a_classifier_that_was_only_trained_has_none(base: str, tmp_path: Path) -> None:
    Classifier(base, tune="head", depth=1).fit(*messages(40)).save(tmp_path / "model")
    assert not (tmp_path / "model" / FILE).exists()
    assert ReferenceProfile.beside(load_artifact(tmp_path / "model")) is None


def test_where_all_is_learned_from_after_cross_validation_the_validation_part_is_the_reference(
    base: str, tmp_path: Path
) -> None:
    data = write_messages(tmp_path / "messages.csv", 120)
    fit(str(data), Classifier(base, tune="head", depth=1), tmp_path / "model", n_folds=2)
    fingerprint = ReferenceProfile.load(tmp_path / "model")
    assert fingerprint is not None
    rows = json.loads((tmp_path / "model" / "split.json").read_text())
    assert fingerprint.n == len(fingerprint.features) == len(rows["validation"]["rows"])


def test_labels_of_which_a_text_has_several(base: str, tmp_path: Path) -> None:
    texts, labels = messages(200)
    several = [f"{label};odd" if i % 5 < 2 else label for i, label in enumerate(labels)]
    data = write_csv(tmp_path / "several.csv", ["text", "labels"], list(zip(texts, several, strict=True)))
    fit(DataConfig(str(data)), Classifier(base, tune="head", depth=1), tmp_path / "model")
    fingerprint = ReferenceProfile.load(tmp_path / "model")
    assert fingerprint is not None
    assert fingerprint.multilabel
    assert workflow.drift(tmp_path / "model", messages(150, 220)[0]).to_json()["drifted"] is False
    only_spam = [text for text, label in zip(*messages(400), strict=True) if label == "spam"]
    assert workflow.drift(tmp_path / "model", only_spam).to_json()["measures"]["label"]["drifted"]


def test_portions_of_scores_make_no_difference(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, texts = load_artifact(model), messages(90)[0]
    whole = Predictor(loaded.backbone, loaded.head, 64, beside=loaded.beside).scores(texts, keep_features=True)
    assert whole.features is not None
    for portion in (25, 90, 1000):
        monkeypatch.setattr(predictor, "_CHUNK", portion)
        scores = loaded.predictor().scores(texts, keep_features=sampling.rows(90, 40))
        assert scores.features is not None
        np.testing.assert_allclose(scores.probabilities, whole.probabilities, atol=1e-6)
        np.testing.assert_allclose(scores.features, whole.features[sampling.rows(90, 40)], atol=1e-4)
        assert scores.tokens_cut.tolist() == whole.tokens_cut.tolist()


def test_images_are_compared_in_all_but_words_and_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vit = save_tiny_vision_model(tmp_path / "vit", "vit")
    data = save_folders(tmp_path / "stripes", 60)
    fit(str(data), Classifier(str(vit), tune="head"), tmp_path / "model")
    new = save_folders(tmp_path / "new", 60, first=200)
    facts = json.loads(command(capsys, tmp_path / "model", new, json=True))
    assert list(facts["measures"]) == ["label", "confidence", "embedding"]
    assert facts["drifted"] is False
    for file in (new / "upright").iterdir():
        file.unlink()
    save_folders(tmp_path / "more", 120, first=400)
    one_sided = json.loads(command(capsys, tmp_path / "model", tmp_path / "more" / "lying", json=True))
    assert one_sided["measures"]["label"]["drifted"]
    loaded = load_artifact(tmp_path / "model")
    assert ReferenceProfile.beside(loaded) is not None
    with pytest.raises(SettingError, match="is for images"):
        workflow.drift(tmp_path / "model", OTHERS)


def test_a_monitor_hears_what_a_predictor_says(model: Path) -> None:
    loaded = load_artifact(model)
    fingerprint = ReferenceProfile.beside(loaded)
    assert fingerprint is not None
    texts = messages(150, N_LEARNED)[0]
    expected = workflow.drift(model, texts).to_json()["measures"]
    # A server's bfloat16 may move an answer by a hundredth, and so some of the 150 across a step.
    for serving, near in ((False, 1e-4), (True, 0.05)):
        predictor, monitor = loaded.predictor(serving=serving, label=None), Monitor(fingerprint)
        for start in range(0, 150, 30):
            part = texts[start : start + 30]
            monitor.observe(part, predictor.scores(part, keep_features=True))
        report = monitor.report().to_json()
        assert report["drifted"] is False
        for name, measure in report["measures"].items():
            assert measure["value"] == pytest.approx(expected[name]["value"], abs=near)
