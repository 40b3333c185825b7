"""`rehead evaluate`: measure a saved classifier on labelled data, beside its baselines."""

from __future__ import annotations

import argparse

from rehead.cli import arguments
from rehead.cli.inputs import sources_of
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
    sources = sources_of(options)  # before torch is imported, which takes seconds
    from rehead.cli.evaluation_view import print_evaluation
    from rehead.workflows.evaluate import evaluate

    result = evaluate(options.model, sources, options.report)
    if options.json:
        print_json(result.to_json())
        return
    print_evaluation(result, options.verbose)
    if options.report:
        print(f"\nreport  {escaped(str(result.report_file))}")
