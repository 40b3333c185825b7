"""`rehead evaluate`: measure a saved classifier on labelled data, beside its baselines."""

from __future__ import annotations

import argparse

from rehead.cli import arguments
from rehead.cli.terminal import print_json
from rehead.runtime.wording import escaped

EXAMPLE = "rehead evaluate rehead-model new-tickets.csv --report report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `evaluate`."""
    arguments.add_model_folder(parser)
    parser.add_argument("data", metavar="DATA", help=f"labelled texts or images: {arguments.DATA}")
    arguments.add_columns(parser)
    parser.add_argument("--report", metavar="FILE", help="write an HTML report")
    arguments.add_verbose(parser)


def run(options: argparse.Namespace) -> None:
    """Measure, and print what came of it."""
    from rehead.data.samples import require_source

    require_source(options.data)  # before torch is imported, which takes seconds
    from rehead.cli.evaluation_view import print_evaluation
    from rehead.data.preparation import DataConfig
    from rehead.workflows.evaluate import evaluate

    sources = DataConfig(options.data, text_column=options.text_column, label_column=options.label_column)
    result = evaluate(options.model, sources, options.report)
    if options.json:
        print_json(result.to_json())
        return
    print_evaluation(result, options.verbose)
    if options.report:
        print(f"\nreport  {escaped(str(result.report))}")
