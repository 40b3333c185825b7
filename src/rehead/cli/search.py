"""`rehead search`: look for good settings, then fit with the best."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.inputs import sources_of
from rehead.cli.terminal import console, print_json
from rehead.runtime.wording import counted, escaped

if TYPE_CHECKING:
    from rehead.comparison.search import SearchResult

EXAMPLE = "rehead search tickets.csv --trials 30 --budget 1h"

_LISTED_TRIALS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `search`."""
    parser.add_argument("data", metavar="DATA", help=f"labelled texts or images: {arguments.DATA}")
    parser.add_argument(
        "--trials",
        type=int,
        default=20,
        metavar="N",
        help="trials in all, those of an earlier search included (%(default)s)",
    )
    arguments.add_backbone(parser, "pretrained model, as for rehead fit (%(default)s)", default="auto")
    parser.add_argument(
        "--budget",
        type=arguments.duration,
        metavar="T",
        help="no trial begins after this time: 90s, 10m, 2h (no limit)",
    )
    arguments.add_max_length(parser)
    parser.add_argument(
        "--storage",
        metavar="FILE",
        default="rehead-search.sqlite",
        help="SQLite file that keeps the trials, or a database's address; several processes may share it (%(default)s)",
    )
    arguments.add_columns(parser)
    arguments.add_test(parser)
    arguments.add_seed(parser)
    arguments.add_output(parser, "rehead-model")
    arguments.add_verbose(parser)


def run(options: argparse.Namespace) -> None:
    """Search, fit with the best settings, and print both."""
    sources = sources_of(options)  # before torch is imported, which takes seconds
    from rehead.classifier import Classifier
    from rehead.cli import evaluation_view
    from rehead.comparison.search import SearchedFit, search
    from rehead.workflows.fit import fit

    model = Classifier(options.base, max_length=options.max_length, random_state=options.seed)
    found = search(sources, model, n_trials=options.trials, storage=options.storage, budget=options.budget)
    fitted = fit(sources, found.model, options.output)
    if options.json:
        print_json(SearchedFit(fit=fitted, search=found).to_json())
    else:
        _print_trials(found)
        evaluation_view.print_evaluation(fitted, options.verbose)
        evaluation_view.print_saved(fitted)


def _print_trials(result: SearchResult) -> None:
    """Print the best trials."""
    terminal = console()
    finished = [trial for trial in result.trials if trial.state == "complete"]
    n = counted(len(result.trials), "trial")
    terminal.print(f"{n}, {len(finished)} of them to their end; the best by validation loss:")
    for trial in sorted(finished, key=lambda trial: trial.validation_log_loss or 0.0)[:_LISTED_TRIALS]:
        settings = ", ".join(
            f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.settings.items()
        )
        terminal.print(escaped(f"  {trial.validation_log_loss:.4f}  {settings}"), markup=False)
    terminal.print()
