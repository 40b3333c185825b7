"""Settings that are written down: recipes and environment variables, checked field by field."""

import argparse
import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from rehead.cli.command_line import _parse
from rehead.cli.recipes import save_recipe
from tests.cli.running import Finished, assert_refused

TYPED = [
    "--model",
    "mpnet",
    "--budget",
    "5m",
    "--no-ngrams",
    "--long",
    "windows",
    "--precision",
    'a "b"=0.9',
    "--epochs",
]
TYPED += ["3", "--learning-rate", "1e-5", "--track", "wandb", "--text-column", "Übertrag", "-o", "here"]


def settings_of(options: argparse.Namespace) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(options).items()
        if name not in ("run", "command", "recipe", "save_recipe", "variables")
    }


def test_a_recipe_gives_the_settings_that_it_was_saved_with(tmp_path: Path) -> None:
    recipe = str(tmp_path / "spam.toml")
    options = _parse(["fit", "data.csv", *TYPED])
    save_recipe(options, recipe)
    assert settings_of(_parse(["fit", "data.csv", "--recipe", recipe])) == settings_of(options)
    written = tomllib.loads(Path(recipe).read_text(encoding="utf-8"))
    assert (written["model"], written["long"], written["no-ngrams"]) == ("mpnet", "windows", True)
    assert not {"base", "resume", "json", "recipe", "batch-size", "full-report"} & written.keys()


def test_the_command_line_goes_before_a_recipe_and_a_recipe_before_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.toml").write_text('epochs = 3\nmodel = "mpnet"\n')
    monkeypatch.setenv("REHEAD_EPOCHS", "4")
    monkeypatch.setenv("REHEAD_BUDGET", "5m")
    monkeypatch.setenv("REHEAD_NO_NGRAMS", "yes")
    monkeypatch.setenv("REHEAD_TRACK", "mlflow, wandb")
    options = _parse(["fit", "data.csv", "--recipe", str(tmp_path / "r.toml"), "--base", "minilm"])
    assert (options.base, options.epochs, options.budget, options.no_ngrams) == ("minilm", 3, 300, True)
    assert options.track == ["mlflow", "wandb"]
    assert "REHEAD_BUDGET" in options.variables
    assert _parse(["fit", "data.csv", "--epochs", "9"]).epochs == 9


@pytest.mark.parametrize(
    ("content", "about"),
    [
        (
            "# my own\nepoch = 3",
            r"line 2: epoch is no setting of rehead fit; did you mean epochs\? See rehead fit --help",
        ),
        ('\nepochs = "three"', 'line 2: epochs must be a number, not "three"; write epochs = 8;'),
        ("epochs = 1.5", "line 1: epochs must be a whole number, not '1.5'; write epochs = 8;"),
        ("epochs = true", "line 1: epochs must be a number, not true"),
        ("no-ngrams = 1", "line 1: no-ngrams must be true or false, not 1; write no-ngrams = true;"),
        ("model = 5", 'line 1: model must be a text, not 5; write model = "...";'),
        ('preset = "quik"', "line 1: preset must be one of quick, balanced, best, not 'quik'"),
        ('budget = "soon"', "line 1: budget must be a time such as 90s, 10m or 2h, not 'soon'"),
        ("budget = []", r"line 1: budget must be a text or a number, not \[\]"),
        ('track = "wandb"', r'line 1: track must be a list of texts, not "wandb"; write track = \["mlflow"\]'),
        ("base = 'minilm'", "line 1: base is no setting"),
        ("\n[training]\nepochs = 3", "line 2: training is no setting"),
        ("resume = true", "line 1: resume is no setting"),
        ("preset = quik", "not TOML: .*line 1"),
    ],
)
def test_a_field_that_is_wrong_is_named_with_its_line_and_its_cure(
    rehead: Callable[..., Finished], data: Path, tmp_path: Path, content: str, about: str
) -> None:
    (tmp_path / "r.toml").write_text(content)
    assert_refused(rehead("fit", data, "--recipe", tmp_path / "r.toml", "-o", tmp_path / "model"), about)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("variable", "value", "about"),
    [
        ("BUDGET", "soon", "REHEAD_BUDGET must be a time such as 90s, 10m or 2h, not 'soon'; correct or unset it"),
        ("EPOCHS", "1.5", "REHEAD_EPOCHS must be a whole number"),
        ("PRESET", "quik", "REHEAD_PRESET must be one of quick"),
        ("NO_NGRAMS", "maybe", "REHEAD_NO_NGRAMS must be 1 or 0"),
        ("TRACK", "wandb,neptune", "REHEAD_TRACK must be one of mlflow"),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    rehead: Callable[..., Finished], data: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, about: str
) -> None:
    monkeypatch.setenv(f"REHEAD_{variable}", value)
    assert_refused(rehead("fit", data), about)


def test_what_is_no_recipe_is_refused(rehead: Callable[..., Finished], data: Path, tmp_path: Path) -> None:
    assert_refused(rehead("fit", data, "--recipe", tmp_path / "nowhere.toml"), "cannot read the recipe .*nowhere.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_000_001)
    assert_refused(rehead("fit", data, "--recipe", tmp_path / "large.toml"), "too large")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert_refused(rehead("fit", data, "--recipe", tmp_path / "bytes.toml"), "not TOML")


def test_a_fit_by_its_saved_recipe_is_the_same(rehead: Callable[..., Finished], data: Path, tmp_path: Path) -> None:
    recipe, options = tmp_path / "r.toml", ("--base", "tfidf", "--seed", 3, "--abstain-below", 0.6)
    first = rehead("fit", data, *options, "--save-recipe", recipe, "-o", tmp_path / "model", "--json")
    assert first.code == 0, first.err
    second = rehead("fit", data, "--recipe", recipe, "-o", tmp_path / "again", "--json")
    assert second.json["seed"] == 3
    assert second.json["test"] == first.json["test"]
    (one, other) = (json.loads((tmp_path / name / "rehead.json").read_text()) for name in ("model", "again"))
    assert one == other
