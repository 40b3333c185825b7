"""Predicting: the scores of the plain Transformers model, or of bfloat16 where that makes no difference."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rehead import hardware, predictor
from rehead.bases.cut import Base
from rehead.bases.loading import load
from rehead.heads import Head, build
from rehead.predictor import predict
from tests.tiny_models import WORDS, save_tiny_model

N = 40
TEXTS = [" ".join(WORDS[(i + j * j) % len(WORDS)] for j in range(1 + i % 12)) for i in range(N)]


@pytest.fixture
def model(tmp_path: Path) -> tuple[Base, Head]:
    base = load(str(save_tiny_model(tmp_path, "llama")), 3, seed=0)
    return base, build(base, "last", 3, seed=0)


@pytest.fixture
def native_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with fast bfloat16, where a handful of texts would be many already."""
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(predictor, "_WORTHWHILE", 20)


def of_transformers(base: Base, texts: list[str]) -> np.ndarray:
    rows = []
    with torch.inference_mode():
        for text in texts:
            rows.append(base.model(**base.tokenizer(text, return_tensors="pt")).logits[0].double().softmax(0))
    return torch.stack(rows).numpy()


def test_scores_are_those_of_the_plain_model(model: tuple[Base, Head]) -> None:
    base, head = model
    # The head of a `last` pooling is the Transformers model's own layer.
    assert head.linear.weight is base.model.score.weight
    assert np.allclose(predict(base, head, TEXTS, 64).probabilities, of_transformers(base, TEXTS), atol=1e-6)


@pytest.mark.usefixtures("native_bf16")
def test_few_texts_are_scored_in_float32(model: tuple[Base, Head]) -> None:
    base, head = model
    assert np.allclose(predict(base, head, TEXTS[:19], 64).probabilities, of_transformers(base, TEXTS[:19]), atol=1e-6)


@pytest.mark.usefixtures("native_bf16")
def test_many_texts_keep_their_labels_and_within_a_hundredth_their_probabilities(model: tuple[Base, Head]) -> None:
    base, head = model
    fast, plain = predict(base, head, TEXTS, 64).probabilities, of_transformers(base, TEXTS)
    assert (fast.argmax(1) == plain.argmax(1)).all()
    assert np.abs(fast - plain).max() <= 1e-2


@pytest.mark.usefixtures("native_bf16")
def test_where_rounding_matters_is_decided_by_its_measured_size(
    model: tuple[Base, Head], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = model
    plain = of_transformers(base, TEXTS)
    monkeypatch.setattr(predictor, "_SAFETY", 0.0)  # as if no text were in danger
    unchecked = predict(base, head, TEXTS, 64)
    assert np.abs(unchecked.probabilities - plain).max() > 1e-5
    monkeypatch.setattr(predictor, "_SAFETY", 1e6)  # as if all were
    checked = predict(base, head, TEXTS, 64)
    assert np.allclose(checked.probabilities, plain, atol=1e-6)
    assert checked.flops > 1.9 * unchecked.flops * N / (N + predictor._SAMPLE)


@pytest.mark.usefixtures("native_bf16")
def test_portions_make_no_difference(model: tuple[Base, Head], monkeypatch: pytest.MonkeyPatch) -> None:
    base, head = model
    whole = predict(base, head, TEXTS, 5)
    monkeypatch.setattr(predictor, "_CHUNK", 25)  # the second portion is too small for bfloat16
    parts = predict(base, head, TEXTS, 5)
    assert np.allclose(parts.probabilities, whole.probabilities, atol=1e-2)
    assert (parts.tokens_cut == whole.tokens_cut).all()
    assert parts.tokens_cut.sum() == sum(max(0, len(text.split()) - 5) for text in TEXTS)


def test_repeated_texts_pass_once(model: tuple[Base, Head]) -> None:
    base, head = model
    once, often = predict(base, head, TEXTS[:1], 64), predict(base, head, TEXTS[:1] * 9, 64)
    assert often.flops == once.flops
    assert np.allclose(often.probabilities, once.probabilities, atol=1e-6)
