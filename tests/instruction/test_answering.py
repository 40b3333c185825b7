"""Losses of answers: packed and cut they are those of Transformers, one conversation at a time; gradients too."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from rehead.instruction import language_model
from rehead.instruction.answering import Answering, Answers, losses, mean_loss, trained_part
from rehead.instruction.tokens import ConversationTokens
from rehead.models.backbone import Backbone
from rehead.models.loading import load_language_model
from rehead.models.sequences import Ragged
from rehead.runtime import hardware
from rehead.runtime.errors import BaseModelError
from rehead.training.features import trunk_pass
from rehead.training.inputs import Computed, Kept
from rehead.training.loop import Recipe, train
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.tiny_models import DECODERS, save_tiny_model

IDS = [[4, 5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15, 16, 17, 18, 5], [19, 20]]
# Answers of one and of several tokens, at the end and between two requests.
LEARNED = [[0, 0, 0, 1, 1], [0, 0, 1], [0, 1, 1, 0, 0, 0, 1, 1], [0, 1]]


def answers(base: Backbone, cut: int = 0, kept: bool = False) -> Answers:
    masks = Ragged.from_lists(LEARNED)
    tokens = ConversationTokens(Ragged.from_lists(IDS), Ragged(masks.values.bool(), masks.offsets), torch.arange(4), 0)
    if not kept:
        return Answers(tokens, Computed(base, tokens.ids, cut))
    states = trunk_pass(base, tokens.ids, depths=[], pooling="mean", cut=cut).tokens
    assert states is not None
    return Answers(tokens, Kept(states))


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", DECODERS)
def test_losses_and_gradients_equal_those_of_transformers(family: str, tied: bool, tmp_path: Path) -> None:
    folder = save_tiny_language_model(tmp_path, family, tied=tied)
    base = load_language_model(str(folder))
    assert language_model.is_tied(base) is tied
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    expected = torch.zeros(())
    for ids, learned in zip(IDS, LEARNED, strict=True):
        labels = torch.tensor([[token if wanted else -100 for token, wanted in zip(ids, learned, strict=True)]])
        expected = expected + theirs(input_ids=torch.tensor([ids]), labels=labels).loss * sum(learned)
    expected.backward()
    base.model.requires_grad_(True)
    ours = losses(base, answers(base), torch.arange(4), 0)
    ours.backward()
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    wanted = {name: weight.grad for name, weight in theirs.named_parameters()}
    for name, weight in base.model.named_parameters():
        torch.testing.assert_close(weight.grad, wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("cut", [1, 3])
def test_cut_gives_the_same_losses(cut: int, kept: bool, tmp_path: Path) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "llama")))
    assert mean_loss(base, answers(base, cut, kept), cut) == pytest.approx(mean_loss(base, answers(base)), rel=1e-5)


def test_logits_in_portions_give_the_same_loss_and_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "gemma2")))
    results = []
    for values in (2**26, 60):
        monkeypatch.setattr(language_model, "_LOGITS", values)
        base.model.requires_grad_(True)
        loss = losses(base, answers(base), torch.arange(4), 0)
        loss.backward()
        results.append((loss.detach(), [weight.grad.clone() for weight in base.model.parameters()]))
        base.model.zero_grad()
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cut", [0, 2])
def test_training_learns_the_answers(cut: int, tmp_path: Path) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "llama")))
    frozen = {name: weight.clone() for name, weight in base.layers[:cut].named_parameters()}
    data = answers(base, cut, kept=cut > 0)
    answering = Answering(base, cut, trained_part(base, cut), data, data)
    history = train(answering, Recipe(epochs=20, batch_size=2, learning_rate=1e-2))
    assert history.validation_losses[history.best_epoch] < 0.5 * history.validation_losses[0]
    assert mean_loss(base, answers(base)) == pytest.approx(history.validation_losses[history.best_epoch], rel=1e-4)
    assert all(torch.equal(weight, frozen[name]) for name, weight in base.layers[:cut].named_parameters())


def test_encoder_does_not_write(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="does not write; use smollm2"):
        load_language_model(str(save_tiny_model(tmp_path, "bert")))
