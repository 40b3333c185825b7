"""Declare the arguments that several commands share."""

from __future__ import annotations

import argparse
import re
from typing import Any

DATA = "a file (CSV, TSV, JSON Lines, Parquet), a folder or zip of images, or sample:NAME"


def add_option(parser: argparse._ActionsContainer, shown: str, *aliases: str, **settings: Any) -> None:
    """Add an option with older names that still work; only the first is in the help.

    Args:
        settings: as `add_argument` takes them.
    """
    settings.setdefault("dest", shown.removeprefix("--").replace("-", "_"))
    parser.add_argument(shown, **settings)
    parser.add_argument(*aliases, **settings | {"help": argparse.SUPPRESS, "default": argparse.SUPPRESS})


def add_model_folder(parser: argparse._ActionsContainer) -> None:
    """Add MODEL, a saved classifier."""
    parser.add_argument("model", metavar="MODEL", help="a folder that rehead fit has written")


def add_on(parser: argparse._ActionsContainer) -> None:
    """Add --on, the cluster that does the work."""
    parser.add_argument(
        "--on",
        metavar="CLUSTER",
        help="work on a Ray cluster: ray for the one of $RAY_ADDRESS, or else of this machine alone; "
        "ray://HOST:PORT for another",
    )


def add_backbone(parser: argparse._ActionsContainer, about: str, **settings: Any) -> None:
    """Add --model, the pretrained model; `--base` is its older name."""
    add_option(parser, "--model", "--base", dest="base", metavar="NAME", help=about, **settings)


def add_columns(parser: argparse._ActionsContainer) -> None:
    """Add the columns of texts and labels."""
    parser.add_argument("--text-column", metavar="C", help="column of the texts (found by its name and content)")
    parser.add_argument("--label-column", metavar="C", help="column of the labels (found likewise)")


def add_separator(parser: argparse._ActionsContainer) -> None:
    """Add what stands between the labels of one text."""
    parser.add_argument(
        "--label-separator",
        metavar="S",
        help='between the labels of a text that may have several ("" if each has one; arrays and ; are noticed)',
    )


def add_test(parser: argparse._ActionsContainer) -> None:
    """Add a test set of the user's own."""
    parser.add_argument("--test", metavar="DATA", help="test set of your own; else divided off DATA")


def add_max_length(parser: argparse._ActionsContainer) -> None:
    """Add the number of tokens that are read of a text."""
    parser.add_argument("--max-length", type=int, default=512, metavar="N", help="tokens kept of a text (%(default)s)")


def add_seed(parser: argparse._ActionsContainer) -> None:
    """Add the seed of everything random."""
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of everything random; the same one gives the same result (%(default)s)",
    )


def add_output(parser: argparse._ActionsContainer, default: str) -> None:
    """Add the folder that is written."""
    parser.add_argument("-o", "--output", default=default, metavar="DIR", help="folder to write (%(default)s)")


def add_verbose(parser: argparse._ActionsContainer) -> None:
    """Add the wish for what was computed, beside what came of it."""
    parser.add_argument("-v", "--verbose", action="store_true", help="show how much was computed, too")


def duration(text: str) -> float:
    """Return the seconds in "90s", "10m", "2h" or a plain number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 10m or 2h, not {text!r}")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def listed(text: str) -> list[str]:
    """Return the parts of "A,B"."""
    return [part.strip() for part in text.split(",") if part.strip()]
