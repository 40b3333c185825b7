"""Name a parameter as it is written on the command line.

The library names parameters as Python does, between backticks (see `rehead.runtime.errors`): `pool`, `tune='head'`,
`ngrams=False`. Whoever typed a command reads --pool, --strategy head, --no-ngrams.
"""

from __future__ import annotations

import argparse
import re
import shlex

_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]+))?`")

# Parameters whose option has another name, by the option's `dest`.
_DESTINATIONS = {
    "bases": "base",
    "form": "format",
    "n_examples": "examples",
    "n_folds": "cv",
    "n_trials": "trials",
    "names": "approaches",
    "ngrams": "no_ngrams",
    "random_state": "seed",
}
# Values that are written in another way.
_VALUES = {("long", "chunks"): "windows"}


def as_flags(message: str, command: argparse.ArgumentParser) -> str:
    """Return a message with options in the place of parameters: those of the command, or else of `fit`."""
    options = _options_of(command)

    def flag(parameter: re.Match[str]) -> str:
        name, value = parameter[1], parameter[2]
        destination = _DESTINATIONS.get(name, name)
        action = options.get(destination) or _options_of_fit().get(destination)
        if action is None:
            return parameter[0]
        if not action.option_strings:
            return str(action.metavar or action.dest)
        option = next((option for option in action.option_strings if option.startswith("--")), action.option_strings[0])
        if value is None or action.nargs == 0:
            return option
        plain = value.strip("'\"")
        return f"{option} {shlex.quote(_VALUES.get((name, plain), plain))}"

    return _PARAMETER.sub(flag, message)


def _options_of(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    options: dict[str, argparse.Action] = {}
    for action in command._actions:
        options.setdefault(action.dest, action)  # aliases come after the option that is shown
    return options


def _options_of_fit() -> dict[str, argparse.Action]:
    """Return what a saved classifier was made with, which other commands' messages name, too."""
    from rehead.cli import fit

    parser = argparse.ArgumentParser()
    fit.add_arguments(parser)
    return _options_of(parser)
