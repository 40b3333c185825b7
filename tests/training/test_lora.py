"""Low-rank adapters: merged they compute what they computed beside the weights, and peft can read them."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from rehead.models import heads
from rehead.models.loading import load
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training import lora
from rehead.training.inputs import Computed
from rehead.training.loop import Recipe
from rehead.training.tail import Labelled, Tail
from tests.tiny_models import CONFIGS, save_tiny_model
from tests.training.tails import train
from tests.training.test_loop import LABELS, TEXTS


@pytest.mark.parametrize("family", CONFIGS)
def test_merged_weights_give_the_logits_of_the_adapters(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    folder = save_tiny_model(tmp_path / "model", family)
    base = load(str(folder), 2, seed=0)
    head = heads.build(base, "mean", 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    untrained = Tail.of_blocks(base, head, 0, 4).logits(Computed(base, ids, 0))
    pretrained = {name: weight.clone() for name, weight in base.body.state_dict().items()}

    copied = lora.copy_of(base, torch.float32)
    weights, config = lora.attach(copied, seed=0)
    tail = Tail.of_adapters(copied, head, 4, weights)
    inputs = Computed(tail.base, ids, 0)
    history = train(tail, Labelled(inputs, LABELS), Labelled(inputs, LABELS), Recipe(epochs=3, learning_rate=1e-2))
    assert history.best_epoch > 0
    beside = tail.logits(inputs)
    assert all(torch.equal(weight, pretrained[name]) for name, weight in base.body.state_dict().items())

    adapters = lora.merge(tail.base, base, config)
    merged = Tail.of_blocks(base, head, 0, 4).logits(Computed(base, ids, 0))
    torch.testing.assert_close(merged, beside, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(merged, untrained, atol=1e-3)

    adapters.save(tmp_path / "adapter")
    from peft import PeftModel

    theirs = PeftModel.from_pretrained(AutoModel.from_pretrained(folder), tmp_path / "adapter").merge_and_unload()
    ours = base.body.state_dict()
    for name, weight in theirs.state_dict().items():
        if "pooler" not in name:
            torch.testing.assert_close(ours[name], weight, rtol=1e-4, atol=1e-5)


def test_only_adapters_and_head_are_trained(tmp_path: Path) -> None:
    base = load(str(save_tiny_model(tmp_path, "llama")), 2, seed=0)
    head = heads.build(base, "last", 2, seed=0)
    copied = lora.copy_of(base, torch.float32)
    tail = Tail.of_adapters(copied, head, 4, lora.attach(copied, seed=0)[0])
    trained = sum(weight.numel() for weight in tail.weights())
    widths = [sum(layer.weight.shape) for layer in base.layers.modules() if isinstance(layer, torch.nn.Linear)]
    assert trained == lora.RANK * sum(widths) + head.linear.weight.numel()
    assert all(not weight.requires_grad for name, weight in tail.base.body.named_parameters() if "lora_" not in name)
