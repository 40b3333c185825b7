"""The command line: find the command, parse its arguments, run it, and turn errors into one line and an exit code.

Results go to stdout (one JSON object with --json, and nothing else), everything else to stderr. Exit codes: 0
success, 2 a mistake of the user's, 1 a fault of rehead's own, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import re
import sys
import traceback
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from rehead.cli.flags import as_flags, did_you_mean
from rehead.cli.terminal import capitalised
from rehead.runtime import progress
from rehead.runtime.errors import RheadError
from rehead.runtime.wording import escaped

# Each is a file beside this one, which is imported when its command is called.
COMMANDS = {
    "fit": "fine-tune a classifier on labelled texts or images, evaluate and save it",
    "predict": "classify a text, tables of any length, lines of stdin, or images",
    "evaluate": "measure a saved classifier on labelled texts or images",
    "inspect": "find what is wrong with labelled texts, without training",
    "explain": "show which words, or parts of an image, an answer rests on",
    "drift": "compare new texts with those that the model was tested on",
    "export": "write a model for other programs, and check it",
    "serve": "answer over HTTP: an API, a page, and jobs on files",
    "compare": "measure which approach your own labelled texts call for",
    "search": "look for good settings, then fit with the best",
    "instruct": "fine-tune a language model on requests and answers",
    "generate": "let a language model answer a request",
    "bases": "list the pretrained models that rehead knows by name",
    "samples": "list the data sets that rehead knows by name",
    "cache": "show or clear the features that fits have computed and kept",
    "completion": "print what lets a shell complete commands and options",
    "doctor": "show versions, device and speed, cache, and what can be fetched",
}

# What the libraries beneath read from the environment when they are loaded; what the user has set stays.
_ENVIRONMENT = {
    # Threads that wait for each other must not spin for long: on a machine that does anything else besides, a trunk
    # pass took up to eight times as long with them. GNU's OpenMP may do so some microseconds: asleep at once, threads
    # made a step of the tail take 25 instead of 16 ms.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "3000",
    # oneDNN keeps the code that it made for each shape of a product, 1,024 of them by default. Those of attention
    # hardly ever come again; the others do, since batches are filled to multiples of 16 tokens: with 64 of them a
    # server answered 216 requests a second instead of 245, and with 1,024 no more but in another 70 MB.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "512",
    # Above it each thread keeps what torch has prepared for each shape of a product, 1,024 of them by default: 0.5 GB
    # and more in a server that is asked for texts of all lengths. What comes again comes soon.
    "LRU_CACHE_CAPACITY": "64",
}
# Python looks for garbage after every 700 new objects, and imports make millions of them, none of which is garbage:
# a second of each command. See gc.set_threshold; it stays so for the whole command.
_GARBAGE = (10_000, 10, 10)
# A full disk or quota, and a file beyond the limit of its size (ulimit -f).
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# How torch, NumPy and onnxruntime say so, where they do not raise a MemoryError.
_NO_MEMORY = re.compile("allocate memory|out of memory|bad_alloc", re.IGNORECASE)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the `rehead` command and exit."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    gc.set_threshold(*_GARBAGE)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it is closed
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - to the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not be able to show every character
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    progress.show(True, words=lambda message: as_flags(message, options.command))
    try:
        options.run(options)
        sys.stdout.flush()
    except RheadError as error:
        _fail(options, error, str(error), 2)
    except KeyboardInterrupt as error:
        _fail(options, error, str(error) or "interrupted; nothing was written", 130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; stop the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if ran_out := _ran_out(error):
            _fail(options, error, ran_out, 2)
        first = (str(error).splitlines() or [""])[0]
        _fail(options, error, f"a fault of rehead's own: {type(error).__name__}: {first} (run with --debug)", 1)
    sys.exit(0)


def _ran_out(error: Exception) -> str | None:
    """Return what to do where the machine has not enough memory or space on a disk; None for any other error."""
    if isinstance(error, OSError) and error.errno in _NO_SPACE:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot write{where} ({error.strerror}); free some space, raise the limit, or write elsewhere"
    is_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if is_memory or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return (
            "out of memory; close other programs, or use a smaller model, shorter texts, smaller batches or less data"
        )
    return None


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options, with `run` and the `command`'s own parser among them."""
    named = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser, commands = parser_of([] if named is None else [named])
    if named is not None and named not in COMMANDS:
        parser.error(f"there is no command {named!r}{did_you_mean(named, COMMANDS)}")
    if named is not None:
        commands[named].refuse_unknown(arguments[arguments.index(named) + 1 :])
    if named != "fit":
        return parser.parse_args(arguments)
    from rehead.cli.recipes import with_written_settings

    try:
        return with_written_settings(parser, arguments)
    except RheadError as error:
        commands[named].error(str(error))


def parser_of(names: Collection[str]) -> tuple[_Parser, dict[str, _Parser]]:
    """Return the parser of the command line and that of each command, with the arguments of those in `names` alone."""
    parser = _Parser(
        prog="rehead",
        description="Put a classification head on a pretrained model and fine-tune it, in seconds.",
        epilog="example:\n  rehead fit sample:sms\n\nrehead COMMAND --help describes a command.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    by_name = {}
    for name, about in COMMANDS.items():
        by_name[name] = commands.add_parser(name, help=about, description=f"{capitalised(about)}.")
        if name in names:
            _complete(by_name[name], import_module(f"rehead.cli.{name}"))
    return parser, by_name


def _complete(parser: argparse.ArgumentParser, command: ModuleType) -> None:
    """Add what the file of a command holds, its arguments, `run` and EXAMPLE, and what all of them take."""
    command.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else there")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.epilog = f"example:\n  {command.EXAMPLE}"
    parser.set_defaults(run=command.run, command=parser)


class _Parser(argparse.ArgumentParser):
    """One line and exit code 2 for a mistake on the command line, without the usage text."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=_Help, **settings)

    def error(self, message: str) -> NoReturn:
        hint = " See" if message.endswith("?") else "; see"
        print(escaped(f"rehead: {message}{hint} {self.prog} --help"), file=sys.stderr)
        sys.exit(2)

    def refuse_unknown(self, arguments: list[str]) -> None:
        """Stop at an option that is none, before argparse misses what it takes for absent because of it."""
        known = self._option_string_actions
        shown = [option for option, action in known.items() if action.help != argparse.SUPPRESS]
        for argument in arguments:
            if argument == "--":
                return
            name = argument.partition("=")[0]
            # What argparse takes for an option: it may be shortened, and a text with spaces is none.
            is_option = argument.startswith("--") and " " not in argument
            if is_option and not any(option.startswith(name) for option in known):
                self.error(f"there is no option {name}{did_you_mean(name, shown)}")


def _fail(options: argparse.Namespace, error: BaseException, message: str, code: int) -> NoReturn:
    if options.debug:
        traceback.print_exception(error)
    line = as_flags(message.replace("\n", " "), options.command)
    print(f"rehead: {escaped(line)}", file=sys.stderr)
    sys.exit(code)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Count the indentation of the commands, too, which argparse leaves out, so that the longest stands in its line."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> None:
        from importlib.metadata import version

        print(f"rehead {version('rehead')}")
        sys.exit(0)
