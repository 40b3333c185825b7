"""The search for settings: trials are kept and gone on with, bad ones are broken off, the best is what fits use."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from torch import multiprocessing

import rehead
from rehead import Classifier
from rehead.comparison import search as search_module
from rehead.runtime.errors import SettingError
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages


@pytest.fixture
def model(tmp_path: Path) -> Classifier:
    return Classifier(str(save_tiny_model(tmp_path / "base", "bert")), epochs=1)


def test_search_goes_on_with_the_trials_of_its_file(model: Classifier, tmp_path: Path) -> None:
    data = str(write_messages(tmp_path / "messages.csv", 120))
    first = rehead.search(data, model, n_trials=3, storage=tmp_path / "trials.sqlite")
    second = rehead.search(data, model, n_trials=5, storage=tmp_path / "trials.sqlite")
    assert len(first.trials) == 3
    assert second.trials[:3] == first.trials
    assert len(second.trials) == 5
    losses = [trial.validation_log_loss for trial in second.trials if trial.state == "complete"]
    assert second.validation_log_loss == min(losses)
    values = second.to_json()
    assert list(values) == ["trials", "best", "validation_log_loss", "storage"]
    assert values["trials"][0].keys() == {"settings", "validation_log_loss", "state"}
    settings = second.best
    assert {name: second.model.get_params()[name] for name in settings} == settings


def searched(number: int, model: Classifier, data: str, storage: str) -> None:
    rehead.search(data, model, n_trials=6, storage=storage)


@pytest.mark.slow  # two processes that import and search
def test_processes_share_a_search_and_try_nothing_twice(model: Classifier, tmp_path: Path) -> None:
    data = str(write_messages(tmp_path / "messages.csv", 60))
    address = f"sqlite:///{tmp_path / 'trials.sqlite'}"
    rehead.search(data, model, n_trials=1, storage=address)  # so that both find the tables
    multiprocessing.spawn(searched, (model, data, address), nprocs=2)
    tried = rehead.search(data, model, n_trials=6, storage=address).trials
    assert 6 <= len(tried) <= 7, "the last ones of both may end together"
    assert len({tuple(trial.settings.items()) for trial in tried}) == len(tried)
    assert [trial.state for trial in tried if trial.state not in ("complete", "pruned")] == []


def test_search_tries_what_it_would_have_tried_in_one_go(model: Classifier, tmp_path: Path) -> None:
    data = str(write_messages(tmp_path / "messages.csv", 60))
    whole = rehead.search(data, model, n_trials=3, storage=tmp_path / "whole.sqlite").trials
    for n_trials in (1, 3):
        parts = rehead.search(data, model, n_trials=n_trials, storage=tmp_path / "parts.sqlite").trials
    assert [trial.settings for trial in parts] == [trial.settings for trial in whole]
    assert len({tuple(trial.settings.items()) for trial in whole}) == 3


def test_a_trial_that_was_killed_at_its_beginning_has_no_settings(model: Classifier, tmp_path: Path) -> None:
    data, storage = str(write_messages(tmp_path / "messages.csv", 60)), tmp_path / "trials.sqlite"
    rehead.search(data, model, n_trials=1, storage=storage)
    address = f"sqlite:///{storage}"
    optuna.load_study(study_name=None, storage=address).ask()
    optuna.load_study(study_name=None, storage=address).ask().suggest_int("trained_blocks", 0, 2)
    trials = rehead.search(data, model, n_trials=2, storage=storage).trials
    assert [(trial.state, bool(trial.settings)) for trial in trials] == [
        ("complete", True),
        ("running", False),
        ("running", False),
        ("complete", True),
    ]


@pytest.mark.parametrize(
    "damage",
    [
        "update trial_values set value = value / 2 where trial_id = 1",
        "update trial_params set param_value = 5 - param_value where param_name = 'depth'",
        "update trials set state = 'COMPLATE'",
        "drop table trial_values",
    ],
)
def test_no_damaged_trial_is_gone_on_from(model: Classifier, tmp_path: Path, damage: str) -> None:
    data, storage = str(write_messages(tmp_path / "messages.csv", 120)), tmp_path / "trials.sqlite"
    rehead.search(data, model, n_trials=1, storage=storage)
    with closing(sqlite3.connect(storage)) as database, database:
        database.execute(damage)
    with pytest.raises(SettingError, match=r"trials.sqlite'.*; give another file"):
        rehead.search(data, model, n_trials=2, storage=storage)


def test_other_settings_are_another_search(model: Classifier, tmp_path: Path) -> None:
    data = str(write_messages(tmp_path / "messages.csv", 120))
    rehead.search(data, model, n_trials=1, storage=tmp_path / "trials.sqlite")
    model.set_params(max_length=9)
    assert len(rehead.search(data, model, n_trials=1, storage=tmp_path / "trials.sqlite").trials) == 1


def test_trial_that_is_worse_than_the_median_is_broken_off(
    model: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    data = str(write_messages(tmp_path / "messages.csv", 120))
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda self: self.number > 0)
    honest = optuna.trial.Trial.suggest_int
    monkeypatch.setattr(optuna.trial.Trial, "suggest_int", lambda self, name, low, high: honest(self, name, high, high))
    result = rehead.search(data, model, n_trials=3, storage=tmp_path / "trials.sqlite")
    assert [trial.state for trial in result.trials] == ["complete", "pruned", "pruned"]


def test_depth_is_never_less_than_what_is_trained() -> None:
    assert search_module._settings({"trained_blocks": 2, "depth": 1, "pool": "mean", "learning_rate": 1e-4}) == {
        "tune": "last-2",
        "depth": 2,
        "pool": "mean",
        "learning_rate": 1e-4,
    }
    assert search_module._settings({"trained_blocks": 0, "depth": 1, "pool": "cls"})["tune"] == "head"


def test_command_fits_with_the_best(
    model: Classifier, tmp_path: Path, in_process: Callable[..., tuple[int, str, str]]
) -> None:
    data = write_messages(tmp_path / "messages.csv", 120)
    arguments = ["--trials", 2, "--storage", tmp_path / "trials.sqlite", "--base", model.base, "-o", tmp_path / "out"]
    code, out, err = in_process("search", data, *arguments)
    assert code == 0, err
    assert "2 trials, 2 of them to their end" in out
    assert Classifier.load(tmp_path / "out").predict(["free prize call"]).tolist() == ["spam"]


def test_numbers_that_make_no_sense_are_refused(model: Classifier, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="`n_trials` must be 1 or more"):
        rehead.search(str(write_messages(tmp_path / "messages.csv")), model, n_trials=0)
