"""Messages name parameters; on the command line they name flags."""

import argparse

import pytest

from rehead.cli.command_line import _parse
from rehead.cli.flags import as_flags


def command(name: str, *arguments: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _parse([name, *arguments]).command
    return parser


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`pool` must be one", "--pool must be one"),
        ("`tune='last-2'` needs", "--strategy last-2 needs"),
        ("`long='chunks'` goes with `tune='head'`", "--long windows goes with --strategy head"),
        ("give `base='minilm'`", "give --model minilm"),
        ("leave `ngrams=False` out", "leave --no-ngrams out"),
        ("run it with `resume=True`", "run it with --resume"),
        ("`average_views` and `views`", "--test-time-augmentation and --augmentations"),
        ("`random_state` must", "--seed must"),
        ("`n_folds` must", "--cv must"),
        ("`output='/tmp/a b'`: nothing", "--output '/tmp/a b': nothing"),
        ('give `query="SELECT 1"`', 'give `query="SELECT 1"`'),
        ("`data` has", "DATA has"),
        ("`nothing_of_ours` stays, as does ` a ` and `x y`", "`nothing_of_ours` stays, as does ` a ` and `x y`"),
    ],
)
def test_parameters_become_flags(message: str, shown: str) -> None:
    assert as_flags(message, command("fit", "data.csv")) == shown


def test_the_flags_are_those_of_the_command() -> None:
    assert as_flags("`bases`: name one", command("compare", "data.csv")) == "--model: name one"
    assert as_flags("`names`: leave", command("compare", "data.csv")) == "--approaches: leave"
    assert as_flags("`form='onnx'`", command("export", "model", "--format", "onnx")) == "--format onnx"
    assert as_flags('`query="SELECT *"`', command("predict", "model", "x")) == "--query 'SELECT *'"
    assert as_flags("`n_trials` must", command("search", "data.csv")) == "--trials must"


def test_what_a_classifier_was_fitted_with_is_named_in_other_commands_too() -> None:
    message = "fit with `ngrams=False`, or `pool='mean'`"
    assert as_flags(message, command("export", "model", "--format", "onnx")) == "fit with --no-ngrams, or --pool mean"
