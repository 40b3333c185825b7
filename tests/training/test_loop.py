"""Training: exact gradients are tested with the equivalence; here is what the loop does with them."""

import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rehead.evaluation.calibration import calibrated_losses
from rehead.models import heads
from rehead.models.backbone import Backbone
from rehead.models.loading import load
from rehead.models.tokenization import encode
from rehead.runtime import hardware, progress
from rehead.runtime.errors import Interrupted, SettingError
from rehead.training import loop
from rehead.training import tail as tail_module
from rehead.training.checkpoint import Checkpoint
from rehead.training.features import trunk_pass
from rehead.training.inputs import Computed, Kept
from rehead.training.loop import History, Recipe
from rehead.training.tail import Labelled, Tail
from rehead.training.weights import example_weights
from tests.tiny_models import save_tiny_model
from tests.training.tails import train

SPAM, HAM = "free prize call now", "meet you at noon"
TEXTS = [f"{text} {word}" for word in ("a", "the", "ok", "yes", "no", "home", "later", "and") for text in (SPAM, HAM)]
LABELS = torch.tensor([1, 0] * 8)


def kept_states(base: Backbone, cut: int) -> Labelled:
    passed = trunk_pass(base, encode(base, TEXTS, 64).ids, depths=[], pooling="mean", cut=cut)
    assert passed.tokens is not None
    return Labelled(Kept(passed.tokens), LABELS)


@pytest.fixture(params=["llama", "bert", "gpt2"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Tail, Labelled]:
    base = load(str(save_tiny_model(tmp_path, request.param)), 2, seed=0)
    return Tail.of_blocks(base, heads.build(base, "mean", 2, seed=0), 3, 4), kept_states(base, 3)


def test_tail_logits_equal_the_whole_model(setting: tuple[Tail, Labelled], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    tail, data = setting
    whole = trunk_pass(tail.base, encode(tail.base, TEXTS, 64).ids, depths=[4], pooling="mean").seen
    with torch.inference_mode():
        expected = tail.head(whole)
    torch.testing.assert_close(tail.logits(data.inputs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [0, 2, 3])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_tail_whose_head_reads_several_blocks_equals_transformers(
    family: str, cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    head = heads.build(base, "layers", 2, seed=0)
    assert head.reads == [1, 2, 3, 4]
    tail = Tail.of_blocks(base, head, cut, 4)
    assert any(weight is base_weight for weight in tail.weights() for base_weight in base.norm.parameters()) == (
        family == "llama" and cut == 0
    )
    ids = encode(base, TEXTS, 64).ids
    frozen = trunk_pass(base, ids, depths=head.reads, pooling="layers").pooled[:cut]
    below = torch.cat(frozen, dim=1) if frozen else None
    expected = []
    for row in range(len(TEXTS)):
        text = ids.take(torch.tensor([row])).values[None]
        states = list(base.body(input_ids=text, output_hidden_states=True).hidden_states[1:])
        states[:-1] = [base.norm(state) for state in states[:-1]]  # Transformers norms the last one only
        whole_text = -1 if base.family.causal else 0
        expected.append(torch.cat([torch.cat([state[0, whole_text], state[0].mean(0)]) for state in states]))
    logits = head(torch.stack(expected)).detach()
    torch.testing.assert_close(tail.logits(Computed(base, ids, cut, below)), logits, rtol=1e-4, atol=1e-5)
    if cut:
        kept = kept_states(base, cut).inputs
        assert isinstance(kept, Kept)
        torch.testing.assert_close(tail.logits(Kept(kept.states, below)), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [0, 2])
def test_computed_states_equal_those_that_were_kept(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    base = load(str(save_tiny_model(tmp_path, "qwen3")), 2, seed=0)
    head = heads.build(base, "last", 2, seed=0)
    whole = Tail.of_blocks(base, head, 0, 4).logits(Computed(base, encode(base, TEXTS, 64).ids, 0))
    computed = Tail.of_blocks(base, head, cut, 4).logits(Computed(base, encode(base, TEXTS, 64).ids, cut))
    torch.testing.assert_close(computed, whole, rtol=1e-4, atol=1e-5)
    if cut:
        kept = Tail.of_blocks(base, head, cut, 4).logits(kept_states(base, cut).inputs)
        torch.testing.assert_close(kept, whole, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss_and_leaves_the_trunk_alone(setting: tuple[Tail, Labelled]) -> None:
    tail, data = setting
    base = tail.base
    before = {name: weight.clone() for name, weight in base.body.state_dict().items()}
    history = train(tail, data, data, Recipe(epochs=4, learning_rate=5e-3))
    assert min(history.validation_losses) < 0.7 * history.validation_losses[0]
    changed = {name for name, weight in base.body.state_dict().items() if not torch.equal(weight, before[name])}
    last_block = {name for name in base.body.state_dict() if ".3." in f".{name}"}
    norm = {name for name in base.body.state_dict() if base.family.norm and name.startswith(base.family.norm)}
    assert changed
    assert changed <= last_block | norm


def test_a_step_sees_what_the_head_was_solved_on(
    setting: tuple[Tail, Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No dropout, though BERT and GPT-2 come with it: the loss of a step is that of the evaluation."""
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    tail, data = setting
    tail.base.train(True)
    trainee = tail_module.Classification(tail, data, data, Recipe())
    trainee.weights()
    trainee.switch(training=True)
    losses = trainee.loss(torch.arange(len(TEXTS))).detach()
    expected = torch.nn.functional.cross_entropy(tail.logits(data.inputs), LABELS, reduction="sum")
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)


def test_kept_weights_are_those_with_the_lowest_validation_loss(setting: tuple[Tail, Labelled]) -> None:
    tail, data = setting
    # A learning rate that ruins the model: the weights from before the first epoch must come back.
    start = tail.logits(data.inputs)
    history = train(tail, data, data, Recipe(epochs=2, learning_rate=30.0))
    assert history.validation_losses[history.best_epoch] <= history.validation_losses[0]
    logits = tail.logits(data.inputs)
    loss = calibrated_losses(logits.numpy(), LABELS.numpy()).mean()
    assert float(loss) == pytest.approx(history.validation_losses[history.best_epoch], abs=1e-6)
    if history.best_epoch == 0:
        assert torch.equal(logits, start)


@pytest.mark.parametrize(
    ("after_second", "kept"), [([0.5, 0.7, 0.6], 2), ([0.5, 0.7, 0.62], 2), ([0.7, 0.7, 0.7], 1), ([0.9, 0.9, 0.9], 1)]
)
def test_the_last_epoch_that_is_as_good_as_the_best_is_kept(
    after_second: list[float], kept: int, setting: tuple[Tail, Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    tail, data = setting
    told = iter([[0.8, 0.8, 0.8], [0.6, 0.6, 0.6], after_second])
    monkeypatch.setattr(tail_module.Classification, "validation_losses", lambda _: torch.tensor(next(told)).double())
    history = train(tail, data, data, Recipe(epochs=2, learning_rate=1e-3))
    assert history.best_epoch == kept
    assert history.validation_losses == pytest.approx([0.8, 0.6, sum(after_second) / 3])


def test_an_epoch_that_is_no_better_than_the_start_is_not_kept(
    setting: tuple[Tail, Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    tail, data = setting
    told = iter([[0.5, 0.7], [0.4, 0.8]])
    monkeypatch.setattr(tail_module.Classification, "validation_losses", lambda _: torch.tensor(next(told)).double())
    assert train(tail, data, data, Recipe(epochs=1, learning_rate=1e-3)).best_epoch == 0


def test_an_epoch_that_is_to_be_the_last_is_kept_whatever_its_loss(setting: tuple[Tail, Labelled]) -> None:
    tail, data = setting
    wrong = Labelled(data.inputs, 1 - LABELS)
    start = tail.logits(data.inputs)
    history = train(tail, data, wrong, Recipe(epochs=3, learning_rate=1e-2, ends_after=2))
    assert history.best_epoch == 2
    assert len(history.validation_losses) == 3
    assert history.stopped is None
    assert not torch.equal(tail.logits(data.inputs), start)


def test_training_stops_early_without_a_lower_loss(setting: tuple[Tail, Labelled]) -> None:
    tail, data = setting
    wrong = Labelled(data.inputs, 1 - LABELS)
    history = train(tail, data, wrong, Recipe(epochs=9, learning_rate=1e-2, patience=2))
    assert history.best_epoch == 0
    assert len(history.validation_losses) == 3
    assert history.stopped is not None
    assert "2 epochs" in history.stopped


def test_loss_that_is_not_a_number_stops_with_the_rows_and_keeps_the_weights(
    setting: tuple[Tail, Labelled], monkeypatch: pytest.MonkeyPatch
) -> None:
    tail, data = setting
    start = tail.logits(data.inputs)
    honest = tail_module.Classification.loss
    poisoned = 5

    def spoiled(self: tail_module.Classification, rows: torch.Tensor) -> torch.Tensor:
        return honest(self, rows) * (float("nan") if poisoned in rows.tolist() else 1.0)

    monkeypatch.setattr(tail_module.Classification, "loss", spoiled)
    history = train(tail, data, data, Recipe(epochs=2, batch_size=4, learning_rate=1e-3))
    assert poisoned in history.lost_rows
    assert len(history.lost_rows) == 4
    assert history.stopped is not None
    assert history.stopped == "the loss was not a finite number"
    assert torch.equal(tail.logits(data.inputs), start)


def test_portions_of_a_batch_add_up_to_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    results = []
    for portion in (4096, 12):
        monkeypatch.setattr(loop, "PORTION", portion)
        base = load(str(save_tiny_model(tmp_path / str(portion), "llama")), 2, seed=0)
        tail = Tail.of_blocks(base, heads.build(base, "last", 2, seed=0), 2, 4)
        data = kept_states(base, 2)
        weights = example_weights(data.labels.numpy(), ("0", "1"), "balanced", np.arange(1.0, 1 + len(LABELS)))
        weighted = Labelled(data.inputs, data.labels, weights)
        train(tail, weighted, data, Recipe(epochs=1, batch_size=16, learning_rate=1e-3, label_smoothing=0.1))
        results.append(tail.logits(data.inputs))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_recomputing_activations_gives_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for free in (1e12, 0.0):
        monkeypatch.setattr(hardware, "free_memory", lambda free=free: free)
        base = load(str(save_tiny_model(tmp_path / str(free), "bert")), 2, seed=0)
        tail = Tail.of_blocks(base, heads.build(base, "cls", 2, seed=0), 1, 4)
        data = kept_states(base, 1)
        train(tail, data, data, Recipe(epochs=1, learning_rate=1e-3))
        results.append(tail.logits(data.inputs))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)


def test_same_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path, "bert"))
    results = []
    for seed, disturbance in ((3, 1), (3, 2), (4, 3)):
        torch.manual_seed(disturbance)
        base = load(folder, 2, seed=0)
        tail = Tail.of_blocks(base, heads.build(base, "cls", 2, seed=0), 2, 4)
        data = kept_states(base, 2)
        train(tail, data, data, Recipe(epochs=2, learning_rate=1e-3, seed=seed))
        results.append(base.model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert any(not torch.equal(results[0][name], results[2][name]) for name in results[0])


RESUMED = Recipe(epochs=3, batch_size=4, learning_rate=1e-3, patience=5)


def new_tail(folder: str) -> tuple[Tail, Labelled]:
    base = load(folder, 2, seed=0)
    return Tail.of_blocks(base, heads.build(base, "cls", 2, seed=0), 2, 4), kept_states(base, 2)


@pytest.fixture
def obeys_ctrl_c() -> Iterator[None]:
    """As at a terminal; a background job of a shell ignores it, and so would the tests in one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("obeys_ctrl_c")
@pytest.mark.parametrize("steps", [1, 4, 6, 11])
def test_interrupted_training_resumes_bit_for_bit(steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(save_tiny_model(tmp_path / "model", "bert"))
    undisturbed, data = new_tail(folder)
    history = train(undisturbed, data, data, RESUMED)

    state = Checkpoint(tmp_path / "run", "last-2", "this run", resume=True)
    honest = loop._Training._take_step
    interrupted, data = new_tail(folder)

    def press_ctrl_c(self: loop._Training, rows: torch.Tensor) -> bool:
        done = honest(self, rows)
        if self.step == steps:
            signal.raise_signal(signal.SIGINT)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(loop._Training, "_take_step", press_ctrl_c)
        with pytest.raises(Interrupted, match="`resume=True`"):
            train(interrupted, data, data, RESUMED, state)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    resumed, data = new_tail(folder)
    again = train(resumed, data, data, RESUMED, state)
    assert again.validation_losses == history.validation_losses
    expected, actual = undisturbed.trained.state_dict(), resumed.trained.state_dict()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.usefixtures("obeys_ctrl_c")
def test_a_process_that_ignores_ctrl_c_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tail, data = new_tail(str(save_tiny_model(tmp_path / "model", "bert")))
    honest = loop._Training._take_step

    def press_ctrl_c(self: loop._Training, rows: torch.Tensor) -> bool:
        signal.raise_signal(signal.SIGINT)
        return honest(self, rows)

    monkeypatch.setattr(loop._Training, "_take_step", press_ctrl_c)
    assert len(train(tail, data, data, RESUMED).validation_losses) == RESUMED.epochs + 1


def test_finished_training_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(save_tiny_model(tmp_path / "model", "bert"))
    state = Checkpoint(tmp_path / "run", "last-2", "this run", resume=True)
    first, data = new_tail(folder)
    train(first, data, data, RESUMED, state)
    monkeypatch.setattr(loop._Training, "_take_step", lambda *_: pytest.fail("a step was taken"))
    second, data = new_tail(folder)
    train(second, data, data, RESUMED, state)
    assert torch.equal(first.logits(data.inputs), second.logits(data.inputs))


def test_state_of_another_run_is_refused(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path / "model", "bert"))
    state = Checkpoint(tmp_path / "run", "last-2", "this run", resume=True)
    tail, data = new_tail(folder)
    train(tail, data, data, RESUMED, state)
    with pytest.raises(SettingError, match="other settings"):
        train(tail, data, data, RESUMED, replace(state, begun_with="another run"))
    state.file.write_bytes(b"half a file")
    with pytest.raises(SettingError, match="damaged"):
        train(tail, data, data, RESUMED, state)


def test_no_flipped_bit_of_a_kept_state_goes_into_a_training(tmp_path: Path) -> None:
    state = Checkpoint(tmp_path / "run", "last-2", "this run", resume=True)
    tail, data = new_tail(str(save_tiny_model(tmp_path / "model", "bert")))
    train(tail, data, data, RESUMED, state)
    whole = state.file.read_bytes()
    read = state.read()
    assert read is not None
    # The header's length and its first fields, metadata among them, and bytes of all tensors.
    for byte in [*range(400), *range(400, len(whole), 997)]:
        damaged = bytearray(whole)
        damaged[byte] ^= 4
        state.file.write_bytes(damaged)
        with pytest.raises(SettingError, match=rf"{state.file.name} is damaged; run again without"):
            state.read()


def test_training_goes_on_where_its_state_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", warnings.append)
    (tmp_path / "run").write_text("a file where the folder should be")
    tail, data = new_tail(str(save_tiny_model(tmp_path / "model", "bert")))
    history = train(tail, data, data, RESUMED, Checkpoint(tmp_path / "run", "last-2", "this run", resume=False))
    assert len(history.validation_losses) == RESUMED.epochs + 1
    assert len(warnings) == 1
    assert "without keeping its state" in warnings[0]


@pytest.mark.usefixtures("obeys_ctrl_c")
def test_ctrl_c_in_the_last_validation_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tail, data = new_tail(str(save_tiny_model(tmp_path / "model", "bert")))
    honest = loop._Training._end_epoch

    def press_ctrl_c(self: loop._Training, epoch: int) -> None:
        honest(self, epoch)
        if epoch == RESUMED.epochs:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop._Training, "_end_epoch", press_ctrl_c)
    with pytest.raises(Interrupted, match="`resume=True`"):
        train(tail, data, data, RESUMED, Checkpoint(tmp_path / "run", "last-2", "this run", resume=False))


def test_a_loss_that_is_no_number_later_on_leaves_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(save_tiny_model(tmp_path / "model", "bert"))
    shorter, data = new_tail(folder)
    epochs = train(shorter, data, data, RESUMED).validation_losses
    assert epochs[1] < epochs[0]
    poisoned, data = new_tail(folder)
    honest = tail_module.Classification.loss
    steps_an_epoch = -(-len(LABELS) // RESUMED.batch_size)
    batches: list[torch.Tensor] = []

    def no_number(self: tail_module.Classification, rows: torch.Tensor) -> torch.Tensor:
        batches.append(rows)
        loss = honest(self, rows)
        return loss * float("nan") if len(batches) == steps_an_epoch + 2 else loss

    monkeypatch.setattr(tail_module.Classification, "loss", no_number)
    history = train(poisoned, data, data, RESUMED)
    assert history.stopped == "the loss was not a finite number"
    assert len(history.lost_rows) == RESUMED.batch_size
    assert history.best_epoch == 1
    assert history.validation_losses == epochs[:2]
    after = calibrated_losses(poisoned.logits(data.inputs).numpy(), data.labels.numpy()).mean()
    assert float(after) == pytest.approx(epochs[1], rel=1e-6)


def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    tail, data = new_tail(str(save_tiny_model(tmp_path, "bert")))
    histories: list[History] = []
    thread = threading.Thread(target=lambda: histories.append(train(tail, data, data, Recipe(epochs=1))))
    thread.start()
    thread.join()
    assert len(histories[0].validation_losses) == 2
