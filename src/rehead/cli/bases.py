"""`rehead bases`: list the pretrained models that rehead knows by name."""

from __future__ import annotations

import argparse

from rehead.cli.catalogue import print_catalogue

EXAMPLE = "rehead bases --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `bases` takes what all commands take."""


def run(options: argparse.Namespace) -> None:
    """Print the catalogue of pretrained models."""
    from rehead.models.registry import CATALOGUE, TFIDF

    about = "word and character n-grams with logistic regression; no pretrained model"
    print_catalogue(CATALOGUE, {TFIDF: ("nothing to fetch", about)}, options.json)
