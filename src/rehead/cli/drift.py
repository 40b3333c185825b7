"""`rehead drift`: compare new texts or images with those that a classifier was tested on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.inputs import read_input
from rehead.cli.terminal import cell, console, print_json, table
from rehead.runtime.wording import counted

if TYPE_CHECKING:
    from rehead.drift.workflow import DriftResult

EXAMPLE = "rehead drift rehead-model this-week.csv"

# What a measure is called, and how its means are written.
_SHOWN = {
    "label": ("predicted labels", "{:.1%}"),
    "confidence": ("confidence", "{:.3f}"),
    "length": ("length in characters", "{:,.0f}"),
    "vocabulary": ("unknown words", "{:.1%}"),
    "embedding": ("what the head sees", "{}"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `drift`."""
    arguments.add_model_folder(parser)
    parser.add_argument(
        "data",
        metavar="DATA",
        help=f"new texts or images, labelled or not: {arguments.DATA}; - for one text a line from stdin",
    )
    parser.add_argument("--text-column", metavar="C", help="column of the texts")


def run(options: argparse.Namespace) -> None:
    """Compare, and print what has changed."""
    from rehead.data.samples import require_source

    if options.data != "-":
        require_source(options.data)  # before torch is imported, which takes seconds
    _, inputs, _ = read_input(options.data, options.text_column, Path(options.model))
    from rehead.drift.workflow import drift

    result = drift(options.model, inputs)
    print_json(result.to_json()) if options.json else _print_measures(result)


def _print_measures(result: DriftResult) -> None:
    """Print a line for each measure, and the advice."""
    terminal = console()
    reference = f"{result.reference:,} that the classifier was tested on"
    terminal.print(f"\n{counted(result.n, 'input')}, beside {reference}\n")
    measures = table("measure", right=("reference", "now", "distance", "threshold", "drifted"))
    changed = max(result.labels.items(), key=lambda entry: abs(entry[1].now - entry[1].reference))
    for name, measure in result.measures.items():
        title, form = _SHOWN[name]
        means = measure.reference, measure.now
        if name == "label":
            title, means = f"{title}: {changed[0]}", (changed[1].reference, changed[1].now)
        measures.add_row(
            cell(title),
            *("" if mean is None else form.format(mean) for mean in means),
            f"{measure.value:.3f}",
            f"{measure.threshold:.3f}",
            "[bold red]yes[/bold red]" if measure.drifted else "no",
        )
    if result.measures:
        terminal.print(measures)
        terminal.print()
    terminal.print(result.advice, markup=False)
