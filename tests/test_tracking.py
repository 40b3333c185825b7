"""What a fit reports arrives in each tracker, and the model that MLflow keeps answers as the classifier does."""

import importlib.util
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rehead
from rehead.runtime.errors import SettingError
from rehead.tracking import trackers
from tests.test_callbacks import Recorder
from tests.tiny_texts import write_messages

TUNE = "last-1"


def installed(*packages: str) -> None:
    """Skip where a tracker is not installed."""
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed; pip install 'rehead[track]' or wandb")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def track(bases: Callable[[str], str], tmp_path: Path) -> Callable[[str], tuple[Recorder, Any]]:
    """Fit with a tracker; what was reported, and the result."""

    def run(name: str) -> tuple[Recorder, Any]:
        recorder = Recorder()
        model = rehead.Classifier(bases("bert"), tune=TUNE, epochs=2, batch_size=16)
        data = str(write_messages(tmp_path / "data.csv"))
        result = rehead.fit(data, model, tmp_path / "model", callbacks=[recorder, trackers.tracker(name)])
        return recorder, result

    return run


@pytest.mark.slow
def test_mlflow_has_settings_course_measures_report_and_a_model(
    track: Callable[[str], tuple[Recorder, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed("mlflow", "pandas", "sqlalchemy", "alembic")
    store = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    recorder, result = track("mlflow")
    import pandas as pd
    from mlflow import artifacts, pyfunc
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'rehead'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["tune"] == TUNE
    assert run.data.params["train"] == str(recorder.of("start")[0]["train"])
    assert run.data.metrics["test/accuracy"] == result.evaluation.test.accuracy
    assert run.data.metrics["test/tfidf_accuracy"] == result.evaluation.baselines["tfidf"].accuracy
    steps = client.get_metric_history(run.info.run_id, f"{TUNE}/loss")
    assert sorted((metric.step, metric.value) for metric in steps) == [
        (step.step, pytest.approx(step.loss)) for step in recorder.of("step")
    ]
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"report.html", "metrics.jsonl"}

    (kept,) = client.search_logged_models([experiment.experiment_id])
    folder = Path(artifacts.download_artifacts(kept.artifact_location))
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle", ".py")]
    texts = ["free prize call", "meet you at noon"]
    answers = pyfunc.load_model(f"models:/{kept.model_id}").predict(pd.DataFrame({"text": texts}))
    assert answers["predicted"].tolist() == result.model.predict(texts).tolist()
    expected = result.model.predict_proba(texts)
    np.testing.assert_allclose(answers[["p(ham)", "p(spam)"]].to_numpy(), expected, rtol=1e-5)


@pytest.mark.slow
def test_a_fit_that_fails_is_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("mlflow", "sqlalchemy", "alembic")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'store.db'}")
    tracker = trackers.tracker("mlflow")
    tracker.on_start({"tune": "head"})
    tracker.on_failure(KeyboardInterrupt())
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("rehead").experiment_id])
    assert run.info.status == "FAILED"


def test_tensorboard_has_losses_and_rates_by_step(track: Callable[[str], tuple[Recorder, Any]], tmp_path: Path) -> None:
    installed("tensorboard")
    recorder, result = track("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (tmp_path / "runs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    steps = recorder.of("step")
    for name in ("loss", "learning_rate"):
        read = [(event.step, event.value) for event in events.Scalars(f"{TUNE}/{name}")]
        assert read == [(step.step, pytest.approx(getattr(step, name))) for step in steps]
    (accuracy,) = events.Scalars("test/accuracy")
    assert accuracy.value == pytest.approx(result.evaluation.test.accuracy)


def test_wandb_writes_a_run_that_stays_here(track: Callable[[str], tuple[Recorder, Any]], tmp_path: Path) -> None:
    installed("wandb")
    track("wandb")
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(run.glob("*.wandb"))
    assert (run / "files" / "report.html").read_bytes() == (tmp_path / "model" / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("mlflow", "mlflow", "'rehead[track]'"),
        ("tensorboard", "torch.utils.tensorboard", "'rehead[track]'"),
        ("wandb", "wandb", "wandb"),
    ],
)
def test_a_tracker_that_is_absent_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SettingError, match=rf"`track='{name}'` needs .*; pip install {re.escape(package)}$"):
        trackers.tracker(name)


def test_the_command_takes_trackers(in_process: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    data = write_messages(tmp_path / "data.csv")
    code, _, err = in_process("fit", data, "--track", "neptune")
    assert (code, "mlflow" in err) == (2, True)
    if importlib.util.find_spec("tensorboard"):
        code, _, err = in_process("fit", data, "--base", "tfidf", "--track", "tensorboard", "-o", tmp_path / "model")
        assert (code, len(list((tmp_path / "runs").iterdir()))) == (0, 1), err
