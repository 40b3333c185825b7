"""Training the rows of an embedding that texts reach is training all of them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rehead.models import heads
from rehead.models.backbone import Backbone
from rehead.models.loading import load
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training.inputs import Computed
from rehead.training.loop import Recipe
from rehead.training.tail import Labelled, Tail
from rehead.training.vocabulary import reached_alone
from tests.tiny_models import DECODERS, ENCODERS, save_tiny_model
from tests.training.tails import train

TEXTS = [f"{text} {word}" for word in ("a", "ok", "no") for text in ("free prize call", "meet you at noon")]
LABELS = torch.tensor([1, 0] * 3)
RATE, DECAY = 1e-2, 0.01


@pytest.fixture(params=[*DECODERS, *ENCODERS])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    return save_tiny_model(tmp_path, request.param)


def trained(base: Backbone, ids: Tensor | None) -> tuple[dict[str, Tensor], int, list[float]]:
    """The weights after two epochs, how many were trained, and the validation losses."""
    head = heads.build(base, "mean", 2, seed=0)
    tail = Tail.of_everything(base, head, 4)
    data = Labelled(Computed(base, encode(base, TEXTS, 64).ids, 0), LABELS)
    recipe = Recipe(epochs=2, batch_size=2, learning_rate=RATE, weight_decay=DECAY, patience=9)
    if ids is None:
        n, history = sum(weight.numel() for weight in tail.weights()), train(tail, data, data, recipe)
    else:
        with reached_alone(base, ids):
            n, history = sum(weight.numel() for weight in tail.weights()), train(tail, data, data, recipe)
    return dict(base.body.state_dict()), n, history.validation_losses


def test_rows_that_texts_reach_end_in_the_same_weights_and_the_others_stay(folder: Path) -> None:
    published = load(str(folder), 2, seed=0)
    before = published.body.get_input_embeddings().weight.detach().clone()
    ids = encode(published, TEXTS, 64).ids.values
    reached, n_reached, losses = trained(load(str(folder), 2, seed=0), ids)
    expected, n, expected_losses = trained(published, None)
    assert list(reached) == list(expected)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    embedding = next(name for name, weight in published.body.named_parameters() if weight.shape == before.shape)
    looked_up = type(published.body.get_input_embeddings()) is nn.Embedding
    rest = torch.ones(len(before), dtype=torch.bool)
    rest[ids] = False
    assert rest.sum() > 5
    assert n - n_reached == (int(rest.sum()) * before.shape[1] if looked_up else 0)
    for name, weight in expected.items():
        if name == embedding and looked_up:
            assert not torch.equal(weight[~rest], before[~rest])
            assert torch.equal(reached[name][rest], before[rest])  # AdamW would have shrunk them
            torch.testing.assert_close(weight[rest], before[rest], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(reached[name][~rest], weight[~rest], rtol=1e-3, atol=1e-4)
        else:
            torch.testing.assert_close(reached[name], weight, rtol=1e-3, atol=1e-4)


def test_what_a_block_broke_off_in_has_its_embedding_back(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    whole = base.body.get_input_embeddings()

    def broken_off() -> None:
        with reached_alone(base, torch.tensor([5, 7, 5])):
            assert base.body.get_input_embeddings().weight.shape == (2, 32)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert base.body.get_input_embeddings() is whole


def test_padding_token_has_no_gradient_under_its_new_number(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "bert")), 2, seed=0)
    whole = base.body.get_input_embeddings()
    assert whole.padding_idx == 0
    with reached_alone(base, torch.tensor([0, 9, 4])):
        rows = base.body.get_input_embeddings()
        ids = torch.tensor([9, 0, 4, 9])
        assert torch.equal(rows(ids), whole(ids))
        rows(ids).sum().backward()
        assert rows.weight.grad[:, 0].tolist() == [0, 1, 2]
    with reached_alone(base, torch.tensor([9, 4])):
        rows = base.body.get_input_embeddings()
        rows(torch.tensor([4, 9])).sum().backward()
        assert rows.weight.grad[:, 0].tolist() == [1, 1]
