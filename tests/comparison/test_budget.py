"""`--budget` binds a comparison, the baseline included: a clock that only stands in for work shows what is spent."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import rehead
from rehead.comparison import approaches, curves, trial
from rehead.comparison.approaches import ComparisonTask, Learned, NotTriedError
from rehead.evaluation import baselines
from rehead.runtime import hardware
from tests.comparison.test_compare import TEMPLATE
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.tiny_texts import write_messages

BUDGET = 1000.0


class Clock:
    """Seconds that pass only where work says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.spent: list[tuple[str, float]] = []

    def work(self, what: str, seconds: float) -> None:
        self.now += seconds
        self.spent.append((what, seconds))

    def of(self, what: str) -> list[float]:
        return [seconds for name, seconds in self.spent if name == what]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_messages(tmp_path / "messages.csv", 240))


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(save_tiny_language_model(tmp_path / "decoder", "llama", template=TEMPLATE, reach=512))


TRUNK, BASELINE = 60.0, 120.0


@pytest.fixture
def classifiers(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline takes 120 s, a trunk pass 60 s, a test its share of that; a training takes all that it may."""

    def encode(self: Any, train: Any, validation: Any) -> Any:
        tokens = torch.ones(len(train) + len(validation), dtype=torch.int64)
        return SimpleNamespace(base=SimpleNamespace(layers=[None]), encoded=SimpleNamespace(tokens=tokens))

    def fit_encoded(self: Any, data: Any, baseline: Any, limits: Any) -> Any:
        self.afterwards = limits.afterwards * TRUNK
        clock.work("trunk", TRUNK)
        if self.tune != "head":
            clock.work("training", max(0.0, limits.training_deadline(TRUNK) - clock.now))
        return SimpleNamespace(trunk_flops=0.0, flops=0.0, parameters=1)

    def predict_proba(self: Any, texts: Sequence[str]) -> Any:
        clock.work("test", self.afterwards * len(texts) / 48)
        return np.tile([0.6, 0.4], (len(texts), 1))

    honest = baselines.learn

    def learn(*parts: Any) -> Any:
        clock.work("baseline", BASELINE)
        return honest(*parts)

    monkeypatch.setattr(approaches.Classifier, "encode", encode)
    monkeypatch.setattr(approaches.Classifier, "fit_encoded", fit_encoded)
    monkeypatch.setattr(approaches.Classifier, "predict_proba", predict_proba)
    monkeypatch.setattr(approaches, "estimate", lambda data: SimpleNamespace(seconds=TRUNK))
    monkeypatch.setattr(approaches, "expected_seconds", lambda data, tune, depth: {"last-1": 200.0}.get(tune, 400.0))
    monkeypatch.setattr(approaches, "forward_flops", lambda *_: TRUNK)
    monkeypatch.setattr(hardware, "product_speed", lambda dtype: 1 / approaches._EFFICIENCY)
    monkeypatch.setattr(curves, "of_features", lambda task, model: [0.5] * len(curves.totals(task)))
    monkeypatch.setattr(baselines, "learn", learn)


@pytest.mark.usefixtures("classifiers")
@pytest.mark.parametrize("names", [["tfidf", "probe", "last-1", "lora", "full"], ["probe", "full", "lora", "tfidf"]])
def test_classifiers_and_their_baseline_end_in_time(names: list[str], base: str, data: str, clock: Clock) -> None:
    result = rehead.compare(data, names=names, bases=[base], budget=BUDGET)
    assert result.seconds["total"] == clock.now <= 1.15 * BUDGET
    # Were it learned for each classifier, it would be the greater part of the budget.
    assert clock.of("baseline") == [BASELINE]
    assert len(clock.of("training")) == 1  # it may take all, and leaves nothing to those that follow
    assert all("of the budget" in reason for reason in result.not_tried.values())
    assert len(result.approaches) + len(result.not_tried) == len(names)
    seconds = {approach.name: approach.seconds for approach in result.approaches}
    assert seconds["tfidf"] == BASELINE
    assert seconds[f"probe:{base}"] == BASELINE + TRUNK  # the baseline stands beside its head


def slow_answers(clock: Clock, seconds_a_text: float) -> Callable[[ComparisonTask], Learned]:
    """An approach in words that was planned to need a quarter of the budget."""

    def approach(task: ComparisonTask) -> Learned:
        def scores(texts: Sequence[str]) -> Any:
            clock.work("answers", seconds_a_text * len(texts))
            return np.tile([0.6, 0.4], (len(texts), 1))

        rows = np.random.default_rng(0).permutation(len(task.test))
        return Learned(scores, 0, 0.0, 0.0, 1.0, rows)

    return approach


def test_answers_that_come_slower_than_planned_are_fewer(
    base: str, data: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_PORTION", 8)
    for name in ("zero_shot", "few_shot", "instruction"):
        monkeypatch.setattr(approaches, name, slow_answers(clock, 15.0))
    result = rehead.compare(data, names=["tfidf", "zero-shot", "few-shot", "instruction"], bases=[base], budget=BUDGET)
    assert clock.now <= 1.15 * BUDGET
    tested = {approach.name: int(approach.tested.sum()) for approach in result.approaches}
    assert tested["tfidf"] == 48
    assert 0 < tested["instruction"] <= tested["few-shot"] < tested["zero-shot"] < 48


def test_nothing_but_the_cheap_is_begun_when_the_budget_is_used_up(
    base: str, data: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spends_all(task: ComparisonTask) -> Learned:
        clock.work("all", BUDGET)
        raise NotTriedError("it is over")

    monkeypatch.setattr(approaches, "zero_shot", spends_all)
    result = rehead.compare(data, names=["zero-shot", "few-shot", "tfidf"], bases=[base], budget=BUDGET)
    assert [approach.name for approach in result.approaches] == ["tfidf"]
    assert result.not_tried["few-shot"] == "nothing of the budget is left"


def test_fine_tuning_of_a_language_model_ends_in_time(base: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: list[float] = []

    def finetune(*_: Any, deadline: float) -> Any:
        deadlines.append(deadline - time.perf_counter())
        raise NotTriedError("seen enough")

    monkeypatch.setattr(approaches, "finetune", finetune)
    rehead.compare(data, names=["tfidf", "instruction"], bases=[base], budget=BUDGET)
    assert 0.5 * BUDGET < deadlines[0] < 0.6 * BUDGET
