"""Several processes train what one would: the same gradients of a batch, and the same scores in the end."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, multiprocessing, nn

from rehead.models import heads
from rehead.models.loading import load
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.runtime.errors import Interrupted
from rehead.training import loop, lora, parallel
from rehead.training.callbacks import Callback, Epoch
from rehead.training.checkpoint import Checkpoint
from rehead.training.inputs import Computed
from rehead.training.loop import Recipe
from rehead.training.tail import Classification, Labelled, Tail
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages
from tests.training.tails import train

# The fourth batch of an epoch has one text, so that one of two processes has none.
N, BATCH = 16, 5


def setting(folder: Path, tune: str) -> tuple[Tail, Labelled, Recipe]:
    hardware.native_dtype = lambda: torch.float32
    loop.PORTION = 12  # a batch goes through in several portions
    base = load(str(folder), 2, seed=0)
    head = heads.build(base, "mean", 2, seed=0)
    if tune == "lora":
        base = lora.copy_of(base, torch.float32)
        tail = Tail.of_adapters(base, head, 4, lora.attach(base, seed=0)[0])
    elif tune == "full":
        tail = Tail.of_everything(base, head, 4)
    else:
        tail = Tail.of_blocks(base, head, 2, 4)
    for weight in tail.trained.parameters():  # those of adapters are zero, and so would their gradients be
        nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(weight.numel()))
    texts, labels = messages(N)
    texts = [f"{text} {'now ' * (i % 4)}" for i, text in enumerate(texts)]
    inputs = Computed(base, encode(base, texts, 64).ids, tail.cut)
    weights = torch.linspace(0.2, 3, N).double()[:, None].numpy()
    examples = Labelled(inputs, torch.tensor([label == "spam" for label in labels]).long(), weights)
    return tail, examples, Recipe(epochs=2, batch_size=BATCH, learning_rate=1e-3)


def trained(folder: Path, tune: str) -> dict[str, Tensor]:
    """What one process, or several of a group, make of the same examples: gradients of a batch, losses, scores."""
    tail, examples, recipe = setting(folder, tune)
    run = loop._Training(Classification(tail, examples, examples, recipe), recipe, None, None, None, "")
    result = {}
    for batch in (torch.arange(7), torch.tensor([3])):
        rows = batch[torch.argsort(run.lengths[batch], stable=True)]
        share = run.backward.share(rows)
        portions = [share[part] for part in loop.batches(run.lengths[share], loop.PORTION)]
        loss = run.backward(portions, run.trainee.weight_of(rows), rows)
        result |= {f"loss of {len(batch)}": torch.tensor([loss])}
        for i, weight in enumerate(run.weights):
            if weight.grad is not None:
                result[f"gradient {i} of {len(batch)}"] = weight.grad.clone()
        run.optimizer.zero_grad(set_to_none=True)
    history = train(tail, examples, examples, recipe)
    result["losses"] = torch.tensor(history.validation_losses)
    assert history.best_epoch > 0  # something was learned that can be compared
    # Not the weights: a key's bias changes no score, so its gradient is rounding, which Adam makes a whole step of.
    return result | {"logits": tail.logits(examples.inputs)}


def resumed(folder: Path, kept: Path) -> Tensor:
    """The scores of a training that stopped behind its first epoch, and went on from what the first process kept."""

    class Stop(Callback):
        def on_epoch(self, epoch: Epoch) -> None:
            if epoch.epoch == 1:
                raise Interrupted

    for resume in (False, True):
        tail, examples, recipe = setting(folder, "last-2")
        checkpoint = Checkpoint(kept, "last-2", "the same", resume) if parallel.rank() == 0 else None
        try:
            train(tail, examples, examples, recipe, checkpoint, None, None if resume else Stop())
        except Interrupted:
            assert not resume
    return tail.logits(examples.inputs)


def one_of_two(rank: int, port: int, folder: Path, tunes: list[str]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    for tune in tunes:
        assert parallel.of_first(lambda: rank) == 0
        result = trained(folder / "base", tune)
        if tune == "last-2":
            torch.testing.assert_close(resumed(folder / "base", folder / "kept"), result["logits"], rtol=0, atol=0)
        save_file(result, folder / f"{tune}-{rank}.safetensors")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_the_scores_of_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(hardware, "native_dtype", hardware.native_dtype)
    monkeypatch.setattr(loop, "PORTION", loop.PORTION)
    save_tiny_model(tmp_path / "base", "bert")  # its pooling layer is one that nothing reads
    tunes = ["last-2", "lora", "full"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    multiprocessing.spawn(one_of_two, (port, tmp_path, tunes), nprocs=2)
    for tune in tunes:
        alone = trained(tmp_path / "base", tune)
        assert any(name.startswith("gradient") and value.abs().max() > 1e-3 for name, value in alone.items())
        for rank in range(2):
            together = load_file(tmp_path / f"{tune}-{rank}.safetensors")
            assert together.keys() == alone.keys(), tune
            for name, value in alone.items():
                torch.testing.assert_close(
                    together[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
                )
