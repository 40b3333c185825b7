"""`rehead inspect`: audit labelled data; with a classifier, rank suspicious labels or draw a learning curve."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.inputs import sources_of
from rehead.cli.terminal import capitalised, cell, console, print_json, print_next, table
from rehead.runtime.errors import SettingError
from rehead.runtime.wording import counted, escaped

if TYPE_CHECKING:
    from rehead.analysis.inspection import Audit
    from rehead.analysis.label_study import LabelReport

EXAMPLE = "rehead inspect tickets.csv --model minilm"

_LISTED_CLASSES = 20
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
# Characters of the longest bar of a histogram.
_BAR = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inspect`."""
    parser.add_argument(
        "inputs",
        metavar="[MODEL] DATA",
        nargs="+",
        help=f"labelled texts or images: {arguments.DATA}; and a saved classifier before them",
    )
    parser.add_argument(
        "--label-errors", metavar="FILE", nargs="?", const="", help="with MODEL: rank labels that may be wrong"
    )
    parser.add_argument("--learning-curve", action="store_true", help="with MODEL: what more labels would bring")
    arguments.add_columns(parser)
    arguments.add_separator(parser)
    parser.add_argument("--test", metavar="DATA", help="test set of your own: is any of it in DATA?")
    arguments.add_backbone(parser, "count this pretrained model's tokens, and what of them is cut off")
    arguments.add_max_length(parser)


def run(options: argparse.Namespace) -> None:
    """Audit the data, or study its labels with a classifier."""
    *models, options.data = options.inputs
    studies = options.label_errors is not None or options.learning_curve
    if len(models) > 1 or bool(models) != studies:
        raise SettingError("give DATA alone, or MODEL and DATA with `label_errors` or `learning_curve`")
    sources = sources_of(options)  # before torch is imported, which takes seconds
    from rehead.analysis import label_study
    from rehead.analysis.inspection import inspect

    if not models:
        result = inspect(sources, options.base, options.max_length)
        print_json(result.to_json()) if options.json else _print_audit(result, options)
        return
    errors = curve = None
    if options.label_errors is not None:
        errors = label_study.label_errors(models[0], sources, options.label_errors or None)
    if options.learning_curve:
        curve = label_study.curve_of_model(models[0], sources)
    report = label_study.LabelReport(errors=errors, learning_curve=curve)
    print_json(report.to_json()) if options.json else _print_label_study(report)


def _print_audit(result: Audit, options: argparse.Namespace) -> None:
    """Print rows, classes, lengths, then each finding with its cure and examples, and what to do next."""
    from rich.markup import escape

    terminal = console()
    rows = result.rows
    dropped = ", ".join(f"{count:,} ({reason})" for reason, count in rows.dropped.items())
    terminal.print(f"\n{counted(rows.read, 'row')}, {rows.used:,} used{f'; left out: {dropped}' if dropped else ''}")
    classes = table("class", right=("rows",))
    for name, count in list(result.classes.items())[:_LISTED_CLASSES]:
        classes.add_row(cell(name), f"{count:,}")
    if (more := len(result.classes) - _LISTED_CLASSES) > 0:
        classes.add_row(f"and {more:,} more", "")
    terminal.print("", classes)
    if (lengths := result.lengths) is not None:
        histogram = table(cell(lengths.unit), right=("texts",))
        histogram.add_column("")
        most = max(lengths.histogram.values())
        for end, count in lengths.histogram.items():
            histogram.add_row(f"to {int(end):,}", f"{count:,}", "█" * round(_BAR * count / most))
        terminal.print("", histogram)
    terminal.print()
    for finding in result.findings:
        colour = _COLOURS[finding.grade]
        title, advice = (escape(escaped(text)) for text in (finding.title, finding.advice))
        terminal.print(f"[{colour}]{finding.grade}[/{colour}]: {title}")
        terminal.print(f"  {advice}")
        for example in finding.examples:
            where = ", ".join(f"{name} {value}" for name, value in example.items() if name != "text")
            text = f": {example['text']}" if "text" in example else ""
            terminal.print(f"  [dim]{escape(escaped(where + text))}[/dim]")
    if not result.findings:
        terminal.print("nothing was found")
    mend = "mend the errors, then " if any(finding.grade == "error" for finding in result.findings) else ""
    print_next("fit", options, before=mend)


def _print_label_study(report: LabelReport) -> None:
    """Print labels that are probably wrong, and what more of them would bring."""
    terminal = console()
    if report.errors:
        errors = report.errors.errors
        n = errors.suspected
        are = "is" if n == 1 else "are"
        terminal.print(f"\n{n:,} of {counted(errors.examined, 'label')} {are} suspected to be wrong\n")
        suspicious = table("row", "label", "suggested", "margin", "text")
        for row in errors.most_suspicious:
            margin = f"{row.margin:.2f}"
            suspicious.add_row(str(row.row), cell(row.label), cell(row.suggested), margin, cell(row.text))
        terminal.print(suspicious)
    if report.learning_curve:
        curve = report.learning_curve.curve
        shown = table("labels", right=("error",))
        for size, error in zip(curve.sizes, curve.mean_errors, strict=True):
            shown.add_row(f"{size:,}", f"{error:.2%}")
        terminal.print("", shown)
        terminal.print(f"\n[bold]{capitalised(curve.verdict)}[/bold]")
