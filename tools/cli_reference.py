"""Write docs/reference/cli.md from the parsers of the command line.

python tools/cli_reference.py            write it
python tools/cli_reference.py --check    exit code 1 where it is stale
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from rehead.cli.command_line import COMMANDS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
INTRODUCTION = """\
# Commands

<!-- written by tools/cli_reference.py -->

Every command takes `--help`, `--json` (one JSON object on stdout and nothing else there) and `--debug` (the traceback
of an error). Results go to stdout, everything else to stderr. Exit codes: 0 success, 2 a mistake of yours, in one line
that says how to mend it, 1 a fault of rehead's own, 130 interrupted. What is in parentheses is the default.
"""


def main() -> None:
    page = reference()
    if sys.argv[1:] == ["--check"]:
        if PAGE.read_text(encoding="utf-8") != page:
            sys.exit(f"{PAGE.name} is stale; run python tools/cli_reference.py")
    else:
        PAGE.write_text(page, encoding="utf-8")


def reference() -> str:
    """Return the page: a section for each command."""
    summary = "".join(f"| [`{name}`](#rehead-{name}) | {about} |\n" for name, about in COMMANDS.items())
    return f"{INTRODUCTION}\n| command | what it does |\n| --- | --- |\n{summary}" + "".join(map(section, COMMANDS))


def section(name: str) -> str:
    """Return what a command does, how it is called, its arguments by group, and an example."""
    command = import_module(f"rehead.cli.{name}")
    parser = argparse.ArgumentParser(prog=f"rehead {name}", add_help=False)
    command.add_arguments(parser)
    operands = [action for action in parser._actions if not action.option_strings]
    call = " ".join([f"rehead {name}", *map(named, operands), "[options]"])
    about = COMMANDS[name]
    tables = "".join(tables_of(parser))
    is_described = (PAGE.parent / "schemas" / f"{name}.json").is_file()
    schema = f" The JSON has a [schema](schemas/{name}.json)." if is_described else ""
    return (
        f"\n## rehead {name}\n\n{about[0].upper()}{about[1:]}.{schema}\n\n```text\n{call}\n```\n{tables}\n"
        f"Example:\n\n<!-- not run: names files of the reader's own -->\n```sh\n{command.EXAMPLE}\n```\n"
    )


def tables_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Give a table for each group of arguments."""
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions:
            title = (group.title or "").replace("positional arguments", "arguments")
            rows = "".join(f"| `{named(action)}` | {helped(action)} |\n" for action in actions)
            yield f"\n| {title} | |\n| --- | --- |\n{rows}"


def named(action: argparse.Action) -> str:
    """Return how an argument is written: its longest name first, and what it takes."""
    values = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.metavar or action.dest.upper()
    value = str(values if not isinstance(values, tuple) else values[0])
    if not action.option_strings:
        return f"{value} ..." if action.nargs == "+" else value
    names = ", ".join(sorted(action.option_strings, key=len, reverse=True))
    if action.nargs == 0:
        return names
    return f"{names} [{value}]" if action.nargs == "?" else f"{names} {value}"


def helped(action: argparse.Action) -> str:
    """Return the help of an argument, as a cell of a table."""
    return ((action.help or "") % vars(action)).replace("|", "\\|")


if __name__ == "__main__":
    main()
