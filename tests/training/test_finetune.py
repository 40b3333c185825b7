"""The story of one run: candidates tried and put back, the best adopted, the baseline beside it, the head refitted."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rehead import Classifier, load
from rehead.data import preparation
from rehead.data.examples import Examples
from rehead.data.preparation import DataConfig
from rehead.evaluation import baselines, likelihood
from rehead.evaluation.calibration import Mixture, calibrated_losses, stacking
from rehead.models.heads import Head, build
from rehead.models.ngrams import Ngrams
from rehead.runtime import hardware, progress
from rehead.runtime.errors import Interrupted
from rehead.training import encoding, loop, probe, strategies
from rehead.training import finetune as finetune_module
from rehead.training.beside import BesideHead
from rehead.training.callbacks import Callback, Epoch
from rehead.training.config import AND
from rehead.training.depth_search import DepthChoice, search_depth
from rehead.training.encoding import EncodedData
from rehead.training.features import Features
from rehead.training.finetune import Limits, finetune
from rehead.training.inputs import Computed
from rehead.training.strategies import Attempt, Candidate, adopt, attempt, average, why_not
from rehead.training.tail import Classification, Tail
from rehead.workflows.fit import fit
from tests.tiny_images import save_folders
from tests.tiny_texts import messages, write_csv
from tests.tiny_vision_models import save_tiny_vision_model


def noisy(n: int) -> tuple[list[str], list[str]]:
    """Messages of which one in seven has the other label, so that there is something to gain."""
    texts, labels = messages(n)
    return texts, [("ham", "spam")[label == "ham"] if i % 7 == 0 else label for i, label in enumerate(labels)]


def of_messages(n_train: int = 48, n: int = 72) -> tuple[Examples, Examples]:
    texts, labels = noisy(n)
    ids = np.array([label == "spam" for label in labels], dtype=np.int64)
    whole = Examples(texts, ids, ("ham", "spam"), np.arange(1, n + 1), "messages")
    return whole.take(np.arange(n_train)), whole.take(np.arange(n_train, n))


def prepared(base: str, tune: str, **others: Any) -> EncodedData:
    settings = {"depth": 3, "pool": "mean", "epochs": 1, "learning_rate": 1e-3, **others}
    return Classifier(base, tune=tune, **settings).prepare(*of_messages())


def begun(data: EncodedData) -> tuple[Head, Features, Attempt]:
    """What `finetune` does before it trains layers."""
    choice = search_depth(data, None)
    data.truncate(choice.depth)
    head = build(data.base, choice.pooling, data.n_classes, data.config.seed)
    cut = strategies.cut_for(data.config.tune, choice.depth)
    features = finetune_module._trunk_features(data, head, cut or None)
    first = finetune_module._solve_probe(data, head, features).attempt
    return head, features, first


def weights_of(data: EncodedData, head: Head) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in strategies._named_weights(data.base, head).items()}


def logits_of(data: EncodedData, head: Head) -> np.ndarray:
    """Of the validation examples, by the whole model."""
    held_out = torch.arange(data.n_train, len(data.labels))
    tail = Tail.of_everything(data.base, head, len(data.base.layers))
    return tail.logits(Computed(data.base, data.encoded.ids.take(held_out), 0)).numpy()


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    monkeypatch.setattr(hardware, "frozen_dtype", lambda: torch.float32)


def check_that_it_is_put_back_and_can_be_adopted(data: EncodedData, tune: str) -> None:
    head, features, first = begun(data)
    before = weights_of(data, head)
    of_probe = logits_of(data, head)
    np.testing.assert_allclose(of_probe, first.logits, rtol=1e-4, atol=1e-5)

    candidate = attempt(data, tune, head, features, None, None, None)
    after = weights_of(data, head)
    assert after.keys() == before.keys()
    for name, weight in before.items():
        assert torch.equal(after[name], weight), name
    assert np.array_equal(logits_of(data, head), of_probe)

    assert candidate.history is not None
    assert candidate.history.best_epoch > 0, "nothing was learned that could be told from the probe"
    assert np.abs(candidate.logits - first.logits).max() > 1e-3
    alone = BesideHead.of(None, data, folds=False)
    fitted = stacking(candidate.logits, np.zeros_like(candidate.logits), data.validation.labels, data.config.seed)
    np.testing.assert_array_equal(alone.put_beside(candidate, data).losses, fitted.losses)
    adopt(data, head, candidate)
    np.testing.assert_allclose(logits_of(data, head), candidate.logits, rtol=1e-4, atol=1e-4)
    adopt(data, head, first)  # the probe has nothing to write
    np.testing.assert_allclose(logits_of(data, head), candidate.logits, rtol=1e-4, atol=1e-4)


@pytest.fixture
def always_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch is taken for better than the one before, so that what is kept is what was trained."""
    epochs = itertools.count()
    monkeypatch.setattr(Classification, "validation_losses", lambda _: torch.tensor([-next(epochs)]).double())


@pytest.mark.usefixtures("in_float32", "always_better")
@pytest.mark.parametrize("tune", ["last-1", "last-3", "lora", "full"])
@pytest.mark.parametrize("family", ["llama", "bert", "gpt2", "mpnet"])
def test_after_an_attempt_all_is_as_it_was_and_adopting_gives_what_was_learned(
    family: str, tune: str, bases: Callable[[str], str]
) -> None:
    check_that_it_is_put_back_and_can_be_adopted(prepared(bases(family), tune), tune)


@pytest.mark.usefixtures("in_float32", "always_better")
@pytest.mark.parametrize(
    ("family", "tune"),
    [("vit", "last-1"), ("vit", "lora"), ("vit", "full"), ("convnext", "last-1"), ("resnet", "full")],
)
def test_after_an_attempt_on_images_all_is_as_it_was(family: str, tune: str, tmp_path: Path) -> None:
    base = save_tiny_vision_model(tmp_path / "base", family)
    parts = preparation.prepare(DataConfig(str(save_folders(tmp_path / "images", 16))), seed=0)
    model = Classifier(str(base), tune=tune, depth=2, pool="mean", epochs=1, learning_rate=1e-3)
    check_that_it_is_put_back_and_can_be_adopted(model.prepare(parts.train, parts.validation), tune)


@pytest.mark.usefixtures("in_float32", "always_better")
@pytest.mark.parametrize("family", ["llama", "bert", "mpnet"])
def test_a_mean_of_two_is_measured_put_back_and_can_be_adopted(family: str, bases: Callable[[str], str]) -> None:
    data = prepared(bases(family), "last-2")
    head, features, _ = begun(data)
    before = weights_of(data, head)
    parts = [attempt(data, tune, head, features, None, None, None) for tune in ("last-2", "full")]
    mean = average(data, head, features, *parts)
    for name, weight in weights_of(data, head).items():
        assert torch.equal(weight, before[name]), name
    assert (mean.tune, mean.parts, strategies.cut_of(mean, len(data.base.layers))) == (
        "last-2 and full",
        tuple(parts),
        0,
    )
    adopt(data, head, mean)
    for name, weight in weights_of(data, head).items():
        values = [part.weights.get(name, before[name]) for part in parts]
        torch.testing.assert_close(weight, (values[0] + values[1]) / 2)
    np.testing.assert_allclose(logits_of(data, head), mean.logits, rtol=1e-4, atol=1e-4)
    assert all(np.abs(mean.logits - part.logits).max() > 1e-4 for part in parts)


def test_best_saves_a_mean_of_two_that_is_better_and_learns_both_once_more(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    honest, learned = strategies.average, []

    def better(*told: Any) -> Candidate:
        learned.append([part.tune for part in told[3:]])
        right = np.eye(2, dtype=np.float32)[told[0].validation.labels]
        return replace(honest(*told), logits=20 * right)

    monkeypatch.setattr(strategies, "average", better)
    monkeypatch.setattr(strategies, "why_not", lambda *_: None)
    texts, labels = messages(300)
    model = Classifier(bases("llama"), preset="best", depth=3, pool="mean", epochs=1).fit(texts, labels)
    assert len(learned) == 2
    assert learned[0] == learned[1]
    assert model.artifact_.manifest.tune == AND.join(learned[0])
    model.save(tmp_path / "model")
    loaded = load(str(tmp_path / "model"))
    assert loaded.tune == "auto"
    np.testing.assert_allclose(loaded.predict_proba(texts[:9]), model.predict_proba(texts[:9]), atol=1e-5)


@pytest.mark.usefixtures("in_float32")
def test_a_start_that_is_the_best_is_the_probe(bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepared(bases("llama"), "last-2")
    head, features, first = begun(data)
    epochs = itertools.count(1)
    honest = Classification.validation_losses
    begins: list[torch.Tensor] = []

    def worse_and_worse(self: Classification) -> torch.Tensor:
        begins.append(honest(self))
        return begins[0] if next(epochs) == 1 else begins[0] + 9.0

    monkeypatch.setattr(Classification, "validation_losses", worse_and_worse)
    candidate = attempt(data, "last-2", head, features, None, None, None)
    assert candidate.history is not None
    assert candidate.history.best_epoch == 0
    of_probe = calibrated_losses(first.logits, data.validation.labels).mean()
    assert float(begins[0].mean()) == pytest.approx(of_probe, abs=1e-4)
    np.testing.assert_allclose(candidate.logits, first.logits, rtol=1e-2, atol=1e-2)
    calibrated = calibrated_losses(candidate.logits, data.validation.labels).mean()
    assert calibrated == pytest.approx(of_probe, abs=1e-3)


def test_ctrl_c_while_all_examples_are_learned_from_keeps_what_was_best(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, asked = strategies.attempt, []

    def interrupted(*told: Any) -> Attempt:
        asked.append(len(told) == 8)  # with what it is to learn once more
        if asked[-1]:
            raise Interrupted("interrupted")
        return honest(*told)

    monkeypatch.setattr(strategies, "attempt", interrupted)
    monkeypatch.setattr(strategies, "why_not", lambda *_: None)
    monkeypatch.setattr(finetune_module, "_best_of", lambda _, candidates: candidates[1])
    data = prepared(bases("llama"), "auto", preset="best")
    result = finetune(data, refits=True)
    assert asked[-1]
    assert not result.refitted
    assert "was interrupted" in str(result.stopped)
    # After a Ctrl-C nothing more is begun.
    monkeypatch.setattr(strategies, "attempt", lambda *_, **__: (_ for _ in ()).throw(Interrupted("interrupted")))
    monkeypatch.setattr(finetune_module, "_best_of", lambda _, candidates: candidates[0])
    assert not finetune(prepared(bases("llama"), "auto", preset="best"), refits=True).refitted


def test_what_is_learned_once_more_ends_after_the_epoch_that_was_best(bases: Callable[[str], str]) -> None:
    data = prepared(bases("llama"), "last-1", epochs=5)
    head, features, _ = begun(data)
    tried = attempt(data, "last-1", head, features, None, None, None)
    assert tried.history
    tried = replace(tried, history=replace(tried.history, best_epoch=2))
    again = attempt(data, "last-1", head, features, None, None, None, tried)
    assert again.history
    assert again.history.best_epoch == 2
    assert len(again.history.validation_losses) == 3  # before it, and after each of two


def test_an_attempt_that_breaks_off_leaves_all_as_it_was(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Callback):
        def on_epoch(self, epoch: Epoch) -> None:
            raise RuntimeError("stop")

    for tune in ("last-1", "lora", "full"):
        data = prepared(bases("llama"), tune)
        head, features, _ = begun(data)
        before = weights_of(data, head)
        with pytest.raises(RuntimeError, match="stop"):
            attempt(data, tune, head, features, None, None, Stop())
        after = weights_of(data, head)
        assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_the_lowest_loss_after_calibration_wins(bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_FEW", 0)
    data = prepared(bases("llama"), "auto", preset="best")
    labels = data.validation.labels
    right = np.eye(2)[labels] - 0.5
    ranked_best = np.where(np.arange(len(labels))[:, None] % 12 == 0, -right, right)
    # Far too sure of itself, and right more often than the other, which is as sure as it should be.
    logits = {"last-3": 30 * ranked_best, "full": np.where(np.arange(len(labels))[:, None] % 4 == 0, -right, right)}

    def tried(data: EncodedData, tune: str, *_: Any, **__: Any) -> Attempt:
        return Attempt(tune, logits[tune].astype(np.float32), 0.0, 1)

    monkeypatch.setattr(strategies, "attempt", tried)
    monkeypatch.setattr(strategies, "why_not", lambda *_: None)
    result = finetune(data)
    assert [candidate.tune for candidate in result.candidates] == ["head", "last-3", "full", "last-3 and full"]
    uncalibrated = {name: likelihood.losses(values, labels).mean() for name, values in logits.items()}
    assert uncalibrated["last-3"] > 2 * uncalibrated["full"]
    assert result.tune == "last-3"
    assert result.kept.loss == min(candidate.loss for candidate in result.candidates)
    assert result.temperature > 2
    calibrated = likelihood.losses(result.validation_logits, labels).mean()
    assert calibrated == pytest.approx(calibrated_losses(logits["last-3"], labels).mean(), rel=1e-4)


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.usefixtures("in_float32")
def test_a_probe_of_several_layers_is_weighed_against_layers_that_are_trained_without_them(
    kept: int, bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_FEW", 0)
    data = prepared(bases("bert"), "auto", pool="auto", epochs=3)
    assert ("layers", 3) in data.candidates
    assert search_depth(data, None).of_one_layer in ("cls", "mean", "both")
    monkeypatch.setattr(finetune_module, "search_depth", lambda *_: DepthChoice("layers", 3, "mean"))
    monkeypatch.setattr(strategies, "why_not", lambda *_: None)
    monkeypatch.setattr(finetune_module, "_best_of", lambda _, candidates: candidates[kept])
    result = finetune(data)
    assert [candidate.tune for candidate in result.candidates] == ["head", "last-3"]
    assert result.head.pooling == result.structure.pool == ("layers", "mean")[kept]
    # The weights that are left are those of the candidate, whose logits were of its own head.
    np.testing.assert_allclose(result.validation_logits, logits_of(data, result.head), rtol=1e-3, atol=1e-4)


def of_losses(*losses: float) -> Candidate:
    tried = Attempt("head", np.zeros((len(losses), 2), np.float32), 0.0, 1)
    return Candidate.of(tried, np.array(losses), Mixture(1.0, 0.0))


def test_what_cannot_gain_or_takes_too_long_is_not_tried(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(bases("llama"), "auto")
    wrong, right = of_losses(0.1, 0.1, math.log(2) + 0.01), of_losses(0.1, 0.1, math.log(2) - 0.01)
    assert data.has_few
    assert why_not(data, "last-2", 3, wrong, None) is None
    assert why_not(data, "last-2", 3, right, None) is None  # a few right ones say nothing
    monkeypatch.setattr(EncodedData, "has_few", False)
    assert why_not(data, "last-2", 3, wrong, None) is None
    assert "nothing to gain" in str(why_not(data, "last-2", 3, right, None))
    monkeypatch.setattr(strategies, "expected_seconds", lambda *_: 100.0)
    now = time.perf_counter()
    assert why_not(data, "last-2", 3, wrong, None) is None
    assert why_not(data, "last-2", 3, wrong, now + 50) is None  # enough for a shorter training
    reason = why_not(data, "last-2", 3, wrong, now + 20)
    assert reason is not None
    assert "would take about 100 s more" in reason
    assert "of the budget are left" in reason
    assert "and 0 s of the budget" in str(why_not(data, "last-2", 3, wrong, now - 20))


def test_of_several_labels_one_that_is_wrong_is_enough_to_train_for(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is the mean over the labels: one of ten taken wrongly, it is far below that of even odds."""
    monkeypatch.setattr(EncodedData, "has_few", False)
    data = prepared(bases("llama"), "auto")
    labels = np.eye(10, dtype=np.int64)[[0, 1]]
    data = replace(data, validation=replace(data.validation, labels=labels))
    logits = np.where(labels, 4.0, -4.0)
    right = likelihood.losses(logits, labels)
    logits[1, 1] = -0.5
    one_wrong = likelihood.losses(logits, labels)
    assert one_wrong.max() < 0.2
    assert why_not(data, "last-2", 3, of_losses(*one_wrong), None) is None
    assert "nothing to gain" in str(why_not(data, "last-2", 3, of_losses(*right), None))


def test_a_training_that_is_dear_for_what_it_can_win_is_not_begun(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_FEW", 0)
    monkeypatch.setattr(strategies, "expected_seconds", lambda *_: 300.0)
    later = time.perf_counter() + 1e6
    one_in_a_hundred = of_losses(1.0, *[0.1] * 99)
    balanced = prepared(bases("llama"), "auto")
    assert "only 1.0 % of the validation examples" in str(why_not(balanced, "last-2", 3, one_in_a_hundred, later))
    assert why_not(balanced, "last-2", 3, of_losses(1.0, 1.0, *[0.1] * 98), later) is None
    assert why_not(balanced, "last-2", 3, one_in_a_hundred, None) is None
    patient = prepared(bases("llama"), "auto", budget=1000.0)
    assert why_not(patient, "last-2", 3, one_in_a_hundred, later) is None
    best = prepared(bases("llama"), "auto", preset="best")
    assert why_not(best, "last-2", 3, one_in_a_hundred, later) is None


def slow_steps(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[float]:
    """Let each step take so long; returns what the learning rate's share will have been at each."""
    shares: list[float] = []
    schedule = loop._schedule

    def noted(*arguments: float) -> float:
        shares.append(schedule(*arguments))
        time.sleep(seconds)
        return shares[-1]

    monkeypatch.setattr(loop, "_schedule", noted)
    return shares


def test_with_a_deadline_the_learning_rate_has_fallen_to_nothing_by_then(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepared(bases("llama"), "last-1", epochs=1000, batch_size=1)
    head, features, _ = begun(data)
    shares = slow_steps(monkeypatch, 0.02)
    start = time.perf_counter()
    candidate = attempt(data, "last-1", head, features, start + 1.5, None, None)
    assert candidate.history is not None
    assert candidate.history.stopped == "the time budget was used up"
    assert time.perf_counter() - start < 1.5 + 1.5
    highest = int(np.argmax(shares))
    assert shares[highest] > 0.5
    assert shares[: highest + 1] == sorted(shares[: highest + 1])
    assert shares[highest:] == sorted(shares[highest:], reverse=True)
    assert 0 <= shares[-1] < 0.3


def test_a_fit_ends_within_its_budget_and_says_so(
    bases: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_csv(tmp_path / "messages.csv", ["text", "label"], zip(*noisy(120), strict=True))
    slow_steps(monkeypatch, 0.05)
    model = Classifier(bases("llama"), depth=2, pool="mean", epochs=1000, batch_size=1, budget=6.0)
    start = time.perf_counter()
    facts = fit(str(table), model).to_json()
    assert time.perf_counter() - start < 12
    trained = facts["stages"][1:]
    assert facts["stopped"] if not trained else trained[0]["epochs"]["stopped"] == "the time budget was used up"


@pytest.mark.parametrize("refits", [True, False])
def test_the_head_learns_from_validation_examples_only_where_it_is_refitted(
    refits: bool, bases: Callable[[str], str]
) -> None:
    data = prepared(bases("bert"), "head")
    result = finetune(data, refits=refits)
    assert result.refitted == refits
    again = prepared(bases("bert"), "head")
    head, features, _ = begun(again)
    solved = finetune_module._solve_probe(again, head, features).solved
    with torch.inference_mode():
        seen = head.projection(features.seen).numpy()
    of_all, _ = probe.solve_at(solved.strength, seen, again.labels, 2, intercept=True)
    expected = of_all if refits else solved.weight
    other = solved.weight if refits else of_all
    found = result.head.linear.weight.detach().numpy() * result.temperature
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(found - other).max() > 1e-2
    # What is told of the validation examples is what a head said that had not learned from them.
    logits = solved.logits / result.temperature
    np.testing.assert_allclose(result.validation_logits, logits, rtol=1e-3, atol=1e-3)


def test_layers_that_were_trained_are_not_refitted(bases: Callable[[str], str]) -> None:
    assert not finetune(prepared(bases("bert"), "last-1"), refits=True).refitted


def test_what_trained_layers_have_to_beat_has_learned_from_all_examples(bases: Callable[[str], str]) -> None:
    texts, labels = noisy(80)
    model = Classifier(bases("bert"), tune="last-1", depth=2, pool="mean", epochs=1).fit(texts, labels)
    reference = model.artifact_.reference
    assert reference is not None
    # N-grams that two texts have; of seven eighths of the texts there are fewer.
    known, of_most = reference.baselines.features, Ngrams.fit_transform(texts[:70])[0]
    assert known.width == Ngrams.fit_transform(texts)[0].width > of_most.width


def test_a_validation_part_of_ones_own_is_never_learned_from(bases: Callable[[str], str], tmp_path: Path) -> None:
    table = write_csv(tmp_path / "messages.csv", ["text", "label"], zip(*noisy(60), strict=True))
    texts, labels = messages(20, start=80)
    own = write_csv(tmp_path / "validation.csv", ["text", "label"], zip(texts, labels, strict=True))
    settings: dict[str, Any] = {"tune": "head", "depth": 2, "pool": "mean"}
    assert fit(str(table), Classifier(bases("bert"), **settings)).training.refitted
    facts = fit(DataConfig(str(table), validation=str(own)), Classifier(bases("bert"), **settings)).to_json()
    assert not facts["refitted"]


def test_the_baseline_beside_the_head_is_chosen_by_validation(bases: Callable[[str], str]) -> None:
    data = prepared(bases("bert"), "head")
    right = SimpleNamespace(
        logits=lambda texts: np.float32(4) * (np.eye(2, dtype=np.float32)[data.validation.labels] - np.float32(0.5))
    )
    result = finetune(data, right)
    assert result.baseline_factor > 0.3
    alone = finetune(prepared(bases("bert"), "head"))
    assert alone.baseline_factor == 0
    labels = data.validation.labels
    found, least = (likelihood.losses(one.validation_logits, labels).mean() for one in (result, alone))
    assert found < least
    endless = SimpleNamespace(logits=lambda texts: np.full((len(texts), 2), -np.inf, dtype=np.float32))
    assert np.isfinite(finetune(prepared(bases("bert"), "head"), endless).validation_logits).all()


def test_without_ngrams_nothing_stands_beside_the_head(
    bases: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("n-grams were asked for")

    train, validation = of_messages()
    learned = baselines.learn(train, validation)
    monkeypatch.setattr(type(learned), "logits", never)
    model = Classifier(bases("bert"), tune="head", depth=2, pool="mean", ngrams=False)
    result = model.fit_encoded(model.prepare(train, validation), learned, Limits(math.inf))
    assert result.baseline_factor == 0
    assert model.artifact_.beside is None
    assert replace(model.config()).ngrams is False
    progress.show(False)
