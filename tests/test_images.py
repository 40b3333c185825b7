"""From a folder of images to a saved classifier and back, with a tiny vision model; and with the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import rehead
from rehead import Classifier
from rehead.analysis.image_explanation import coloured, heat_map
from rehead.cli import inputs
from rehead.data import preparation
from rehead.data.images import ImageInput, as_image_input
from rehead.data.preparation import DataConfig
from rehead.evaluation import baselines
from rehead.models.image_transforms import Pixels, Transform
from rehead.models.loading import load
from rehead.models.model_inputs import encode_inputs
from rehead.runtime import hardware
from rehead.runtime.errors import DataError, SettingError
from rehead.training import strategies
from rehead.training.depth_search import sample_rows
from rehead.training.encoding import EncodedData
from rehead.training.features import trunk_pass
from rehead.workflows.fit import fit
from tests.tiny_images import image, save_folders
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages
from tests.tiny_vision_models import save_tiny_vision_model

InProcess = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folders(tmp_path_factory.mktemp("data") / "stripes", 40)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vision_model(tmp_path_factory.mktemp("vit"), "vit")


@pytest.fixture(scope="module")
def saved(data: Path, vit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("saved") / "model"
    return folder, fit(str(data), Classifier(str(vit), tune="head"), folder).to_json()


def test_facts_are_those_of_images(saved: tuple[Path, dict[str, Any]]) -> None:
    folder, facts = saved
    assert facts["what"] == "images"
    assert facts["test"]["accuracy"] > 0.8
    assert set(facts["baselines"]) == {"majority", "hog"}
    assert facts["baselines"]["hog"]["accuracy"] > facts["baselines"]["majority"]["accuracy"]
    card = (folder / "README.md").read_text()
    assert "image-classification" in card
    assert "Not a medical device" in card
    page = (folder / "report.html").read_text()
    assert "colours and edges + logistic regression" in page
    assert page.count("data:image/jpeg;base64,") == min(20, round((1 - facts["test"]["accuracy"]) * facts["test"]["n"]))


def test_saved_classifier_takes_paths_images_and_arrays(saved: tuple[Path, dict[str, Any]], data: Path) -> None:
    model = rehead.load(str(saved[0]))
    paths = sorted(data.rglob("*.png"))
    by_path = model.predict_proba(paths)
    opened = [Image.open(path) for path in paths]
    np.testing.assert_allclose(model.predict_proba(opened), by_path, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba([np.asarray(each) for each in opened]), by_path, atol=1e-5)
    assert (model.predict(paths) == [path.parent.name for path in paths]).mean() > 0.8


def test_loaded_classifier_can_be_saved_again(saved: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    rehead.load(str(saved[0])).save(tmp_path / "again")
    new = [image("upright", 99)]
    again = rehead.load(str(tmp_path / "again"))
    np.testing.assert_allclose(again.predict_proba(new), rehead.load(str(saved[0])).predict_proba(new), atol=1e-6)


@pytest.mark.parametrize("family", ["resnet", "convnext", "rehead_efficientnet_lite", "dinov2"])
@pytest.mark.parametrize("tune", ["head", "last-1", "full"])
def test_every_family_and_way_of_tuning_is_saved_and_loads(family: str, tune: str, data: Path, tmp_path: Path) -> None:
    base = save_tiny_vision_model(tmp_path / "base", family)
    model = Classifier(str(base), tune=tune, depth=2, epochs=1, views=2)
    facts = fit(str(data), model, tmp_path / "model").to_json()
    assert (facts["tune"], facts["depth"]) == (tune, 2)
    new = [image(kind, 77) for kind in ("upright", "lying")]
    np.testing.assert_allclose(
        rehead.load(str(tmp_path / "model")).predict_proba(new), model.predict_proba(new), atol=1e-5
    )


def test_views_are_learned_from_and_only_by_training(data: Path, vit: Path) -> None:
    model = Classifier(str(vit), views=3)
    parts = preparation.prepare(DataConfig(str(data)), seed=0)
    run: EncodedData = model.prepare(parts.train, parts.validation)
    assert run.n_train == 3 * len(parts.train)
    assert len(run.labels) == run.n_train + len(parts.validation)
    views = run.encoded.ids.views.tolist()  # type: ignore[attr-defined]
    assert views == [0, 1, 2] * len(parts.train) + [0] * len(parts.validation)
    assert len(np.unique(run.encoded.ids.digests(), axis=0)) == len(run.labels)
    rows, n_train = sample_rows(run)
    assert n_train == len(parts.train)
    assert [views[row] for row in rows] == [0] * len(rows)
    assert (rows[:n_train] < run.n_train).all()
    assert (rows[n_train:] >= run.n_train).all()


@pytest.mark.parametrize(
    ("settings", "views", "averaged"),
    [
        ({}, 4, True),
        ({"preset": "best"}, 4, True),
        ({"preset": "quick"}, 1, False),
        ({"tune": "head"}, 1, False),
        ({"views": 1}, 1, False),
        ({"views": 2}, 2, False),
        ({"budget": 1e-9}, 1, False),
    ],
)
def test_auto_averages_four_views_where_there_is_time(
    data: Path, vit: Path, settings: dict[str, Any], views: int, averaged: bool
) -> None:
    parts = preparation.prepare(DataConfig(str(data)), seed=0)
    run = Classifier(str(vit), **settings).prepare(parts.train, parts.validation)
    assert (run.views, run.config.views, run.config.average_views) == (views, views, averaged)
    assert len(run.encoded.ids) == views * len(parts.train) + (4 if averaged else 1) * len(parts.validation)


def test_averaged_views_of_auto_are_saved(data: Path, vit: Path, tmp_path: Path) -> None:
    model = fit(str(data), Classifier(str(vit), depth=2, pool="mean"), tmp_path / "model").model
    loaded = rehead.load(str(tmp_path / "model"))
    assert (loaded.views, loaded.average_views) == (4, True)
    new = [image("upright", 5)]
    np.testing.assert_allclose(loaded.predict_proba(new), model.predict_proba(new), atol=1e-5)


@pytest.mark.parametrize(("tune", "epochs_anew"), [("full", 2), ("last-1", 0)])
def test_where_nothing_is_kept_every_epoch_has_views_of_its_own(
    tune: str, epochs_anew: int, data: Path, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    honest = Pixels.changed

    def noted(self: Pixels) -> Pixels:
        changed = honest(self)
        drawn.extend(changed.views.tolist())
        return changed

    monkeypatch.setattr(Pixels, "changed", noted)
    parts = preparation.prepare(DataConfig(str(data)), seed=0)
    model = Classifier(str(vit), tune=tune, depth=2, pool="mean", epochs=2, views=2)
    learned = baselines.learn(parts.train, parts.validation)
    model.fit_encoded(model.prepare(parts.train, parts.validation), learned)
    # Training images alone, each twice an epoch; a chance repetition apart, no view comes up again.
    assert len(drawn) == epochs_anew * 2 * len(parts.train)
    assert all(view >= 2 for view in drawn)
    assert len(set(drawn)) >= 0.95 * len(drawn)


def test_views_are_averaged_in_prediction_where_that_is_asked_for(data: Path, vit: Path, tmp_path: Path) -> None:
    model = Classifier(str(vit), tune="head", depth=2, pool="mean", views=3, average_views=True)
    fit(str(data), model, tmp_path / "model")
    loaded = rehead.load(str(tmp_path / "model"))
    new = as_image_input(image("upright", 7), 1)
    assert new is not None
    base, head = loaded.artifact_.backbone, loaded.artifact_.head
    logits = []
    for view in range(3):
        encoded = encode_inputs(base, [new], 512, views=[[view]])
        with torch.inference_mode():
            logits.append(head(trunk_pass(base, encoded.ids, depths=[2], pooling="mean").seen))
    expected = torch.softmax(torch.stack(logits).mean(0), dim=1)
    np.testing.assert_allclose(loaded.predict_proba([new]), expected, atol=1e-5)
    with pytest.raises(SettingError, match="`average_views` goes with `tune='head'`"):
        fit(str(data), Classifier(str(vit), tune="last-1", views=2, average_views=True))


def test_commands_take_images(
    saved: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path, in_process: InProcess
) -> None:
    model = saved[0]
    code, out, _ = in_process("predict", model, data / "upright", "--json")
    assert code == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == 40
    assert np.mean([answer["label"] == "upright" for answer in answers]) > 0.8
    code, out, _ = in_process("predict", model, data / "lying" / "000.png")
    assert (code, out.split("\t")[2].strip()) == (0, "000.png")
    code, _, _ = in_process("predict", model, data, "-o", tmp_path / "out.csv")
    assert code == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[0].startswith("image,predicted")
    code, out, _ = in_process("evaluate", model, data, "--json")
    facts = json.loads(out)
    assert facts["overlap"]["n"] > 0
    code, out, _ = in_process("inspect", data, "--json")
    assert json.loads(out)["rows"]["used"] == 80
    assert code == 0


class Corner:
    """Stands for a classifier that calls an image dark by how dark its upper left quarter is."""

    labels = ("bright", "dark")

    def scores(self, pictures: list[ImageInput]) -> Any:
        shades = [np.asarray(each.image(at_least=64).convert("L").resize((64, 64)))[:32, :32] for each in pictures]
        dark = np.array([1 - shade.mean() / 255 for shade in shades])
        return SimpleNamespace(probabilities=np.stack([1 - dark, dark], axis=1))


def test_heat_map_shows_the_part_that_the_answer_rests_on() -> None:
    shades = np.full((64, 64, 3), 255, dtype=np.uint8)
    shades[:32, :32] = 0
    picture = as_image_input(shades, 1)
    assert picture is not None
    weights, probabilities = heat_map(Corner(), picture)  # type: ignore[arg-type]
    assert probabilities.tolist() == pytest.approx([0, 1], abs=0.02)
    assert (weights[:4, :4] > 0.01).all()
    assert weights[5:, 5:].max() < 1e-6
    painted = np.asarray(coloured(picture, weights)).astype(int)
    assert painted[40, 40, 1] > painted[40, 40, 0] + 20  # green
    assert np.ptp(painted[-10, -10]) < 5  # grey


def test_explain_writes_the_heat_map(
    saved: tuple[Path, dict[str, Any]], data: Path, tmp_path: Path, in_process: InProcess
) -> None:
    file = tmp_path / "map.png"
    code, out, err = in_process("explain", saved[0], data / "upright" / "000.png", "-o", file, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert np.shape(facts["weights"]) == (8, 8)
    assert Image.open(file).size == (256, 256)
    code, _, err = in_process("explain", saved[0], tmp_path / "gone.png")
    assert code == 2
    assert "no such file" in err


def test_full_report_colours_mistakes(data: Path, vit: Path, tmp_path: Path) -> None:
    model = Classifier(str(vit), tune="head", depth=1, pool="mean")
    wrong = save_folders(tmp_path / "wrong", 40)
    (wrong / "lying").rename(wrong / "spare")
    (wrong / "upright").rename(wrong / "lying")
    (wrong / "spare").rename(wrong / "upright")
    sources = DataConfig(str(data), test=str(wrong))
    page = Path(fit(sources, model, tmp_path / "model", full_report=True).report_file or "").read_text()
    assert page.count("what speaks for the predicted class in green") == 10


def test_digits_come_without_any_file() -> None:
    parts = preparation.prepare(DataConfig("sample:digits"), seed=0)
    assert len(parts.pool) == 1797
    assert parts.pool.label_names == tuple("0123456789")


def test_suspected_labels_of_images(saved: tuple[Path, dict[str, Any]], data: Path, in_process: InProcess) -> None:
    code, out, err = in_process("inspect", saved[0], data, "--label-errors", "--json")
    assert code == 0, err
    assert json.loads(out)["examined"] == 80


def test_python_takes_images_like_texts(data: Path, vit: Path) -> None:
    paths = sorted(data.rglob("*.png"))
    model = Classifier(str(vit), tune="head", depth=2, pool="mean").fit(paths, [path.parent.name for path in paths])
    assert model.score(paths, [path.parent.name for path in paths]) > 0.8
    with pytest.raises(DataError, match="cannot be read"):
        Classifier(str(vit)).fit([*paths, Path("gone.png")], ["a"] * (len(paths) + 1))


def test_adapters_beside_convolutions_are_refused_and_left_out_of_auto(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_tiny_vision_model(tmp_path / "base", "resnet")
    with pytest.raises(SettingError, match="`tune='lora'` needs linear layers"):
        fit(str(data), Classifier(str(base), tune="lora"))
    parts = preparation.prepare(DataConfig(str(data)), seed=0)
    run = Classifier(str(base), tune="auto", preset="best", views=1).prepare(parts.train, parts.validation)
    assert strategies.planned(run, 2) == ["last-2", "full"]
    monkeypatch.setattr(hardware, "free_device_memory", lambda: 0)
    assert strategies.planned(run, 2) == ["last-2"]


def test_adapters_of_a_vision_transformer_are_saved_and_load(data: Path, vit: Path, tmp_path: Path) -> None:
    model = Classifier(str(vit), tune="lora", depth=2, epochs=1)
    assert fit(str(data), model, tmp_path / "model").settings.tune == "lora"
    new = [image("upright", 5)]
    np.testing.assert_allclose(
        rehead.load(str(tmp_path / "model")).predict_proba(new), model.predict_proba(new), atol=1e-5
    )


def test_operations_of_convolutions_are_counted(data: Path, tmp_path: Path) -> None:
    base = load("efficientnet-lite0", 2, 0)
    # 407 million multiplications and additions are published for all of it, batch norms and classifier included.
    an_image = base.flops_a_token(0, 8) * base.tokens_of(torch.ones(1))
    assert an_image == pytest.approx(2 * 407e6, rel=0.1)


def test_base_for_the_other_kind_is_refused(data: Path, vit: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is for texts, and these are images"):
        fit(str(data), Classifier(str(save_tiny_model(tmp_path / "bert", "bert"))))
    with pytest.raises(SettingError, match="is for images, and these are texts"):
        fit(str(write_messages(tmp_path / "texts.csv")), Classifier(str(vit)))


def test_cross_validation_of_images(data: Path, vit: Path, tmp_path: Path) -> None:
    facts = fit(str(data), Classifier(str(vit), tune="head", depth=2), tmp_path / "model", n_folds=3).to_json()
    assert facts["test"]["n"] == 80
    assert len(facts["folds"]) == 3


@pytest.mark.slow
def test_flowers_with_the_real_weights(shared: Path, tmp_path: Path) -> None:
    facts = fit(str(shared / "oxford17"), Classifier(tune="head"), tmp_path / "model").to_json()
    assert facts["base"] == "efficientnet-lite0"
    assert facts["test"]["accuracy"] > 0.93
    assert facts["comparison"]["p_value"] < 0.001


@pytest.mark.parametrize("text", ["look at http://x/cat.jpg", "", "cat"])
def test_text_is_not_taken_for_an_image(text: str) -> None:
    assert not inputs.is_of_images(text)


def test_missing_image_is_named(saved: tuple[Path, dict[str, Any]], in_process: InProcess) -> None:
    code, _, err = in_process("predict", saved[0], "nowhere/cat.jpg")
    assert (code, err) == (2, "rehead: nowhere/cat.jpg: no such file; check the path\n")


@pytest.mark.parametrize(
    ("told", "expected"), [({}, 36), ({"crop_pct": 0.9}, 35), ({"size": {"shortest_edge": 400}}, None)]
)
def test_convnext_s_images_are_scaled_to_more_and_cut(
    told: dict[str, Any], expected: int | None, tmp_path: Path
) -> None:
    settings = {"size": {"shortest_edge": 32}, "crop_pct": None, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, **told}))
    assert Transform.read(tmp_path, "base").shorter == expected
