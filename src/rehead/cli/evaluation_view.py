"""Print what `fit`, `evaluate` and `search` have measured."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rehead.cli.terminal import capitalised, cell, console, table
from rehead.data.labels import EVEN
from rehead.evaluation.baselines import rivals, said_beside
from rehead.evaluation.decisions import MultilabelDecisions, SingleLabelDecisions
from rehead.evaluation.metrics import MultilabelMetrics, SingleLabelMetrics
from rehead.runtime.wording import counted, escaped
from rehead.workflows.results import EvaluateResult, FitResult, TrainingSummary

if TYPE_CHECKING:
    from rich.console import Console

# With more classes the confusion matrix is wider than a terminal.
_CONFUSED_CLASSES = 12


def print_evaluation(result: FitResult | EvaluateResult, verbose: bool) -> None:
    """Print the headline, what the baselines reach on the same examples, and each class.

    Args:
        verbose: whether to say how much was computed.
    """
    terminal = console()
    _print_headline(terminal, result)
    _print_approaches(terminal, result)
    _print_classes(terminal, result)
    decisions = result.evaluation.decisions
    if isinstance(decisions, MultilabelDecisions):
        _print_thresholds(terminal, decisions)
    else:
        _print_decisions(terminal, decisions)
    stages = f" ({', '.join(f'{stage} {value:.1f}' for stage, value in result.seconds.items())})" if verbose else ""
    memory = f"{result.peak_rss_bytes / 1e9:.2f} GB of memory at most"
    terminal.print(f"\n{result.seconds['total']:.1f} seconds{stages}, {memory}")
    measured = result.training if isinstance(result, FitResult) else result
    if verbose and measured.flops:
        terminal.print(f"computed: {measured.flops / 1e12:.2f} TFLOP")
    if verbose and isinstance(measured, TrainingSummary) and measured.gflops and measured.peak_share:
        terminal.print(
            f"trunk pass: {measured.gflops:.0f} GFLOP/s, {measured.peak_share:.0%} of this machine's matrix product"
        )


def print_saved(result: FitResult) -> None:
    """Print where a fit has saved what, and what to do next."""
    model, report = str(result.folder), str(result.report_file)
    example = '"a text"' if result.evaluation.what == "texts" else "an-image.png"
    print(f"\nmodel   {escaped(model)}\nreport  {escaped(report)}")
    print(f"next    rehead predict {escaped(shlex.quote(model))} {example}")


def _print_headline(terminal: Console, result: FitResult | EvaluateResult) -> None:
    evaluation, settings = result.evaluation, result.settings
    test, what = evaluation.test, evaluation.what
    low, high = test.accuracy_ci
    of_all = "of all labels of a text together, " if settings.multilabel else ""
    number = counted(test.n, f"test {what.removesuffix('s')}")
    terminal.print(
        f"\n[bold]{test.accuracy:.2%}[/bold] accuracy {of_all}on {number}, 95 % interval {low:.2%} to {high:.2%}"
    )
    if isinstance(result, FitResult) and result.folds:
        terminal.print("by fold: " + ", ".join(f"{fold.accuracy:.2%}" for fold in result.folds))
    low, high = test.intervals["macro_f1"]
    micro = f"micro F1 {test.micro_f1:.4f}, " if isinstance(test, MultilabelMetrics) else ""
    terminal.print(
        f"{micro}macro F1 {test.macro_f1:.4f} ({low:.4f} to {high:.4f}), log loss {test.log_loss:.4f}, "
        f"ECE {test.ece:.4f}"
    )
    if settings.baseline_factor:
        terminal.print(capitalised(said_beside(what, settings.baseline_factor)))
    if evaluation.comparison:
        # On the texts that it has not learned from, where there are others too.
        without = evaluation.overlap and evaluation.overlap.comparison_without
        verdict = f"without the overlap: {without.verdict}" if without else evaluation.comparison.verdict
        terminal.print(f"[bold]{capitalised(verdict)}[/bold]")


def _print_approaches(terminal: Console, result: FitResult | EvaluateResult) -> None:
    evaluation, settings = result.evaluation, result.settings
    overlap = evaluation.overlap
    columns = {"": (evaluation.test, evaluation.baselines)}
    if overlap and overlap.test_without:
        columns[" without overlap"] = overlap.test_without, overlap.baselines_without
    measures = [f"{measure}{suffix}" for suffix in columns for measure in ("accuracy", "macro F1")]
    shown = table(f"on the same test {evaluation.what}", right=measures)
    approaches: list[tuple[str, str | None]] = [("rehead", None)]
    if evaluation.baselines:
        others = rivals(evaluation.baselines, settings.base, multilabel=settings.multilabel)
        approaches += [(name, key) for key, name in others.items()]
    for title, key in approaches:
        measured = [baselines[key] if key and baselines else test for test, baselines in columns.values()]
        shown.add_row(title, *(share for m in measured for share in (f"{m.accuracy:.2%}", f"{m.macro_f1:.4f}")))
    terminal.print(shown)


def _print_classes(terminal: Console, result: FitResult | EvaluateResult) -> None:
    test, labels = result.evaluation.test, result.settings.labels
    shown = table("class", right=("precision", "recall", "F1", f"test {result.evaluation.what}"))
    for row in test.per_class:
        shares = (f"{share:.4f}" for share in (row.precision, row.recall, row.f1))
        shown.add_row(cell(row.label), *shares, f"{row.support:,}")
    terminal.print("", shown)
    if isinstance(test, SingleLabelMetrics) and len(labels) <= _CONFUSED_CLASSES:
        shown = table("true \\ predicted", right=[cell(label) for label in labels])
        for label, counts in zip(labels, test.confusion, strict=True):
            shown.add_row(cell(label), *(f"{count:,}" for count in counts))
        terminal.print("", shown)


def _print_decisions(terminal: Console, decisions: SingleLabelDecisions) -> None:
    """Print what the rule comes to on the test texts, where there is one beside the most probable label."""
    test = decisions.test
    lines = []
    if decisions.threshold and test.threshold:
        found = test.threshold
        precision, specificity, recall = (
            "none" if share is None else f"{share:.2%}" for share in (found.precision, found.specificity, found.recall)
        )
        lines.append(
            f"{cell(found.label)} from a probability of {decisions.threshold.at:.4f} on: precision "
            f"{precision}, specificity {specificity}, recall {recall} on the test's"
        )
    if decisions.costs:
        lines.append(f"least expected cost: {test.cost or 0.0:.4f} a test text")
    if decisions.abstain_below:
        accuracy = "none" if test.accuracy is None else f"{test.accuracy:.2%}"
        lines.append(
            f"no label below a probability of {decisions.abstain_below:g}: {test.answered:.2%} of the test texts "
            f"get one, {accuracy} of these are right"
        )
    if decisions.coverage and test.sets:
        lines.append(
            f"sets of labels: {test.sets.coverage:.2%} of the test's hold the true one ({decisions.coverage:.0%} were "
            f"wanted), of {test.sets.set_size:.2f} labels on average"
        )
    if lines:
        terminal.print("", *lines, sep="\n")


def _print_thresholds(terminal: Console, decisions: MultilabelDecisions) -> None:
    """Print those that are not at even odds, of a classifier whose texts may have several labels."""
    moved = {name: at for name, at in decisions.thresholds.items() if at != EVEN}
    if not moved:
        return
    test = decisions.test
    shown = table("class", right=("from a probability of",))
    for name, at in moved.items():
        shown.add_row(cell(name), f"{at:.4f}")
    terminal.print("", shown)
    terminal.print(
        f"with these thresholds: accuracy {test.accuracy:.2%}, micro F1 {test.micro_f1:.4f}, "
        f"macro F1 {test.macro_f1:.4f} on the test texts"
    )
