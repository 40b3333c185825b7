"""`rehead samples`: list the data sets that rehead knows by name."""

from __future__ import annotations

import argparse

from rehead.cli.catalogue import print_catalogue

EXAMPLE = "rehead samples --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `samples` takes what all commands take."""


def run(options: argparse.Namespace) -> None:
    """Print the catalogue of data sets."""
    from rehead.data.galleries import DIGITS
    from rehead.data.samples import PREFIX, SAMPLES

    digits = ("comes with scikit-learn", "1,797 images of handwritten digits; CC BY 4.0")
    print_catalogue({f"{PREFIX}{name}": sample for name, sample in SAMPLES.items()}, {DIGITS: digits}, options.json)
