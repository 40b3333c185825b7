"""Cross-validation: every example is tested on once, and what is saved has learned from all."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rehead import Classifier, load
from rehead.data.duplicates import with_near
from rehead.data.examples import Examples
from rehead.data.parts import Sources
from rehead.evaluation import baselines
from rehead.runtime import interrupts
from rehead.runtime.errors import Interrupted, SettingError
from rehead.training import loop
from rehead.workflows.cross_validation import cross_validate
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_messages


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("base"), "llama"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv")


def pool() -> Examples:
    texts, labels = messages(60)
    ids = np.array([int(label == "spam") for label in labels])
    return with_near(Examples(texts, ids, ("ham", "spam"), np.arange(1, 61), "messages"))[0]


FOREVER = 1e9


def unfitted(base: str) -> Classifier:
    return Classifier(base, tune="head", depth=2, pool="mean")


def test_each_example_is_scored_by_a_classifier_that_has_not_seen_it(base: str) -> None:
    done = cross_validate(pool(), 3, unfitted(base), FOREVER)
    assert [fold.n for fold in done.folds] == [20, 20, 20]
    told = done.predictions
    np.testing.assert_allclose(told.probabilities.sum(1), 1)
    assert told.baselines is not None
    assert set(told.baselines) == {"majority", "tfidf"}
    right = (told.probabilities.argmax(1) == pool().labels).mean()
    assert right == pytest.approx(np.mean([fold.accuracy for fold in done.folds]))


def test_each_fold_and_the_last_classifier_get_an_equal_share_of_the_time(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    honest = Classifier.fit_encoded

    def watched(self: Classifier, data: Any, baseline: Any, limits: Any = None, *args: Any, **kwargs: Any) -> Any:
        shares.append(limits.deadline - time.perf_counter())
        return honest(self, data, baseline, None, *args, **kwargs)

    monkeypatch.setattr(Classifier, "fit_encoded", watched)
    cross_validate(pool(), 3, Classifier(base, preset="quick", depth=2, pool="mean"), time.perf_counter() + 400)
    # What a fold leaves goes to those that follow.
    assert shares[0] == pytest.approx(100, abs=5)
    assert shares == sorted(shares)


def test_settings_stay_those_of_an_unfitted_classifier(base: str) -> None:
    model = unfitted(base)
    cross_validate(pool(), 2, model, FOREVER)
    assert not hasattr(model, "classes_")


@pytest.mark.parametrize("n_folds", [1, 61])
def test_number_of_folds_that_makes_no_sense_is_refused(base: str, n_folds: int) -> None:
    with pytest.raises(SettingError, match="60 examples"):
        cross_validate(pool(), n_folds, unfitted(base), FOREVER)


def test_fit_reports_all_folds_and_saves_one_classifier_of_all_examples(base: str, data: Path, tmp_path: Path) -> None:
    facts = fit(str(data), unfitted(base), tmp_path / "model", n_folds=3).to_json()
    assert facts["test"]["n"] == facts["rows"]["train"] + facts["rows"]["validation"] == 60
    assert (facts["rows"]["test"], len(facts["folds"])) == (0, 3)
    assert facts["overlap"] is None
    assert facts["comparison"]["n"] == 60
    assert "cross-validation with 3 folds" in facts["split"]
    assert "what is saved has learned from all texts" in Path(facts["report"]).read_text()
    assert load(tmp_path / "model").predict(["win free prize"]).tolist() == ["spam"]


@pytest.mark.parametrize("more", [{"test": "x.csv"}, {"validation": "x.csv"}, {"time_column": "when"}])
def test_cross_validation_takes_no_parts_of_ones_own(base: str, data: Path, more: dict[str, str]) -> None:
    with pytest.raises(SettingError, match="`n_folds` tests on every example"):
        fit(Sources(str(data), **more), unfitted(base), n_folds=3)


@pytest.fixture
def pressed_in_training(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[int]]]:
    """Ctrl-C in the trainings of these numbers, from 1; a list of all that were begun."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    honest = interrupts.interruptible

    def arrange(*numbers: int) -> list[int]:
        begun: list[int] = []

        @contextmanager
        def pressing() -> Iterator[Any]:
            with honest() as asked:
                begun.append(len(begun) + 1)
                if begun[-1] in numbers:
                    signal.raise_signal(signal.SIGINT)
                yield asked

        monkeypatch.setattr(loop, "interruptible", pressing)
        return begun

    yield arrange
    signal.signal(signal.SIGINT, before)


def trains(base: str) -> Classifier:
    """With `auto`, which trains the last layer where examples are few."""
    return Classifier(base, depth=2, pool="mean", epochs=1)


def test_first_ctrl_c_in_a_training_ends_the_search_of_that_fold_only(
    base: str, data: Path, pressed_in_training: Callable[..., list[int]]
) -> None:
    begun = pressed_in_training(1)
    facts = fit(str(data), trains(base), n_folds=2).to_json()
    assert len(begun) >= 3  # the other fold and the last classifier train all the same
    assert len(facts["folds"]) == 2
    assert facts["test"]["n"] == 60


def test_second_ctrl_c_ends_the_command(
    base: str, data: Path, tmp_path: Path, pressed_in_training: Callable[..., list[int]]
) -> None:
    begun = pressed_in_training(1, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(str(data), trains(base), tmp_path / "model", n_folds=2)
    assert begun == [1, 2]
    assert not (tmp_path / "model").exists()


def test_early_ctrl_c_ends_the_command(
    base: str, data: Path, monkeypatch: pytest.MonkeyPatch, pressed_in_training: Callable[..., list[int]]
) -> None:
    begun = pressed_in_training()
    monkeypatch.setattr(baselines, "learn", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as ended:
        fit(str(data), trains(base), n_folds=2)
    assert not isinstance(ended.value, Interrupted)
    assert begun == []
