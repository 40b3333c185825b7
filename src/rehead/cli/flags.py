"""Name a parameter as it is written on the command line.

The library names parameters as Python does, between backticks (see `rehead.runtime.errors`): `pool`, `tune='head'`,
`ngrams=False`. Whoever typed a command reads --pool, --strategy head, --no-ngrams.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Iterable
from typing import Any

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
        option = option_of(action)
        if value is None or action.nargs == 0:
            return option
        plain = value.strip("'\"")
        return f"{option} {shlex.quote(written(name, plain))}"

    return _PARAMETER.sub(flag, message)


def option_of(action: argparse.Action) -> str:
    """Return the name of an option, the long one where there is one."""
    return next((option for option in action.option_strings if option.startswith("--")), action.option_strings[0])


def written(parameter: str, value: Any) -> Any:
    """Return a parameter's value as it is written on the command line."""
    return _VALUES.get((parameter, value), value) if isinstance(value, str) else value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is none: the one that is nearest to it, if any is near."""
    by_plain_name = {option.lstrip("-"): option for option in known}
    near = difflib.get_close_matches(name.lstrip("-"), by_plain_name, n=1)
    return f"; did you mean {by_plain_name[near[0]]}?" if near else ""


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
