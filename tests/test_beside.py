"""The baseline that stands beside the head: in memory, saved, loaded, served and evaluated, its logits are added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from rehead import Classifier
from rehead.artifact import predictor
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import MANIFEST
from rehead.artifact.predictor import Predictor
from rehead.evaluation.calibration import Mixture, Stacking
from rehead.export.workflow import export
from rehead.models.heads import finite
from rehead.runtime import hardware
from rehead.runtime.errors import ArtifactError, SettingError
from rehead.training import beside
from rehead.workflows.evaluate import evaluate
from rehead.workflows.fit import fit
from tests.saved_folders import describe, seal
from tests.tiny_texts import messages, write_csv, write_messages

FACTOR = 0.7
TEXTS, LABELS = messages(40, start=100)


@pytest.fixture(scope="module")
def fitted(bases: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Classifier, Path]:
    """A classifier beside whose head the n-grams stand, and where it is saved."""
    folder = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "stacking", lambda *_: Stacking(Mixture(1.3, FACTOR), np.zeros(1)))
        table = write_messages(folder / "messages.csv")
        done = fit(str(table), Classifier(bases("llama"), tune="head", depth=2, pool="last"), folder / "model")
    assert done.settings.baseline_factor == FACTOR
    return done.model, folder / "model"


@pytest.fixture
def folder(fitted: tuple[Classifier, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted[1], tmp_path / "model"))


def of_both(model: Classifier, texts: list[str]) -> np.ndarray:
    """Probabilities by the plain Transformers model and the n-grams."""
    base, reference = model.artifact_.backbone, model.artifact_.reference
    assert reference is not None
    with torch.inference_mode():
        logits = [base.model(**base.tokenizer(text, return_tensors="pt")).logits[0].double().numpy() for text in texts]
    return softmax(np.stack(logits) + FACTOR * finite(reference.baselines.logits(texts)), axis=1)


def test_the_logits_of_both_are_added(fitted: tuple[Classifier, Path]) -> None:
    model, folder = fitted
    expected = of_both(model, TEXTS)
    np.testing.assert_allclose(model.predict_proba(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(Classifier.load(folder).predict_proba(TEXTS), expected, atol=1e-6)
    alone = Predictor(model.artifact_.backbone, model.artifact_.head, 64).scores(TEXTS).probabilities
    assert np.abs(alone - expected).max() > 0.01


@pytest.mark.parametrize("way", ["many", "steady", "serving"])
def test_in_bfloat16_they_keep_their_labels_and_within_a_hundredth_their_probabilities(
    way: str, fitted: tuple[Classifier, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(predictor, "_WORTHWHILE", 20)
    model = Classifier.load(folder)
    expected = of_both(fitted[0], TEXTS)
    scoring = model.artifact_.predictor(steady=way == "steady", serving=way == "serving")
    for texts in (slice(0, 40), slice(3, 30), slice(0, 24)):
        found = scoring.scores(TEXTS[texts]).probabilities
        assert np.abs(found - expected[texts]).max() <= 1e-2
        assert found.argmax(1).tolist() == expected[texts].argmax(1).tolist()


def test_evaluation_is_of_both(fitted: tuple[Classifier, Path], tmp_path: Path) -> None:
    model, folder = fitted
    table = write_csv(tmp_path / "new.csv", ["text", "label"], zip(TEXTS, LABELS, strict=True))
    result = evaluate(folder, str(table))
    names = model.classes_.tolist()
    chosen = of_both(model, TEXTS)[np.arange(len(TEXTS)), [names.index(label) for label in LABELS]]
    assert result.evaluation.test.log_loss == pytest.approx(-np.log(chosen).mean(), abs=1e-4)


@pytest.mark.parametrize("gone", ["missing", "empty", "of another"])
def test_without_what_the_scores_rest_on_the_folder_is_refused_with_a_cure(gone: str, folder: Path) -> None:
    path = folder / "reference.safetensors"
    path.unlink()
    if gone == "empty":
        path.touch()
    if gone == "of another":
        shutil.copy(folder / "model.safetensors", path)
    with pytest.raises(ArtifactError, match=r"reference\.safetensors is .*; train or copy the model again"):
        load_artifact(folder)
    seal(folder)
    with pytest.raises(ArtifactError, match="train or copy again") as refused:
        load_artifact(folder)
    assert "\n" not in str(refused.value)
    if gone == "missing":
        assert "reference.safetensors is missing" in str(refused.value)


@pytest.mark.parametrize("value", [-0.1, "0.7", True, None, [0.7], float("nan"), float("inf"), 1e38, 10**400])
def test_factors_that_are_none_are_refused(value: Any, folder: Path) -> None:
    describe(folder, baseline_factor=value)
    with pytest.raises(ArtifactError) as refused:
        load_artifact(folder)
    assert "\n" not in str(refused.value)
    assert "train or copy" in str(refused.value)


@pytest.mark.parametrize("value", [0, 0.0, 5, 1000])
def test_factors_of_any_size_give_probabilities(value: float, folder: Path) -> None:
    describe(folder, baseline_factor=value)
    found = load_artifact(folder).scores(TEXTS).probabilities
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_folders_from_before_have_nothing_beside_the_head(fitted: tuple[Classifier, Path], folder: Path) -> None:
    describe(folder, baseline_factor=...)
    (folder / "reference.safetensors").unlink()
    seal(folder)
    loaded = load_artifact(folder)
    assert loaded.beside is None
    head = fitted[0].artifact_.head
    expected = Predictor(fitted[0].artifact_.backbone, head, 64).scores(TEXTS).probabilities
    np.testing.assert_allclose(loaded.scores(TEXTS).probabilities, expected, atol=1e-6)


def test_an_export_that_would_leave_it_out_is_refused_with_a_cure(folder: Path, tmp_path: Path) -> None:
    form = "transformers"
    with pytest.raises(SettingError, match="`ngrams=False`"):
        export(folder, form, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()
    describe(folder, baseline_factor=0.0)
    assert export(folder, form, tmp_path / "exported").to_json()["same"] > 0


def test_without_ngrams_the_folder_is_a_plain_transformers_model(bases: Callable[[str], str], tmp_path: Path) -> None:
    from transformers import pipeline

    model = Classifier(bases("llama"), tune="head", depth=2, pool="last", ngrams=False).fit(*messages(60))
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / MANIFEST).read_text())["baseline_factor"] == 0
    classify = pipeline("text-classification", model=str(tmp_path / "model"), top_k=None)
    scores = [{one["label"]: one["score"] for one in told} for told in classify(TEXTS[:5])]
    expected = [[told[label] for label in model.classes_] for told in scores]
    np.testing.assert_allclose(model.predict_proba(TEXTS[:5]), expected, atol=1e-5)
