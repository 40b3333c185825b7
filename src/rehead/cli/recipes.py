"""Settings of a command that are written down: in a TOML file with the names of its long options, or as variables.

`REHEAD_BUDGET=5m` is the default of --budget; a recipe goes before variables, the command line before both.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rehead.cli.flags import did_you_mean, option_of, written
from rehead.runtime import files
from rehead.runtime.errors import SettingError, first_line

# What a recipe does not say: how the command is run, not what comes of it.
_NOT_SETTINGS = {"help", "recipe", "save_recipe", "resume", "dry_run", "json", "debug", "verbose"}
_LARGEST_RECIPE = 1_000_000
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def defaults_of_variables(
    command: argparse.ArgumentParser, variables: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that environment variables give, by the option's `dest`, and the variables' names.

    Raises:
        SettingError: one of them is no value of its option.
    """
    values, used = {}, []
    for name, action in _settings(command).items():
        variable = f"REHEAD_{name.replace('-', '_').upper()}"
        if text := variables.get(variable):
            try:
                values[action.dest] = _of_text(action, text)
            except argparse.ArgumentTypeError as error:
                raise SettingError(f"the environment variable {variable} {error}; correct or unset it") from error
            used.append(variable)
    return values, used


def read_recipe(command: argparse.ArgumentParser, file: str) -> dict[str, Any]:
    """Return the settings in a recipe, by the option's `dest`.

    Raises:
        SettingError: it cannot be read, or a field is none of the command's, or has a value that is none of its.
    """
    try:
        if Path(file).stat().st_size > _LARGEST_RECIPE:
            raise SettingError(f"{file} is too large for a recipe; give a TOML file that --save-recipe has written")
        text = Path(file).read_text(encoding="utf-8")
        fields = tomllib.loads(text)
    except OSError as error:
        raise SettingError(f"cannot read the recipe {file} ({error.strerror}); check the path") from error
    except ValueError as error:
        raise SettingError(f"the recipe {file} is not TOML: {first_line(error)}") from error
    settings, values = _settings(command), {}
    for name, value in fields.items():
        where = f"{file}, line {_line_of(name, text)}: {name}"
        if name not in settings:
            raise SettingError(f"{where} is no setting of {command.prog}{did_you_mean(name, settings)}")
        try:
            values[settings[name].dest] = _of_toml(settings[name], value)
        except argparse.ArgumentTypeError as error:
            example = _example(settings[name])
            cure = f"; write {name} = {example}" if example else ""
            raise SettingError(f"{where} {error}{cure}") from error
    return values


def save_recipe(options: argparse.Namespace, file: str) -> None:
    """Write the settings of a command, those by default included, but for what was left open.

    Raises:
        SettingError: the file cannot be written.
    """
    lines = [f"# {options.command.prog} {options.data} --recipe {file}".replace("\n", " ")]
    for name, action in _settings(options.command).items():
        value = getattr(options, action.dest)
        if value is not None and value is not False:
            lines.append(f"{name} = {_as_toml(written(action.dest, value))}")
    try:
        files.write_file(Path(file), ("\n".join(lines) + "\n").encode())
    except OSError as error:
        raise SettingError(f"cannot write the recipe {file} ({error.strerror}); give another file") from error


def with_written_settings(parser: argparse.ArgumentParser, arguments: list[str]) -> argparse.Namespace:
    """Return the options on the command line, with variables and a recipe in the place of the defaults.

    `variables` among them are the names of those that were used.

    Raises:
        SettingError: see `defaults_of_variables`, `read_recipe`.
    """
    options = parser.parse_args(arguments)
    command: argparse.ArgumentParser = options.command
    values, used = defaults_of_variables(command, os.environ)
    if options.recipe:
        values |= read_recipe(command, options.recipe)
    command.set_defaults(**values, variables=used)
    return parser.parse_args(arguments)


def _settings(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that are settings by their long names, without older names of the same."""
    return {
        option_of(action).removeprefix("--"): action
        for action in command._actions
        if action.option_strings and action.help != argparse.SUPPRESS and action.dest not in _NOT_SETTINGS
    }


def _of_text(action: argparse.Action, text: str) -> Any:
    if action.nargs == 0:
        if text.lower() not in _SWITCH:
            raise argparse.ArgumentTypeError(f"must be 1 or 0, not {text!r}")
        return _SWITCH[text.lower()]
    if isinstance(action, argparse._AppendAction):
        return [_converted(action, part.strip()) for part in text.split(",")]
    return _converted(action, text)


def _of_toml(action: argparse.Action, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"must be true or false, not {_shown(value)}")
        return value
    if isinstance(action, argparse._AppendAction):
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise argparse.ArgumentTypeError(f"must be a list of texts, not {_shown(value)}")
        return [_converted(action, part) for part in value]
    if action.type in (int, float) and not is_number:
        raise argparse.ArgumentTypeError(f"must be a number, not {_shown(value)}")
    if action.type is None and not isinstance(value, str):
        raise argparse.ArgumentTypeError(f"must be a text, not {_shown(value)}")
    if not is_number and not isinstance(value, str):
        raise argparse.ArgumentTypeError(f"must be a text or a number, not {_shown(value)}")
    return _converted(action, str(value))


def _converted(action: argparse.Action, text: str) -> Any:
    """Return what the command line would make of a text."""
    kind: Any = action.type or str
    try:
        value = kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
    if action.choices is not None and value not in action.choices:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(map(str, action.choices))}, not {text!r}")
    return value


def _example(action: argparse.Action) -> str | None:
    """Return a value that would do, as TOML; None where the message has examples already."""
    if action.nargs == 0:
        return "true"
    if isinstance(action, argparse._AppendAction):
        return _as_toml(list(action.choices or ["..."])[:1])
    if action.choices:
        return _as_toml(next(iter(action.choices)))
    of_kind: dict[Any, str] = {int: "8", float: "0.5", None: '"..."'}
    return of_kind.get(action.type)


def _as_toml(value: Any) -> str:
    """Return a text, a number, a switch or a list of these as TOML, which writes them as JSON does."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _line_of(name: str, text: str) -> int:
    """Return where a field is; a table begins with its name in brackets."""
    pattern = rf"\s*\[?\s*[\"']?{re.escape(name)}[\"']?\s*[=.\]]"
    return next((i for i, line in enumerate(text.splitlines(), start=1) if re.match(pattern, line)), 1)
