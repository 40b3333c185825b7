"""The backbone is chosen by language, by a probe, by the time there is, and by what can be had."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModel

from rehead import Classifier
from rehead.data.examples import Examples
from rehead.data.images import as_image_input
from rehead.models import loading
from rehead.runtime import progress
from rehead.runtime.errors import FetchError
from rehead.training import backbone_choice
from rehead.training.backbone_choice import choose_backbone
from rehead.training.config import TrainingConfig
from tests.tiny_images import image
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages

GERMAN = [
    "Die Sitzung wurde leider auf nächsten Montag verschoben, weil der Raum belegt ist.",
    "Wir treffen uns morgen früh vor der Apotheke und gehen dann gemeinsam zum Bahnhof.",
]


def of_texts(texts: list[str], labels: list[str]) -> Examples:
    ids = np.array([label == labels[0] for label in labels], dtype=np.int64)
    return Examples(texts, ids, ("a", "b"), np.arange(1, len(texts) + 1), "messages")


ENGLISH = of_texts(*messages(120))
CONFIG = TrainingConfig("auto")


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("able"), "bert")


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to which all words are alike."""
    folder = save_tiny_model(tmp_path_factory.mktemp("blind"), "bert")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[:] = 0.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put folders in the place of what is fetched; None cannot be had, and of others nothing may be asked."""

    def of(**folders: Path | None) -> None:
        def locate(name: str) -> Path:
            folder = folders[name]
            if folder is None:
                raise FetchError(f"{name} cannot be fetched")
            return folder

        monkeypatch.setattr(loading, "locate", locate)
        monkeypatch.setattr(backbone_choice, "share_of_english", lambda *_: 1.0)

    return of


@pytest.mark.parametrize(
    ("texts", "suitable"),
    [
        (["We meet at the station around seven.", "Shall I bring anything for lunch tomorrow?"], ["minilm", "mpnet"]),
        (GERMAN, ["multilingual-e5-small"]),
        (["ok", "7", ":-)"], ["minilm", "mpnet"]),  # too short to tell
    ],
)
def test_language_says_what_is_suitable(texts: list[str], suitable: list[str]) -> None:
    examples = of_texts(texts, ["a", *["b"] * (len(texts) - 1)])
    assert backbone_choice._suitable(examples, CONFIG) == suitable
    quick = TrainingConfig("auto", preset="quick")
    assert backbone_choice._suitable(examples, quick) == suitable[:1]


def test_where_there_is_nothing_to_choose_nothing_is_loaded(catalogue: Callable[..., None]) -> None:
    assert choose_backbone(of_texts(GERMAN * 10, ["a", "b"] * 10), CONFIG).name == "multilingual-e5-small"
    catalogue()
    quick = choose_backbone(ENGLISH, TrainingConfig("auto", preset="quick"))
    assert (quick.name, quick.losses) == ("minilm", {})


def test_images_have_backbones_of_their_own() -> None:
    pictures = [picture for n in range(4) if (picture := as_image_input(image("upright", n), n + 1)) is not None]
    names = [str(number) for number in range(4)]
    examples = Examples(names, np.array([0, 1, 0, 1]), ("a", "b"), np.arange(1, 5), "X", images=pictures)
    assert backbone_choice._suitable(examples, CONFIG) == ["efficientnet-lite0", "efficientnet-lite2"]


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({"tune": "head"}, "minilm"),
        ({"long": "chunks"}, "minilm"),  # whose layers cannot be trained
        ({}, "mpnet"),
        ({"tune": "full"}, "mpnet"),
    ],
)
def test_of_two_that_are_as_good_the_larger_is_taken_if_its_layers_are_trained(
    catalogue: Callable[..., None], blind: Path, settings: dict[str, Any], taken: str
) -> None:
    catalogue(minilm=blind, mpnet=blind)
    chosen = choose_backbone(ENGLISH, TrainingConfig("auto", **settings))
    assert chosen.name == taken
    assert chosen.losses["minilm"] == chosen.losses["mpnet"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "minilm 0.6000, mpnet 0.6100; as good within the error, it gains more in training"),
        ({"tune": "head"}, "minilm 0.6000, mpnet 0.5900; no larger one is surely better"),
    ],
)
def test_what_has_not_the_least_loss_is_taken_with_a_reason(
    settings: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.array([-0.5, 0.5, 0.5, -0.5])
    losses = {"minilm": 0.6 + noise, "mpnet": (0.59 if settings else 0.61) - noise}
    monkeypatch.setattr(backbone_choice, "_losses", lambda name, *_: losses[name])
    with caplog.at_level(logging.INFO, "rehead"):
        choose_backbone(ENGLISH, TrainingConfig("auto", **settings))
    assert caplog.messages[-1].endswith(said)


def test_where_the_smallest_is_never_wrong_nothing_larger_is_fetched(
    catalogue: Callable[..., None], able: Path
) -> None:
    catalogue(minilm=able)
    chosen = choose_backbone(ENGLISH, CONFIG)
    assert (chosen.name, list(chosen.losses)) == ("minilm", ["minilm"])


def test_of_several_labels_one_that_is_wrong_is_enough_to_try_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    losses = np.full(20, 0.01)

    def found(name: str, *_: object) -> npt.NDArray[np.float64]:
        tried.append(name)
        return losses

    monkeypatch.setattr(backbone_choice, "_losses", found)
    several = replace(ENGLISH, labels=np.eye(10, dtype=np.int64)[np.arange(len(ENGLISH)) % 10])
    choose_backbone(several, CONFIG)
    assert tried == ["minilm"]
    losses[3] = 0.09  # the mean of nine labels that are right and one of even odds is 0.07
    choose_backbone(several, CONFIG)
    assert tried == ["minilm", "minilm", "mpnet"]


def test_a_larger_one_that_is_better_is_taken(catalogue: Callable[..., None], able: Path, blind: Path) -> None:
    catalogue(minilm=blind, mpnet=able)
    chosen = choose_backbone(ENGLISH, CONFIG)
    assert chosen.name == "mpnet"
    assert chosen.losses["mpnet"] < chosen.losses["minilm"]
    catalogue(minilm=able, mpnet=blind)
    assert choose_backbone(ENGLISH, CONFIG).name == "minilm"


def test_where_the_larger_cannot_be_fetched_the_smaller_is_taken_with_a_warning(
    catalogue: Callable[..., None], able: Path, blind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(progress, "warn", warned.append)
    catalogue(minilm=blind, mpnet=None)
    chosen = choose_backbone(ENGLISH, CONFIG)
    assert (chosen.name, list(chosen.losses)) == ("minilm", ["minilm"])
    assert warned == ["mpnet is not tried: mpnet cannot be fetched"]
    catalogue(minilm=None, mpnet=able)
    with pytest.raises(FetchError, match="minilm cannot be fetched"):
        choose_backbone(ENGLISH, CONFIG)


def test_where_the_budget_is_too_small_for_the_larger_the_smaller_is_taken(
    catalogue: Callable[..., None], able: Path, blind: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue(minilm=blind, mpnet=able)
    honest = backbone_choice.forward_flops
    monkeypatch.setattr(
        backbone_choice, "forward_flops", lambda base, *told: honest(base, *told) * (1e9 if base.name == "mpnet" else 1)
    )
    chosen = choose_backbone(ENGLISH, TrainingConfig("auto", budget=30.0))
    assert (chosen.name, list(chosen.losses)) == ("minilm", ["minilm"])


def test_where_the_budget_is_too_small_for_any_nothing_larger_is_fetched(
    catalogue: Callable[..., None], able: Path
) -> None:
    catalogue(minilm=able, mpnet=None)
    chosen = choose_backbone(ENGLISH, TrainingConfig("auto", budget=1e-9))
    assert (chosen.name, chosen.losses) == ("minilm", {})


def test_a_fit_that_leaves_the_base_open_uses_what_was_chosen(
    catalogue: Callable[..., None], able: Path, blind: Path
) -> None:
    catalogue(minilm=blind, mpnet=able)
    model = Classifier(tune="head", depth=1, pool="mean", ngrams=False).fit(*messages(120))
    assert model.artifact_.manifest.base == "mpnet"
    assert model.score(*messages(40, start=130)) > 0.8


def test_what_is_looked_at_has_the_classes_shares() -> None:
    labels = np.tile(np.array([0] * 280 + [1] * 20), 3)
    many = Examples([str(row) for row in range(900)], labels, ("a", "b"), np.arange(900), "messages")
    rows = backbone_choice._some(many, 0)
    assert len(rows) == pytest.approx(400, abs=2)
    assert labels[rows].mean() == pytest.approx(labels.mean(), abs=0.01)
