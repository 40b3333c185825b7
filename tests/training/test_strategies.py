"""Every strategy from the command line to the saved folder; interruption and resumption of a real process."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rehead import Classifier
from rehead.cli import main
from rehead.data.examples import Examples
from rehead.runtime import hardware, progress
from rehead.runtime.errors import Interrupted, SettingError
from rehead.training import encoding, strategies
from rehead.training.beside import BesideHead
from rehead.training.checkpoint import Resumption
from rehead.training.encoding import EncodedData
from rehead.training.loop import History
from rehead.training.strategies import Attempt, Candidate
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rehead.cli", *map(str, arguments)]


def run(*arguments: object) -> str:
    """The command in this process, which costs no start; what it prints on stdout."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
    finally:
        progress.show(False)
    assert stopped.value.code == 0
    return printed.getvalue()


def fit(*arguments: object) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(run("fit", *arguments, "--json"))
    return facts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"), "llama")


@pytest.mark.parametrize("tune", ["last-2", "lora", "full"])
@pytest.mark.parametrize("pool", ["last", "mean", "layers"])
def test_strategy_is_saved_and_loads_with_the_same_scores(
    tune: str, pool: str, data: Path, base: Path, tmp_path: Path
) -> None:
    options = ("--tune", tune, "--pool", pool, "--depth", 3, "--epochs", 1, "--learning-rate", "1e-3")
    facts = fit(data, "--base", base, *options, "-o", tmp_path / "model")
    assert (facts["tune"], facts["depth"]) == (tune, 3)
    assert facts["cut"] == {"last-2": 1}.get(tune, 0)
    assert [stage["tune"] for stage in facts["stages"]] == ["head", tune]
    assert (tmp_path / "model" / "adapter" / "adapter_model.safetensors").is_file() == (tune == "lora")
    assert Classifier.load(tmp_path / "model").predict(["free prize call now"]).tolist() == ["spam"]
    assert not list(tmp_path.glob(".*rehead-run"))


def test_auto_says_what_it_tried_and_why_it_stopped(data: Path, base: Path, tmp_path: Path) -> None:
    options = ("--tune", "auto", "--preset", "best", "--depth", 2, "--pool", "mean", "--no-ngrams")
    facts = fit(data, "--base", base, *options, "-o", tmp_path / "model")
    tried = [stage["tune"] for stage in facts["stages"]]
    assert tried == ["head", "contrastive"][: len(tried)]  # there are few examples
    losses = [stage["validation_log_loss"] for stage in facts["stages"]]
    (kept,) = (number for number, stage in enumerate(facts["stages"]) if stage["kept"])
    assert facts["tune"] == tried[kept]
    assert losses[kept] == min(losses)
    assert bool(facts["stopped"]) == (len(tried) < 2)
    assert facts["validation"]["log_loss"] == pytest.approx(losses[kept], abs=1e-4)


def test_auto_within_a_tiny_budget_is_the_probe(base: Path, tmp_path: Path) -> None:
    texts, labels = messages(60)
    noisy = [("ham", "spam")[label == "ham"] if i % 5 == 0 else label for i, label in enumerate(labels)]
    data = write_csv(tmp_path / "noisy.csv", ["text", "label"], zip(texts, noisy, strict=True))
    facts = fit(data, "--base", base, "--tune", "auto", "--depth", 2, "--budget", "0.001s", "-o", tmp_path / "model")
    assert facts["tune"] == "head"
    assert "budget" in facts["stopped"]


def only_best(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    """Let one of the strategies have the lowest loss, whatever it came to."""
    honest = BesideHead.put_beside

    def put_beside(beside: BesideHead, attempt: Attempt, data: EncodedData) -> Candidate:
        losses = np.full(len(attempt.logits), 0.0 if attempt.tune == wanted else 20.0)
        return replace(honest(beside, attempt, data), losses=losses)

    monkeypatch.setattr(BesideHead, "put_beside", put_beside)
    monkeypatch.setattr(strategies, "why_not", lambda *_: None)


def test_a_strategy_that_does_not_pay_leaves_the_classifier_as_it_was(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rehead.workflows.fit import fit as fit_here

    only_best(monkeypatch, "none")
    settings: dict[str, Any] = {"depth": 2, "pool": "mean", "learning_rate": 1e-2}
    probe = fit_here(str(data), Classifier(str(base), tune="head", **settings), tmp_path / "head")
    tried = fit_here(str(data), Classifier(str(base), tune="auto", **settings), tmp_path / "auto")
    assert [stage.tune for stage in tried.training.stages] == ["head", "contrastive"]  # there are few
    assert [stage.kept for stage in tried.training.stages] == [True, False]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("head", "auto")]
    assert weights[0] == weights[1]
    assert probe.evaluation.test == tried.evaluation.test


def test_balanced_classes_move_the_probe_towards_the_rare_one(base: Path) -> None:
    texts = [f"free prize {word}" for word in ("a", "the", "ok", "yes", "no", "home", "later", "and")]
    texts += [f"{first} meet {second}" for first in ("you", "at", "noon", "to") for second in texts]
    labels = ["spam"] * 8 + ["ham"] * 32
    noisy = ["ham" if i % 3 == 0 else label for i, label in enumerate(labels)]
    shares = []
    for weight in (None, "balanced"):
        model = Classifier(str(base), tune="head", depth=1, pool="mean", class_weight=weight).fit(texts, noisy)
        shares.append(model.predict_proba(texts)[:, model.classes_.tolist().index("spam")].mean())
    assert shares[1] > shares[0] + 0.05


@pytest.mark.slow
@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("tune", ["head", "last-2", "full"])  # on so small a base adapters are no small addition
def test_estimate_is_what_an_empty_cache_then_makes_it_compute(
    tune: str, data: Path, base: Path, tmp_path: Path
) -> None:
    options = ("--base", base, "--tune", tune, "--depth", 4, "--pool", "mean", "--epochs", 1)
    plan = fit(data, *options, "--dry-run")
    facts = fit(data, *options, "-o", tmp_path / "model")
    assert facts["flops"] == pytest.approx(plan["trunk_flops"] + plan["training_flops"], rel=0.02)
    assert (plan["training_flops"] > 0) == (tune != "head")


def test_dry_run_tells_what_it_would_take_and_writes_nothing(data: Path, base: Path, tmp_path: Path) -> None:
    arguments = ("--base", base, "--tune", "last-1", "--dry-run", "-o", tmp_path / "model")
    plan = fit(data, *arguments)
    assert plan["tokens"] > 0
    assert plan["training_flops"] > 0
    assert plan["trunk_flops"] > 0
    assert plan["peak_memory_bytes"] > 1e8
    assert not (tmp_path / "model").exists()
    assert not list(tmp_path.iterdir())
    assert f"{plan['tokens']:,} tokens" in run("fit", data, *arguments)


_LASTING = ("--epochs", 60, "--batch-size", 2, "--learning-rate", "1e-3")
LONG = ("--tune", "last-2", "--pool", "mean", "--depth", 4, *_LASTING)


def fit_in_child(*arguments: object) -> None:
    subprocess.run(command("fit", *arguments), capture_output=True, check=True)


@pytest.fixture(scope="module")
def undisturbed(data: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    fit_in_child(data, "--base", base, *LONG, "-o", folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kept", "sent"),
    [
        pytest.param("lock", signal.SIGKILL, id="killed before training"),
        pytest.param("last-2-*", signal.SIGINT, id="interrupted in training"),
    ],
)
def test_a_process_that_was_stopped_goes_on_to_the_same_weights(
    sent: signal.Signals, kept: str, data: Path, base: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "disturbed"
    state = tmp_path / ".disturbed.rehead-run"
    process = subprocess.Popen(
        command("fit", data, "--base", base, *LONG, "-o", output),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )
    deadline = time.monotonic() + 60
    while not list(state.glob(kept)) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, sent)
    said = process.communicate()[1]
    assert process.returncode == (130 if sent == signal.SIGINT else -sent), said
    assert not output.exists()
    if sent == signal.SIGINT:
        assert "--resume" in said.splitlines()[-1]

    fit_in_child(data, "--base", base, *LONG, "-o", output, "--resume")
    for name in ("model.safetensors", "rehead.json"):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes()
    assert not state.exists()


def test_fits_to_the_same_output_do_not_meet(data: Path, base: Path, tmp_path: Path) -> None:
    with (
        Resumption.beside(tmp_path / "model", resume=False),
        pytest.raises(SettingError, match=r"another fit to .*model is running"),
        Resumption.beside(tmp_path / "model", resume=False),
    ):
        pytest.fail("both are running")
    assert not list(tmp_path.iterdir())


def test_state_of_an_interrupted_fit_outlives_one_with_other_settings(tmp_path: Path) -> None:
    def fit_that_ends_in(error: BaseException) -> None:
        with Resumption.beside(tmp_path / "model", resume=False) as run:
            (run.folder / "full.safetensors").touch()
            raise error

    with pytest.raises(Interrupted, match="`resume=True`"):
        fit_that_ends_in(KeyboardInterrupt())
    with pytest.raises(SettingError, match="mistyped"):
        fit_that_ends_in(SettingError("mistyped"))
    with Resumption.beside(tmp_path / "model", resume=True) as again:
        assert (again.folder / "full.safetensors").is_file()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", ["lora", "full"])
def test_adapters_are_saved_only_where_they_are_what_was_kept(
    kept: str, data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rehead.workflows.fit import fit as fit_here

    only_best(monkeypatch, kept)
    monkeypatch.setattr(strategies, "planned", lambda *_: ["last-1", "lora", "full"])

    def average(_data: object, _head: object, _features: object, first: Candidate, _second: Candidate) -> Attempt:
        of_first = {one.name: getattr(first, one.name) for one in fields(Attempt)}
        return Attempt(**of_first | {"tune": "of two"})

    monkeypatch.setattr(strategies, "average", average)
    settings: dict[str, Any] = {"tune": "auto", "depth": 2, "pool": "mean", "epochs": 1}
    facts = fit_here(str(data), Classifier(str(base), **settings), tmp_path / "model").to_json()
    assert facts["tune"] == kept
    assert (tmp_path / "model" / "adapter").is_dir() == (kept == "lora")


@pytest.mark.parametrize(("name", "value"), [("label_smoothing", 1.0), ("class_weight", "odd"), ("budget", 0)])
def test_settings_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=name):
        Classifier(**{name: value}).config()


def test_tokens_that_find_no_room_are_computed_again(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rehead.workflows.fit import fit as fit_here

    settings: dict[str, Any] = {"tune": "last-1", "depth": 3, "pool": "mean", "epochs": 1}
    losses = []
    for keeps in (True, False):
        monkeypatch.setattr(EncodedData, "keeps_tokens", lambda *_, keeps=keeps: keeps)
        facts = fit_here(str(data), Classifier(str(base), **settings)).to_json()
        losses.append(facts["validation"]["log_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-2)


@pytest.mark.usefixtures("empty_cache")
def test_tokens_stay_in_memory_where_the_cache_has_no_room(
    data: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rehead.workflows.fit import fit as fit_here

    def compute_again(*_: Any) -> None:
        raise AssertionError("there is memory enough to keep them")

    monkeypatch.setenv("REHEAD_CACHE_LIMIT", "0")
    monkeypatch.setattr(encoding, "_READING_SPEED", float("inf"))  # this base computes faster than a disk reads
    monkeypatch.setattr(strategies, "Computed", compute_again)
    settings: dict[str, Any] = {"tune": "last-1", "depth": 3, "pool": "mean", "epochs": 1}
    fit_here(str(data), Classifier(str(base), **settings))
    monkeypatch.setattr(hardware, "free_memory", lambda: 0)
    with pytest.raises(AssertionError, match="memory enough"):
        fit_here(str(data), Classifier(str(base), **settings))


def test_what_is_planned_is_what_preset_and_memory_allow(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = parts_of(60)

    def plan(depth: int = 3, **others: Any) -> list[str]:
        return strategies.planned(Classifier(str(base), **others).prepare(train, validation), depth)

    assert plan(preset="balanced") == plan(preset="best") == ["contrastive"]  # there are few
    monkeypatch.setattr(encoding, "_FEW", 0)
    assert plan(preset="quick") == []
    assert plan(preset="balanced", depth=3) == ["last-3"]
    assert plan(preset="balanced", depth=9) == ["last-4"]
    assert plan(preset="best", depth=3) == ["last-3", "full"]
    assert plan(preset="best", long="chunks") == []
    assert plan(preset="best", tune="head") == []
    assert plan(preset="quick", tune="lora") == ["lora"]
    monkeypatch.setattr(hardware, "free_device_memory", lambda: 0)
    assert plan(preset="best", depth=3) == ["last-3", "lora"]


def test_recipe_is_that_of_the_strategy_unless_the_user_asks_for_another(base: Path) -> None:
    train, validation = parts_of(60)
    rates = {}
    for tune in ("last-1", "full", "lora"):
        prepared = Classifier(str(base)).prepare(train, validation)
        recipe = strategies.recipe_for(prepared, tune)
        rates[tune] = recipe.learning_rate
        assert recipe.epochs == 10  # few examples are passed more often
        assert recipe.dropout == (tune == "full")
        asked = Classifier(str(base), learning_rate=1e-3, epochs=3, batch_size=5, class_weight="balanced")
        weighted = asked.prepare(train, validation)
        recipe = strategies.recipe_for(weighted, tune)
        assert (recipe.learning_rate, recipe.epochs, recipe.batch_size) == (1e-3, 3, 5)
        assert weighted.example_weights(np.arange(weighted.n_train)) is not None
    few = Classifier(str(base)).prepare(*parts_of(16))
    tried = strategies.Attempt("contrastive", np.zeros((1, 2), np.float32), 0.0, 0, History(best_epoch=1))
    look, kept = (strategies.recipe_for(few, "contrastive", again).epochs for again in (None, tried))
    assert (look, kept) == (20, 40)
    alone = Classifier(str(base), tune="contrastive").prepare(*parts_of(16))
    assert strategies.recipe_for(alone, "contrastive").epochs == 40  # it does not learn once more
    assert rates["full"] < rates["last-1"]
    assert rates["last-1"] == pytest.approx(1e-4 * 768 / 32)
    progress.show(False)


def parts_of(n: int) -> tuple[Examples, Examples]:
    texts, labels = messages(n)
    ids = np.array([label == "spam" for label in labels], dtype=np.int64)
    whole = Examples(texts, ids, ("ham", "spam"), np.arange(1, n + 1), "messages")
    return whole.take(np.arange(n * 3 // 4)), whole.take(np.arange(n * 3 // 4, n))
