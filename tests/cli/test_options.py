"""Help, the names of options, and what a mistyped one is answered with."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import pytest

from rehead.cli import arguments
from rehead.cli.command_line import COMMANDS, _parse
from tests.cli.running import Finished, assert_refused


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_help_lists_every_command(rehead: Callable[..., Finished]) -> None:
    finished = rehead("--help")
    assert finished.code == 0
    for name, about in COMMANDS.items():
        assert f"{name} " in finished.out
        assert about in finished.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_ends_with_an_example_that_it_takes(rehead: Callable[..., Finished], name: str) -> None:
    finished = rehead(name, "--help")
    assert finished.code == 0
    *_, title, example = finished.out.splitlines()
    assert title == "example:"
    assert example.startswith(f"  rehead {name}")
    assert _parse(shlex.split(example)[1:]).run is import_module(f"rehead.cli.{name}").run


def test_help_of_fit_is_in_groups(rehead: Callable[..., Finished]) -> None:
    out = rehead("fit", "--help").out
    titles = [line for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["options:", "data:", "model:", "training:", "decisions:", "cluster:", "output:", "example:"]
    for default in ("(auto)", "(balanced)", "(512)", "(truncate)", "(rehead-model)"):
        assert default in out


@pytest.mark.parametrize(
    ("command", "shown", "hidden"),
    [
        ("fit", "--model", "--base"),
        ("compare", "--model", "--base"),
        ("search", "--model", "--base"),
        ("instruct", "--model", "--base"),
        ("inspect", "--model", "--base"),
        ("fit", "--strategy", "--tune"),
        ("instruct", "--strategy", "--tune"),
        ("fit", "--augmentations", "--views"),
        ("fit", "--test-time-augmentation", "--average-views"),
    ],
)
def test_an_older_name_of_an_option_works_and_is_not_shown(
    rehead: Callable[..., Finished], command: str, shown: str, hidden: str
) -> None:
    out = rehead(command, "--help").out
    assert f"{shown} " in out.replace("\n", " ")
    assert hidden not in out
    values = {"--augmentations": ["3"], "--test-time-augmentation": []}.get(shown, ["last-1"])
    new, old = (vars(_parse([command, "data.csv", option, *values])) for option in (shown, hidden))
    plain = vars(_parse([command, "data.csv"]))
    assert {**new, "command": None} == {**old, "command": None} != {**plain, "command": None}


@pytest.mark.parametrize("text", ["windows", "chunks"])
def test_sliding_windows_are_stored_under_their_older_name(text: str) -> None:
    assert _parse(["fit", "data.csv", "--long", text]).long == "chunks"


def test_help_speaks_of_layers_and_augmentations(rehead: Callable[..., Finished]) -> None:
    for name in COMMANDS:
        out = rehead(name, "--help").out
        for older in ("block", "chunks", "views", "base model"):
            assert older not in out.replace("rehead bases", ""), (name, older)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["fti", "data.csv"], "there is no command 'fti'; did you mean fit?"),
        (["sampels"], "there is no command 'sampels'; did you mean samples?"),
        (["fit", "data.csv", "--modle", "minilm"], "there is no option --modle; did you mean --model?"),
        (["fit", "--ouput=x", "data.csv"], "there is no option --ouput; did you mean --output?"),
        (["export", "model", "--fromat", "onnx"], "there is no option --fromat; did you mean --format?"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_is_near(
    rehead: Callable[..., Finished], typed: list[str], meant: str
) -> None:
    finished = rehead(*typed)
    assert (finished.code, finished.out) == (2, "")
    command = f"rehead {typed[0]}" if typed[0] in COMMANDS else "rehead"
    assert finished.err == f"rehead: {meant} See {command} --help\n"


def test_what_is_near_to_nothing_is_answered_without_a_guess(rehead: Callable[..., Finished]) -> None:
    assert rehead("qqqq").err == "rehead: there is no command 'qqqq'; see rehead --help\n"
    assert rehead("fit", "x", "--qqqq").err == "rehead: there is no option --qqqq; see rehead fit --help\n"


def test_an_older_name_is_no_guess(rehead: Callable[..., Finished]) -> None:
    assert_refused(rehead("fit", "data.csv", "--bsae", "x"), "no option --bsae; see|did you mean --(?!base)")


def test_shortened_options_and_texts_with_dashes_are_taken() -> None:
    assert _parse(["fit", "data.csv", "--max-len", "9"]).max_length == 9
    assert _parse(["predict", "model", "--what a text"]).input == "--what a text"
    assert _parse(["predict", "model", "--", "--text"]).input == "--text"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1.5", 1.5)])
def test_a_duration_is_in_seconds(text: str, seconds: float) -> None:
    assert arguments.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-1s", "10d"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="90s, 10m or 2h"):
        arguments.duration(text)


def test_a_command_imports_its_own_file_alone() -> None:
    code = (
        "import sys\n"
        "from rehead import cli\n"
        "try:\n"
        "    cli.main(['predict', '--help'])\n"
        "except SystemExit:\n"
        "    print(*sorted(name for name in sys.modules if name.startswith('rehead.')))\n"
        "    print(*(name for name in ('torch', 'numpy', 'rich', 'transformers') if name in sys.modules))\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rehead, others = finished.stdout.splitlines()[-2:]
    assert others == ""
    names = rehead.split()
    assert "rehead.cli.predict" in names
    assert {f"rehead.cli.{name}" for name in COMMANDS} & set(names) == {"rehead.cli.predict"}
    assert not [name for name in names if name.startswith(("rehead.training", "rehead.serving", "rehead.workflows"))]


def test_parameters_of_fit_are_options_of_fit() -> None:
    """What the translation of messages relies on."""
    from rehead import Classifier
    from rehead.cli.flags import _DESTINATIONS, _options_of_fit

    options = _options_of_fit()
    for parameter in Classifier().get_params():
        assert _DESTINATIONS.get(parameter, parameter) in options, parameter
