"""Whoever asks learns of every step, epoch and candidate of a fit; the log of them is saved with the classifier."""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import rehead
from rehead.training import callbacks
from rehead.training.callbacks import Callback, Epoch, MetricsLog, Step
from rehead.training.strategies import Candidate
from tests.tiny_texts import messages, write_messages


class Recorder(Callback):
    """All that a fit reports, in order, as a name and what came with it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def on_start(self, settings: Mapping[str, Any]) -> None:
        self.calls.append(("start", settings))

    def on_step(self, step: Step) -> None:
        self.calls.append(("step", step))

    def on_epoch(self, epoch: Epoch) -> None:
        self.calls.append(("epoch", epoch))

    def on_candidate(self, candidate: Candidate) -> None:
        self.calls.append(("candidate", candidate))

    def on_end(self, result: Any) -> None:
        self.calls.append(("end", result))

    def on_failure(self, error: BaseException) -> None:
        self.calls.append(("failure", error))

    def of(self, kind: str) -> list[Any]:
        return [content for name, content in self.calls if name == kind]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_fit_reports_its_course_and_saves_it(bases: Callable[[str], str], tmp_path: Path) -> None:
    recorder = Recorder()
    model = rehead.Classifier(bases("bert"), tune="last-1", epochs=2, batch_size=8)
    data = write_messages(tmp_path / "data.csv")
    result = rehead.fit(str(data), model, tmp_path / "model", callbacks=[recorder])

    (settings,) = recorder.of("start")
    assert recorder.calls[0][0] == "start"
    assert (settings["data"], settings["tune"], settings["base"]) == (str(data), "last-1", bases("bert"))
    assert settings["train"] + settings["validation"] + settings["test"] == 60
    steps: list[Step] = recorder.of("step")
    a_pass = -(-settings["train"] // 8)
    assert [step.step for step in steps] == list(range(1, 2 * a_pass + 1))
    assert [step.epoch for step in steps] == [1] * a_pass + [2] * a_pass
    assert {step.steps for step in steps} == {2 * a_pass}
    assert all(step.loss > 0 and step.learning_rate > 0 for step in steps)
    assert steps[-1].learning_rate < max(step.learning_rate for step in steps)
    assert all(one.seconds <= other.seconds for one, other in pairwise(steps))
    (history,) = [candidate["epochs"] for candidate in result.to_json()["stages"] if candidate["epochs"]]
    assert [epoch.validation_loss for epoch in recorder.of("epoch")] == history["validation_losses"][1:]
    assert [candidate.tune for candidate in recorder.of("candidate")] == ["head", "last-1"]
    assert recorder.calls[-1] == ("end", result)

    lines = lines_of(tmp_path / "model")
    assert [line["loss"] for line in lines if "loss" in line] == [step.loss for step in steps]
    assert [line["validation_loss"] for line in lines if "validation_loss" in line] == history["validation_losses"][1:]
    tried = [(line["candidate"], line["calibrated_validation_loss"]) for line in lines if "trainable" in line]
    assert tried == [(stage.tune, stage.validation_log_loss) for stage in result.training.stages]


def test_classifiers_report_and_keep_the_log_when_they_are_copied(bases: Callable[[str], str], tmp_path: Path) -> None:
    recorder = Recorder()
    model = rehead.Classifier(bases("bert"), tune="head").fit(*messages(), callbacks=[recorder])
    assert [name for name, _ in recorder.calls] == ["start", "candidate", "end"]
    assert recorder.of("end") == [model]
    model.save(tmp_path / "first")
    rehead.load(str(tmp_path / "first")).save(tmp_path / "second")
    (line,) = lines_of(tmp_path / "first")
    assert (line["candidate"], line["calibrated_validation_loss"]) == ("head", model.history_[0].loss)
    assert lines_of(tmp_path / "second") == [line]


def test_ngrams_alone_are_a_candidate(tmp_path: Path) -> None:
    recorder = Recorder()
    rehead.fit(
        str(write_messages(tmp_path / "data.csv")), rehead.Classifier("tfidf"), tmp_path / "m", callbacks=[recorder]
    )
    assert [name for name, _ in recorder.calls] == ["start", "candidate", "end"]
    assert len(lines_of(tmp_path / "m")) == 1


def test_what_a_callback_raises_ends_the_fit_and_all_learn_of_it(bases: Callable[[str], str], tmp_path: Path) -> None:
    class Stop(Callback):
        def on_epoch(self, epoch: Epoch) -> None:
            raise RuntimeError("enough")

    recorder = Recorder()
    model = rehead.Classifier(bases("bert"), tune="last-1", epochs=2)
    data = str(write_messages(tmp_path / "data.csv"))
    with pytest.raises(RuntimeError, match="enough"):
        rehead.fit(data, model, tmp_path / "model", callbacks=[recorder, Stop()])
    assert [str(error) for error in recorder.of("failure")] == ["enough"]
    assert not recorder.of("end")
    assert not (tmp_path / "model").exists()


def test_the_log_of_a_long_training_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "_LOGGED_STEPS", 10)
    log = MetricsLog()
    for number in range(1, 101):
        of_it = {"steps": 100, "epoch": 1, "loss": 0.5, "learning_rate": 1e-4, "seconds": 1.0}
        log.on_step(Step(candidate="full", step=number, **of_it))
    log.on_epoch(Epoch(candidate="full", step=100, epoch=1, validation_loss=float("nan"), seconds=1.0))
    *steps, epoch = map(json.loads, log.text().splitlines())
    assert [step["step"] for step in steps] == list(range(10, 101, 10))
    assert epoch["validation_loss"] is None
