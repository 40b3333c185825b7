"""`rehead compare`: measure which approach the user's own texts call for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.flags import as_flags
from rehead.cli.inputs import sources_of
from rehead.cli.terminal import print_json, print_next
from rehead.runtime.wording import escaped

if TYPE_CHECKING:
    from rehead.comparison.results import ComparisonResult

EXAMPLE = "rehead compare tickets.csv --approaches tfidf,probe,last-1 --budget 5m"

# Columns of a terminal from which on intervals are shown in the table.
_WIDE = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare`."""
    parser.add_argument("data", metavar="DATA", help="labelled texts: a file or sample:NAME")
    parser.add_argument(
        "--approaches",
        type=arguments.listed,
        metavar="A,B",
        help="majority, tfidf, zero-shot, few-shot, probe, last-1, lora, full, instruction, setfit (all)",
    )
    arguments.add_option(
        parser,
        "--model",
        "--base",
        dest="base",
        type=arguments.listed,
        metavar="A,B",
        default="smollm2,minilm",
        help="pretrained models: each gets a probe, the first is tuned, the first decoder is prompted (%(default)s)",
    )
    parser.add_argument("--examples", type=int, metavar="N", help="learn from N training texts at most (from all)")
    parser.add_argument(
        "--budget",
        type=arguments.duration,
        default="10m",
        metavar="T",
        help="time for all of them: 90s, 10m, 2h (%(default)s)",
    )
    arguments.add_columns(parser)
    arguments.add_test(parser)
    arguments.add_max_length(parser)
    arguments.add_seed(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted comparison in the same folder")
    arguments.add_output(parser, "rehead-comparison")


def run(options: argparse.Namespace) -> None:
    """Compare, and print what is recommended."""
    sources = sources_of(options)  # before torch is imported, which takes seconds
    from rehead.comparison.approaches import TITLES
    from rehead.comparison.compare import compare

    result = compare(
        sources,
        names=options.approaches or list(TITLES),
        bases=options.base,
        n_examples=options.examples,
        budget=options.budget,
        max_length=options.max_length,
        random_state=options.seed,
        output=options.output,
        resume=options.resume,
    )
    print_json(result.to_json()) if options.json else _print_comparison(result, options)


def _print_comparison(result: ComparisonResult, options: argparse.Namespace) -> None:
    """Print the table of approaches, what is recommended, and how to make it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = Console(highlight=False, markup=False)  # which wraps sentences between words
    approaches = Table(box=None, padding=(0, 2, 0, 0))
    columns = ["approach", "accuracy", "p", "seconds", "ms a text", "outside"]
    if wide := terminal.width >= _WIDE:
        columns.insert(2, "95 % interval")
    for name in columns:
        approaches.add_column(name, justify="left" if name == "approach" else "right", no_wrap=name != "approach")
    for row in result.approaches:
        low, high = row.accuracy_ci
        cached = f" (+{row.cached_seconds:.0f})" if row.cached_seconds >= 1 else ""
        approaches.add_row(
            Text(escaped(row.title), style="bold" if row.name == result.recommended else ""),
            f"{100 * row.accuracy:.1f} %",
            *([f"{100 * low:.1f} to {100 * high:.1f}"] if wide else []),
            "" if row.p_value is None else f"{row.p_value:.3f}",
            f"{row.seconds:.0f}{cached}",
            f"{row.milliseconds:.1f}",
            "" if row.outside is None else f"{100 * row.outside:.0f} %",
        )
    terminal.print(approaches)
    for name, reason in result.not_tried.items():
        terminal.print(escaped(as_flags(f"not tried: {name}: {reason}", options.command)))
    terminal.print()
    for i, sentence in enumerate(result.reasons):
        terminal.print(escaped(sentence), style="bold" if i == 0 else "")
    if result.report:
        terminal.print(escaped(f"report: {result.report}"))
    if settings := _settings_of_fit(result.recommended, result.bases):
        print_next("fit", options, *settings)


def _settings_of_fit(recommended: str, bases: tuple[str, ...]) -> list[str]:
    """Return the options with which `rehead fit` makes what is recommended; none where it makes something else."""
    name, _, base = recommended.partition(":")
    if name == "tfidf":
        return ["--model", "tfidf"]
    if name == "probe":
        return ["--model", base, "--strategy", "head"]
    return ["--model", bases[0], "--strategy", name] if name in ("last-1", "lora", "full") else []
