"""Predicting: the scores of the plain Transformers model, or of bfloat16 where that makes no difference."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rehead.artifact import predictor
from rehead.artifact.predictor import Predictor
from rehead.models.backbone import Backbone
from rehead.models.heads import Head, build
from rehead.models.loading import load
from rehead.models.model_inputs import encode_inputs
from rehead.runtime import hardware
from tests.tiny_models import WORDS, save_tiny_model

N = 40
TEXTS = [" ".join(WORDS[(i + j * j) % len(WORDS)] for j in range(1 + i % 12)) for i in range(N)]


@pytest.fixture
def model(tmp_path: Path) -> tuple[Backbone, Head]:
    base = load(str(save_tiny_model(tmp_path, "llama")), 3, seed=0)
    return base, build(base, "last", 3, seed=0)


@pytest.fixture
def native_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with fast bfloat16, where a handful of texts would be many already."""
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16)
    monkeypatch.setattr(predictor, "_WORTHWHILE", 20)


def of_transformers(base: Backbone, texts: list[str]) -> np.ndarray:
    rows = []
    with torch.inference_mode():
        for text in texts:
            rows.append(base.model(**base.tokenizer(text, return_tensors="pt")).logits[0].double().softmax(0))
    return torch.stack(rows).numpy()


def test_scores_are_those_of_the_plain_model(model: tuple[Backbone, Head]) -> None:
    base, head = model
    # The head of a `last` pooling is the Transformers model's own layer.
    assert head.linear.weight is base.model.score.weight
    assert np.allclose(Predictor(base, head, 64).scores(TEXTS).probabilities, of_transformers(base, TEXTS), atol=1e-6)


@pytest.mark.usefixtures("native_bf16")
def test_few_texts_are_scored_in_float32(model: tuple[Backbone, Head]) -> None:
    base, head = model
    scores = Predictor(base, head, 64).scores(TEXTS[:19])
    assert np.allclose(scores.probabilities, of_transformers(base, TEXTS[:19]), atol=1e-6)


@pytest.mark.usefixtures("native_bf16")
def test_many_texts_keep_their_labels_and_within_a_hundredth_their_probabilities(model: tuple[Backbone, Head]) -> None:
    base, head = model
    fast, plain = Predictor(base, head, 64).scores(TEXTS).probabilities, of_transformers(base, TEXTS)
    assert (fast.argmax(1) == plain.argmax(1)).all()
    assert np.abs(fast - plain).max() <= 1e-2


@pytest.mark.parametrize("serving", [True, False])
def test_many_texts_are_scored_in_float32_where_only_frozen_layers_are_faster_in_int8(
    serving: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)
    monkeypatch.setattr(hardware, "frozen_dtype", lambda: torch.int8)
    monkeypatch.setattr(predictor, "_WORTHWHILE", 20)
    base = load(str(save_tiny_model(tmp_path, "bert")), 3, seed=0)
    head = build(base, "cls", 3, seed=0)
    scores = Predictor(base, head, 64, serving=serving).scores(TEXTS)
    assert np.allclose(scores.probabilities, of_transformers(base, TEXTS), atol=1e-5)


@pytest.mark.usefixtures("native_bf16")
def test_where_rounding_matters_is_decided_by_its_measured_size(
    model: tuple[Backbone, Head], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = model
    plain = of_transformers(base, TEXTS)
    monkeypatch.setattr(predictor, "_DEVIATIONS", 0.0)  # as if no text were in danger
    unchecked = Predictor(base, head, 64).scores(TEXTS)
    assert np.abs(unchecked.probabilities - plain).max() > 1e-5
    monkeypatch.setattr(predictor, "_DEVIATIONS", 1e6)  # as if all were
    checked = Predictor(base, head, 64).scores(TEXTS)
    assert np.allclose(checked.probabilities, plain, atol=1e-6)
    assert checked.flops > 1.9 * unchecked.flops * N / (N + predictor._SAMPLE)


@pytest.mark.usefixtures("native_bf16")
def test_portions_make_no_difference(model: tuple[Backbone, Head], monkeypatch: pytest.MonkeyPatch) -> None:
    base, head = model
    whole = Predictor(base, head, 5).scores(TEXTS)
    monkeypatch.setattr(predictor, "_CHUNK", 25)  # the second portion is too small for bfloat16
    parts = Predictor(base, head, 5).scores(TEXTS)
    assert np.allclose(parts.probabilities, whole.probabilities, atol=1e-2)
    assert (parts.tokens_cut == whole.tokens_cut).all()
    assert parts.tokens_cut.sum() == sum(max(0, len(text.split()) - 5) for text in TEXTS)


def test_repeated_texts_pass_once(model: tuple[Backbone, Head]) -> None:
    base, head = model
    once, often = Predictor(base, head, 64).scores(TEXTS[:1]), Predictor(base, head, 64).scores(TEXTS[:1] * 9)
    assert often.flops == once.flops
    assert np.allclose(often.probabilities, once.probabilities, atol=1e-6)


@pytest.mark.usefixtures("native_bf16")
def test_one_that_is_asked_again_and_again_is_exact_until_it_knows_the_rounding(model: tuple[Backbone, Head]) -> None:
    base, head = model
    steady = Predictor(base, head, 64, steady=True)
    plain = of_transformers(base, TEXTS)
    n = predictor._SAMPLE
    one_by_one = np.concatenate([steady.scores([text]).probabilities for text in TEXTS])
    assert np.allclose(one_by_one[: n - 1], plain[: n - 1], atol=1e-6)
    assert (one_by_one.argmax(1) == plain.argmax(1)).all()
    assert np.abs(one_by_one - plain).max() <= 1e-2


@pytest.mark.parametrize("multilabel", [False, True])
def test_drift_is_told_from_texts_that_differ(multilabel: bool, model: tuple[Backbone, Head]) -> None:
    base, _ = model
    generator = np.random.default_rng(0)
    drift = predictor._Drift(2, multilabel, 2000)
    bounds = []
    for n in (predictor._SAMPLE - 1, 1, 84, 1900):
        numbers = [len(bounds) * 2000 + i for i in range(n)]
        texts = encode_inputs(base, [" ".join(WORDS[int(digit)] for digit in f"{number:05}") for number in numbers], 64)
        assert len(drift.unseen(texts)) == n
        exact = generator.normal(size=(n, 2)).astype(np.float32)
        moved = np.stack([generator.normal(scale=0.02, size=n), np.zeros(n)], axis=1)
        drift.see(texts, (exact + moved).astype(np.float32), exact)
        assert len(drift.unseen(texts)) == 0
        bounds.append(drift.bound[0])
    assert drift.missing == 0
    assert bounds[0] == np.inf
    # The more were looked at the nearer it is to three standard deviations, from above.
    assert bounds[1] > bounds[2] > bounds[3] > 0.06
    assert bounds[3] == pytest.approx(0.06, rel=0.06)
    # Of two classes that exclude each other the one moves as far as the other; else each by itself.
    assert drift.bound[1] == pytest.approx(0 if multilabel else bounds[3], rel=1e-3)


@pytest.mark.usefixtures("native_bf16")
def test_a_text_that_comes_again_and_again_says_nothing_of_others(model: tuple[Backbone, Head]) -> None:
    base, head = model
    server = Predictor(base, head, 64, serving=True)
    plain = of_transformers(base, TEXTS[:1])
    for _ in range(10):
        again = server.scores([TEXTS[0]] * 10).probabilities
        assert np.allclose(again, np.repeat(plain, 10, axis=0), atol=1e-6)
    assert server._drift.missing == predictor._SAMPLE_OF_A_SERVER - 1
    assert (server._drift.bound == np.inf).all()


@pytest.mark.parametrize("in_bf16", [False, True])
def test_features_are_what_the_head_sees(
    in_bf16: bool, model: tuple[Backbone, Head], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, head = model
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.bfloat16 if in_bf16 else torch.float32)
    monkeypatch.setattr(predictor, "_WORTHWHILE", 20)
    monkeypatch.setattr(predictor, "_CHUNK", 25)
    scores = Predictor(base, head, 64).scores(TEXTS, keep_features=True)
    assert scores.features is not None
    assert scores.features.shape == (N, base.hidden_size)
    with torch.inference_mode():
        logits = head(torch.from_numpy(scores.features)).double()
    assert np.allclose(logits.softmax(1).numpy(), scores.probabilities, atol=1e-6)
    assert Predictor(base, head, 64).scores(TEXTS).features is None
