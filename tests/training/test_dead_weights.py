"""Final norms with dead weights, as published encoders have them: training on is as ordinary as without."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel

from rehead import Classifier
from rehead.models.heads import candidates
from rehead.runtime import hardware
from rehead.training import loop, strategies
from tests.tiny_models import CONFIGS, DECODERS, N_BLOCKS, save_tiny_model
from tests.tiny_texts import messages

# Transformers puts a tokenizer of its own in the place of the tiny Qwen 2's, to which these texts are all alike.
FAMILIES = [family for family in CONFIGS if family != "qwen2"]
CASES = [
    (family, pool) for family in FAMILIES for pool in (*candidates("last" if family in DECODERS else "cls"), "layers")
]


def save_with_dead_weights(folder: Path, family: str) -> Path:
    """Write a tiny model in whose norms three entries of the weight are 5e-33, as mpnet's published ones are."""
    save_tiny_model(folder, family)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for module in model.modules():
            weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
            if "Norm" not in type(module).__name__ or weight is None:
                continue
            # Gemma's are stored less one.
            weight[:3] = -1.0 if family.startswith("gemma") else 5e-33
            if bias is not None:
                bias[:2] = 0.0
    model.save_pretrained(folder)
    return folder


class Noted:
    """What a training did at each step: the loss of all training examples before the first and after each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.losses: list[float] = []
        self.lengths: list[float] = []
        self.histories: list[loop.History] = []
        step, clip, train = loop._Training._take_step, loop._Training._clip, loop.train

        def loss_of(run: loop._Training) -> float:
            rows = torch.arange(len(run.lengths))
            run.trainee.switch(training=False)
            with torch.no_grad():
                return float(run.trainee.loss(rows)) / run.trainee.weight_of(rows)

        def noted_step(run: loop._Training, rows: torch.Tensor) -> bool:
            if not self.losses:
                self.losses.append(loss_of(run))
            went_on = step(run, rows)
            self.losses.append(loss_of(run))
            return went_on

        def noted_clip(run: loop._Training) -> float:
            assert all(bool(weight.grad.isfinite().all()) for weight in run.weights if weight.grad is not None)
            self.lengths.append(clip(run))
            return self.lengths[-1]

        def noted_train(*arguments: object) -> loop.History:
            self.histories.append(train(*arguments))  # type: ignore[arg-type]
            return self.histories[-1]

        monkeypatch.setattr(loop._Training, "_take_step", noted_step)
        monkeypatch.setattr(loop._Training, "_clip", noted_clip)
        monkeypatch.setattr(loop, "train", noted_train)
        assert strategies.loop is loop


def noisy(n: int = 40) -> tuple[list[str], list[str]]:
    """Messages of which one in five has the other label, so that no probe is without a loss."""
    texts, labels = messages(n)
    return texts, [("ham", "spam")[label == "ham"] if i % 5 == 0 else label for i, label in enumerate(labels)]


def check(folder: Path, output: Path, pool: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        noted = Noted(patch)
        # With dropout, or rounded to bfloat16, a small step lowers another loss than the one that is looked at here.
        patch.setattr(hardware, "native_dtype", lambda: torch.float32)
        recipe = strategies.recipe_for
        patch.setattr(strategies, "recipe_for", lambda *told, **more: replace(recipe(*told, **more), dropout=False))
        layers: dict[str, Any] = {"epochs": 4, "batch_size": 64, "learning_rate": 1e-5}
        model = Classifier(str(folder), tune="last-1", depth=depth, pool=pool, ngrams=False, **layers)
        texts, labels = noisy()
        model.fit(texts, labels)
    (history,) = noted.histories
    assert history.stopped in (None, "no lower validation loss in 2 epochs")
    assert history.lost_rows == []
    assert np.isfinite([*noted.losses, *noted.lengths, *history.validation_losses]).all()
    assert noted.losses[1] < noted.losses[0]
    assert noted.losses[-1] < noted.losses[0]
    assert 0 < max(noted.lengths) < 100
    head = model.artifact_.head
    seen = model.artifact_.predictor().scores(texts, keep_features=True).features
    assert seen is not None
    with torch.no_grad():
        typical = np.quantile(head.projection(torch.from_numpy(seen)).numpy().std(0), 0.9)
    assert np.abs(head.linear.weight.detach().numpy()).max() * typical < 100
    probabilities = model.predict_proba(texts)
    assert np.isfinite(probabilities).all()
    model.save(output)
    np.testing.assert_allclose(Classifier.load(output).predict_proba(texts), probabilities, atol=1e-6)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("dead")
    return {family: save_with_dead_weights(parent / family, family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_with_dead_weights_trains_like_any_other(
    family: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(folders[family], tmp_path / "model", "mean", 2, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "pool"), CASES)
def test_a_base_with_dead_weights_trains_in_every_pooling_and_depth(
    family: str, pool: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for depth in range(1, N_BLOCKS + 1):
        check(folders[family], tmp_path / str(depth), pool, depth, monkeypatch)


def step_of_both(folder: Path) -> None:
    """Print how far values and gradients of a training step are from those of the plain Transformers model.

    Runs in a process of its own. Prints the type of the products, and the relative errors of the logits and, at worst,
    of a gradient among those that are no rounding alone.
    """
    from rehead.models.heads import build
    from rehead.models.loading import load
    from rehead.models.tokenization import encode
    from rehead.training.inputs import Computed
    from rehead.training.tail import Classification, Labelled, Tail

    texts, labels = messages(24)
    targets = torch.tensor([label == "spam" for label in labels]).long()
    base = load(str(folder), 2, seed=0)
    head = build(base, "mean", 2, seed=0)
    ids = encode(base, texts, 64).ids
    frozen = Tail.of_blocks(base, head, 2, N_BLOCKS)
    data = Labelled(Computed(base, ids, 2), targets)
    trainee = Classification(frozen, data, data, loop.Recipe())
    weights = trainee.weights()
    ours = torch.autograd.grad(trainee.loss(torch.argsort(ids.lengths, stable=True)), weights)
    values = frozen.logits(data.inputs)

    padded = nn.utils.rnn.pad_sequence(ids.values.split(ids.lengths.tolist()), True, 0)
    mask = (torch.arange(padded.shape[1]) < ids.lengths[:, None]).long()
    states = base.body(input_ids=padded, attention_mask=mask).last_hidden_state
    means = (states * mask[..., None]).sum(1) / ids.lengths[:, None]
    logits = head(means)
    theirs = torch.autograd.grad(nn.functional.cross_entropy(logits, targets, reduction="sum"), weights)
    largest = max(float(gradient.norm()) for gradient in theirs)
    errors = [
        float((one - other).norm() / other.norm())
        for one, other in zip(ours, theirs, strict=True)
        if float(other.norm()) > 1e-3 * largest
    ]
    assert all(bool(gradient.isfinite().all()) for gradient in ours)
    print(hardware.native_dtype(), float((values - logits).norm() / logits.norm()), max(errors))


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE", "AVX512_CORE_BF16", None])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_training_step_is_that_of_the_plain_model_whatever_the_kernels(
    family: str, isa: str | None, folders: dict[str, Path], tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    environment["REHEAD_CACHE"] = str(tmp_path)  # which remembers the machine's type
    if isa:
        environment["ONEDNN_MAX_CPU_ISA"] = isa
    code = f"from tests.training.test_dead_weights import *; step_of_both(Path({str(folders[family])!r}))"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=Path.cwd()
    )
    assert finished.returncode == 0, finished.stderr
    dtype, of_values, of_gradients = finished.stdout.split()
    native = dtype == "torch.bfloat16"
    assert float(of_values) < (0.02 if native else 1e-5)
    assert float(of_gradients) < (0.05 if native else 1e-4)
