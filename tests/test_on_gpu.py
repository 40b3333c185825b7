"""What other tests show on the CPU, on a CUDA device: exact logits and gradients, every way of tuning, saving."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rehead
from rehead import Classifier, Writer
from rehead.models import packing as packing_module
from rehead.models.loading import load
from rehead.models.packing import Attention, Packing, attend
from rehead.models.tokenization import encode
from rehead.runtime import hardware
from rehead.training.features import trunk_pass
from tests.instruction.test_instruct import TEMPLATE
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.models.test_equivalence import (
    LABELS,
    N_CLASSES,
    ORDERS,
    batch_of,
    cut_logits,
    family_head,
    trained_gradients,
)
from tests.tiny_models import CONFIGS, WORDS, save_tiny_model
from tests.tiny_texts import messages
from tests.tiny_vision_models import CONFIGS as VISION_CONFIGS
from tests.tiny_vision_models import SIDE, save_tiny_vision_model

pytestmark = pytest.mark.skipif(hardware.device().type != "cuda", reason="torch sees no CUDA device on this machine")

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
# Of all lengths from 1 to 24 words, so that every family's window of attention is shorter than some.
TEXTS = [" ".join(WORDS[(i + j * j) % len(WORDS)] for j in range(1 + i % 24)) for i in range(48)]
OnCpu = Callable[[], None]


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> OnCpu:
    """Makes rehead compute on the CPU, in float32, from the call on."""

    def switch() -> None:
        monkeypatch.setattr(hardware, "device", lambda: CPU)
        monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)

    return switch


@pytest.fixture(params=["bfloat16", "float32"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """As on cards with and without bfloat16 of their own."""
    dtype: torch.dtype = getattr(torch, request.param)
    monkeypatch.setattr(hardware, "native_dtype", lambda: dtype)
    return dtype


def close(actual: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual.cpu(), expected.cpu(), rtol=1e-4, atol=atol)


# Exactness.


@pytest.mark.parametrize("short", [True, False], ids=["plain attention", "fused attention"])
@pytest.mark.parametrize("cut", [0, 2, 4])
@pytest.mark.parametrize("family", CONFIGS)
def test_logits_and_gradients_are_those_of_transformers(
    family: str, cut: int, short: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_SHORT", 96 if short else 0)
    base = load(str(save_tiny_model(tmp_path, family)), N_CLASSES, seed=0)
    head, (ids, mask) = family_head(base), batch_of(base, ORDERS["padded"])
    on_the_cpu = base.model(input_ids=ids, attention_mask=mask).logits
    expected_there = trained_gradients(base, head, nn.functional.cross_entropy(on_the_cpu, LABELS), cut)
    base.model.to(CUDA)
    ids, mask = ids.to(CUDA), mask.to(CUDA)
    reference = base.model(input_ids=ids, attention_mask=mask).logits
    labels = LABELS.to(CUDA)
    expected = trained_gradients(base, head, nn.functional.cross_entropy(reference, labels), cut)
    for only in (None, head.pooling):
        ours = cut_logits(base, head, ids, mask, cut, only)
        assert ours.device.type == "cuda"
        close(ours, reference)
        close(ours, on_the_cpu)
        gradients = trained_gradients(base, head, nn.functional.cross_entropy(ours, labels), cut)
        for ours_of_weight, theirs, theirs_there in zip(gradients, expected, expected_there, strict=True):
            close(ours_of_weight, theirs)
            close(ours_of_weight, theirs_there)


@pytest.mark.parametrize("family", CONFIGS)
def test_features_are_those_of_the_cpu(family: str, tmp_path: Path, on_cpu: OnCpu) -> None:
    base = load(str(save_tiny_model(tmp_path, family)), 2, seed=0)
    ids = encode(base, TEXTS, 64).ids
    arguments: dict[str, Any] = {"depths": [1, 4], "pooling": "both", "cut": 2}
    there = trunk_pass(base, ids, **arguments)
    in_bf16 = trunk_pass(base.with_products_in(torch.bfloat16), ids, **arguments)
    on_cpu()
    here = trunk_pass(base, ids, **arguments)
    assert there.tokens is not None
    assert here.tokens is not None
    everything = torch.arange(len(TEXTS))
    close(there.seen, here.seen)
    close(there.tokens.packed(everything), here.tokens.packed(everything))
    assert not torch.equal(in_bf16.seen, here.seen)
    assert ((in_bf16.seen - here.seen).norm(dim=1) / here.seen.norm(dim=1)).max() < 0.05


@pytest.mark.parametrize("family", VISION_CONFIGS)
def test_features_of_images_are_those_of_the_cpu(family: str, tmp_path: Path, on_cpu: OnCpu) -> None:
    from rehead.data.images import ImageInput, as_image_input
    from rehead.models.model_inputs import encode_inputs

    base = load(str(save_tiny_vision_model(tmp_path, family)), 2, seed=0)
    generator = np.random.default_rng(0)
    images = [as_image_input(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), i) for i in range(12)]
    ids = encode_inputs(base, [image for image in images if isinstance(image, ImageInput)], 0).ids
    depth = len(base.layers)
    arguments: dict[str, Any] = {"depths": [depth // 2, depth], "pooling": "mean"}
    plain, fast = base.with_products_in(torch.float32), base.with_products_in(torch.bfloat16)
    there, in_bf16 = (trunk_pass(each, ids, **arguments) for each in (plain, fast))
    on_cpu()
    here = trunk_pass(plain, ids, **arguments)
    close(there.seen, here.seen)
    assert ((in_bf16.seen - here.seen).norm(dim=1) / here.seen.norm(dim=1)).max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [None, 40, 4096])
def test_attention_never_holds_the_scores_of_all_heads(window: int | None, dtype: torch.dtype) -> None:
    length, heads, key_heads = 4096, 9, 3
    packing = Packing(torch.tensor([length, length - 1], device=CUDA))
    queries, keys, values = (
        torch.randn(2 * length - 1, n, 64, dtype=dtype, device=CUDA) for n in (heads, key_heads, key_heads)
    )
    attend(queries, keys, values, packing, Attention(0.125, causal=True, window=window))  # makes the mask, once
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    attend(queries, keys, values, packing, Attention(0.125, causal=True, window=window))
    assert torch.cuda.max_memory_allocated() - before < 2 * heads * length**2 * dtype.itemsize / 3


# From end to end.


@pytest.mark.parametrize("tune", ["head", "last-1", "last-2", "lora", "full", "auto"])
@pytest.mark.parametrize("family", ["llama", "bert", "gpt2"])
def test_way_of_tuning_learns_is_saved_and_gives_the_same_scores_on_the_cpu(
    family: str, tune: str, native: torch.dtype, tmp_path: Path, on_cpu: OnCpu
) -> None:
    texts, labels = messages(120)
    unseen, unseen_labels = messages(300, start=120)
    base = str(save_tiny_model(tmp_path / "base", family))
    model = Classifier(base, tune=tune, epochs=2, learning_rate=1e-3, budget=600).fit(texts, labels)
    assert model.score(unseen, unseen_labels) > 0.9
    expected = model.predict_proba(unseen)
    model.save(tmp_path / "model")
    again = rehead.load(tmp_path / "model").predict_proba(unseen)
    np.testing.assert_allclose(again, expected, atol=1e-2 if native == torch.bfloat16 else 1e-5)
    few = rehead.load(tmp_path / "model").predict_proba(unseen[:20])
    on_cpu()
    plain = rehead.load(tmp_path / "model").predict_proba(unseen)
    np.testing.assert_allclose(few, plain[:20], atol=1e-4)
    np.testing.assert_allclose(expected, plain, atol=1e-2)  # as the predictor promises where it computes in bfloat16
    assert (expected.argmax(1) == plain.argmax(1)).all()


@pytest.mark.parametrize("short", [True, False], ids=["plain attention", "fused attention"])
@pytest.mark.parametrize("tune", ["head", "last-1", "lora", "full"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_same_seed_gives_the_same_classifier(
    family: str, tune: str, short: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_SHORT", 96 if short else 0)
    texts, labels = messages(120)
    base = str(save_tiny_model(tmp_path, family))
    settings: dict[str, Any] = {"tune": tune, "pool": "mean", "depth": 4, "epochs": 2, "learning_rate": 1e-3}
    first, second = (Classifier(base, **settings).fit(texts, labels).predict_proba(texts) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("family", ["resnet", "vit"])
@pytest.mark.parametrize("tune", ["head", "last-1", "full"])
def test_images_are_learned_saved_and_score_the_same_on_the_cpu(
    tune: str, family: str, tmp_path: Path, on_cpu: OnCpu
) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 100, (60, SIDE, SIDE, 3), dtype=np.uint8)
    images[::2, :, : SIDE // 2] += 120
    labels = ["left", "nowhere"] * 30
    base = str(save_tiny_vision_model(tmp_path / "base", family))
    model = Classifier(base, tune=tune, epochs=1, learning_rate=1e-3).fit(images, labels)
    assert model.score(images, labels) > 0.9
    expected = model.predict_proba(images)
    model.save(tmp_path / "model")
    on_cpu()
    np.testing.assert_allclose(rehead.load(tmp_path / "model").predict_proba(images), expected, atol=1e-4)


@pytest.mark.parametrize("tune", ["last-1", "lora", "full"])
def test_answers_are_learned_saved_and_written_the_same_on_the_cpu(tune: str, tmp_path: Path, on_cpu: OnCpu) -> None:
    words = ["free", "prize", "call", "now", "meet", "noon", "lunch", "win", "cash", "home", "later", "ok"]
    rows = [{"prompt": f"the {a} {b}", "completion": b} for a in words for b in words]
    data = tmp_path / "echo.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    base = str(save_tiny_language_model(tmp_path / "base", "llama", template=TEMPLATE))
    done = rehead.instruct(data, base, tune=tune, epochs=15, learning_rate=1e-2, output=tmp_path / "out")
    assert done.test.loss < 0.5 * done.before.loss
    requests = [f"the {word} lunch" for word in words]
    written = [done.writer.generate(request, max_tokens=4) for request in requests]
    on_cpu()
    writer = Writer.load(tmp_path / "out")
    assert [writer.generate(request, max_tokens=4) for request in requests] == written
