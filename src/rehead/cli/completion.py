"""`rehead completion`: print what lets a shell complete commands, options and files."""

from __future__ import annotations

import argparse

from rehead.cli.terminal import print_json
from rehead.runtime import extras

EXAMPLE = "rehead completion bash"

# What stands for a file or a folder in the help.
_FILES = ("FILE", "DATA", "INPUT", "DIR", "MODEL", "[MODEL] DATA")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument(
        "shell",
        choices=("bash", "zsh", "fish"),
        help="whose completions; save them where it looks, such as ~/.local/share/bash-completion/completions/rehead",
    )


def run(options: argparse.Namespace) -> None:
    """Print the shell's completions of all commands."""
    extras.require("rehead completion", "completion", "shtab")
    import shtab

    from rehead.cli.command_line import COMMANDS, parser_of

    parser, commands = parser_of(COMMANDS)
    for command in commands.values():
        for action in command._actions:
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    script: str = shtab.complete(parser, options.shell)
    print_json({"shell": options.shell, "script": script}) if options.json else print(script)
