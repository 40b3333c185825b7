"""A saved classifier with its family's own head is trained further by Transformers' Trainer, from where it stood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
)

import rehead
from rehead import Classifier
from rehead.data import samples
from rehead.data.columns import infer_columns
from rehead.data.containers import inputs_of
from rehead.export.transformers_folder import pixels_of
from rehead.models.vision_backbone import VisionBackbone
from tests.saved_folders import seal
from tests.tiny_images import save_folders
from tests.tiny_texts import messages
from tests.tiny_vision_models import save_tiny_vision_model

TEXTS, LABELS = messages(40)


def log_loss(model: Classifier, inputs: Any, labels: list[int]) -> float:
    return float(-np.log(model.predict_proba(inputs)[np.arange(len(labels)), labels]).mean())


def losses_of_training(
    model: Any, rows: list[dict[str, Any]], folder: Path, learning_rate: float = 1e-3, **further: Any
) -> list[float]:
    """Before the first step and after each of the epochs, on what it is trained on."""
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=3,
        per_device_train_batch_size=8,
        learning_rate=learning_rate,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, eval_dataset=rows, **further)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    return [before, *(entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry)]


def assert_falls_from(losses: list[float], start: float) -> None:
    assert losses[0] == pytest.approx(start, rel=1e-3, abs=1e-4)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


# The head of a tiny model with random weights is steep, so that dropout would throw it far off.
WITHOUT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.mark.parametrize(("family", "pool", "config"), [("bert", "cls", WITHOUT_DROPOUT), ("llama", "last", {})])
def test_texts(bases: Callable[[str], str], tmp_path: Path, family: str, pool: str, config: dict[str, float]) -> None:
    model = Classifier(bases(family), ngrams=False, tune="head", depth=2, pool=pool).fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    assert model.artifact_.transformers_class == "AutoModelForSequenceClassification"
    # Every fifth is another than before, so that there is something to learn.
    labels = [int((label == "spam") != (i % 5 == 0)) for i, label in enumerate(LABELS)]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    rows = [{**tokenizer(text), "labels": label} for text, label in zip(TEXTS, labels, strict=True)]
    further = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", **config)
    losses = losses_of_training(further, rows, tmp_path / "run", processing_class=tokenizer)
    assert_falls_from(losses, log_loss(model, TEXTS, labels))


@pytest.mark.slow
def test_a_real_encoder_at_the_usual_rate_and_with_its_dropout(tmp_path: Path) -> None:
    table = samples.read("sms")
    text, label = (table.column(name) for name in infer_columns(table, None, None))
    rows = list(dict.fromkeys((str(one), str(other)) for one, other in zip(text, label, strict=True)))[:400]
    texts, labels = (list(column) for column in zip(*rows, strict=True))
    model = Classifier("minilm", ngrams=False, tune="head", pool="cls", max_length=64).fit(texts, labels)
    model.save(tmp_path / "model")
    assert len(model.artifact_.backbone.layers) == 6  # below them the first token hardly varies
    ids = [int(label == model.classes_[1]) for label in labels]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    learned = [
        {**tokenizer(text, truncation=True), "labels": label}
        for text, label in zip(texts[:120], ids[:120], strict=True)
    ]
    further = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert further.config.hidden_dropout_prob == 0.1
    losses = losses_of_training(further, learned, tmp_path / "run", 2e-5, processing_class=tokenizer)
    assert losses[0] == pytest.approx(log_loss(model, texts[:120], ids[:120]), rel=0.02)  # ours may be in bfloat16
    assert max(losses[1:]) < losses[0]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return sorted(save_folders(tmp_path / "stripes", 12).rglob("*.png"))


def image_classifier(photos: list[Path], tmp_path: Path, family: str, pool: str) -> Classifier:
    """One that is saved as the folder `model`."""
    base = str(save_tiny_vision_model(tmp_path / "base", family))
    model = Classifier(base, ngrams=False, tune="head", depth=2, pool=pool)
    model.fit(photos, [path.parent.name for path in photos]).save(tmp_path / "model")
    return model


@pytest.mark.parametrize(("family", "pool"), [("vit", "cls"), ("dinov2", "both"), ("resnet", "mean")])
def test_images(photos: list[Path], tmp_path: Path, family: str, pool: str) -> None:
    model = image_classifier(photos, tmp_path, family, pool)
    assert model.artifact_.transformers_class == "AutoModelForImageClassification"
    labels = [int((path.parent.name == "upright") != (i % 5 == 0)) for i, path in enumerate(photos)]
    backbone = model.artifact_.backbone
    assert isinstance(backbone, VisionBackbone)
    values = pixels_of(inputs_of(photos), backbone)["pixel_values"]
    rows = [{"pixel_values": pixels, "labels": label} for pixels, label in zip(values, labels, strict=True)]
    further, found = AutoModelForImageClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    losses = losses_of_training(further, rows, tmp_path / "run")
    if family == "resnet":  # its batch norms are trained, too, with statistics of batches of eight
        assert losses[0] == pytest.approx(log_loss(model, photos, labels), rel=1e-3)
        assert np.isfinite(losses).all()
    else:
        assert_falls_from(losses, log_loss(model, photos, labels))


def test_a_head_of_images_as_it_was_saved_before_is_loaded(photos: list[Path], tmp_path: Path) -> None:
    model = image_classifier(photos, tmp_path, "vit", "cls")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = {
        name.replace("classifier.", "rehead_head.").removeprefix("vit."): tensor
        for name, tensor in load_file(weights).items()
    }
    assert "rehead_head.weight" in tensors
    save_file(tensors, weights, metadata={"format": "pt"})
    seal(tmp_path / "model")
    expected = model.predict_proba(photos)
    np.testing.assert_allclose(rehead.load(str(tmp_path / "model")).predict_proba(photos), expected, atol=1e-6)


@pytest.mark.parametrize(("pool", "long"), [("mean", "truncate"), ("cls", "head-tail")])
def test_what_transformers_would_answer_otherwise_is_no_model_of_it(
    bases: Callable[[str], str], pool: str, long: str
) -> None:
    model = Classifier(bases("bert"), ngrams=False, tune="head", depth=1, pool=pool, long=long).fit(TEXTS, LABELS)
    assert model.artifact_.transformers_class is None
