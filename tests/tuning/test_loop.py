"""The tail's training: exact gradients are tested with the equivalence; here is what the loop does with them."""

from pathlib import Path

import pytest
import torch

from rehead import hardware, heads
from rehead.bases.cut import Base
from rehead.bases.loading import load
from rehead.bases.tokens import encode
from rehead.tuning.features import trunk_pass
from rehead.tuning.loop import Recipe, Tokens, tail_logits, train_tail
from tests.tiny_models import save_tiny_model

SPAM, HAM = "free prize call now", "meet you at noon"
TEXTS = [f"{text} {word}" for word in ("a", "the", "ok", "yes", "no", "home", "later", "and") for text in (SPAM, HAM)]
LABELS = torch.tensor([1, 0] * 8)


@pytest.fixture(params=["llama", "bert", "gpt2"])
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Base, heads.Head, Tokens]:
    base = load(str(save_tiny_model(tmp_path, request.param)), 2, seed=0)
    head = heads.build(base, "mean", 2, seed=0)
    passed = trunk_pass(base, encode(base, TEXTS, 64).ids, depths=[4], pooling="mean", cut=3)
    assert passed.tokens is not None
    return base, head, Tokens(passed.tokens, LABELS)


def test_tail_logits_equal_the_whole_model(
    setting: tuple[Base, heads.Head, Tokens], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    base, head, data = setting
    whole = trunk_pass(base, encode(base, TEXTS, 64).ids, depths=[4], pooling="mean").pooled[:, 0]
    with torch.inference_mode():
        expected = head(whole)
    torch.testing.assert_close(tail_logits(base, head, data.states, 3, 4), expected, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss_and_leaves_the_trunk_alone(setting: tuple[Base, heads.Head, Tokens]) -> None:
    base, head, data = setting
    before = {name: weight.clone() for name, weight in base.model.state_dict().items()}
    history = train_tail(base, head, data, data, 3, 4, Recipe(epochs=4, learning_rate=5e-3))
    assert min(history.validation_losses) < 0.7 * history.validation_losses[0]
    changed = {
        name
        for name, weight in base.backbone.state_dict().items()
        if not torch.equal(weight, before[prefixed(base, name)])
    }
    last_block = {name for name in base.backbone.state_dict() if ".3." in f".{name}"}
    norm = {name for name in base.backbone.state_dict() if base.family.norm and name.startswith(base.family.norm)}
    assert changed
    assert changed <= last_block | norm


def prefixed(base: Base, name: str) -> str:
    return f"{base.model.base_model_prefix}.{name}"


def test_kept_weights_are_those_with_the_lowest_validation_loss(setting: tuple[Base, heads.Head, Tokens]) -> None:
    base, head, data = setting
    # A learning rate that ruins the model: the weights from before the first epoch must come back.
    start = tail_logits(base, head, data.states, 3, 4)
    history = train_tail(base, head, data, Tokens(data.states, LABELS), 3, 4, Recipe(epochs=2, learning_rate=30.0))
    assert history.best_epoch == min(range(3), key=lambda epoch: history.validation_losses[epoch])
    logits = tail_logits(base, head, data.states, 3, 4)
    loss = torch.nn.functional.cross_entropy(logits.double(), LABELS)
    assert float(loss) == pytest.approx(history.validation_losses[history.best_epoch], abs=1e-6)
    if history.best_epoch == 0:
        assert torch.equal(logits, start)


def test_same_seed_gives_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path, "bert"))
    results = []
    for seed, disturbance in ((3, 1), (3, 2), (4, 3)):
        torch.manual_seed(disturbance)
        base = load(folder, 2, seed=0)
        head = heads.build(base, "cls", 2, seed=0)
        passed = trunk_pass(base, encode(base, TEXTS, 64).ids, depths=[4], pooling="mean", cut=2)
        assert passed.tokens is not None
        data = Tokens(passed.tokens, LABELS)
        train_tail(base, head, data, data, 2, 4, Recipe(epochs=2, learning_rate=1e-3, seed=seed))
        results.append(base.model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert any(not torch.equal(results[0][name], results[2][name]) for name in results[0])
