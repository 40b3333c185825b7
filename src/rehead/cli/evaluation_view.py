"""Print what `fit`, `evaluate` and `search` have measured."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rehead.cli.terminal import capitalised, cell, console, table
from rehead.data.labels import EVEN
from rehead.evaluation.baselines import rivals, said_beside
from rehead.runtime.wording import counted, escaped

if TYPE_CHECKING:
    from rich.console import Console

# With more classes the confusion matrix is wider than a terminal.
_CONFUSED_CLASSES = 12


def print_evaluation(result: dict[str, Any], verbose: bool) -> None:
    """Print the headline, what the baselines reach on the same examples, and each class.

    Args:
        verbose: whether to say how much was computed.
    """
    terminal = console()
    _print_headline(terminal, result)
    _print_approaches(terminal, result)
    _print_classes(terminal, result)
    _print_decisions(terminal, result["decisions"])
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in result["seconds"].items())
    terminal.print(f"\nseconds: {seconds}; {result['peak_rss_bytes'] / 1e9:.2f} GB at most")
    if verbose and result["flops"]:
        terminal.print(f"computed: {result['flops'] / 1e12:.2f} TFLOP")
    if verbose and result.get("peak_share"):
        terminal.print(
            f"trunk pass: {result['gflops']:.0f} GFLOP/s, {result['peak_share']:.0%} of this machine's matrix product"
        )


def print_saved(result: dict[str, Any]) -> None:
    """Print where a fit has saved what, and what to do next."""
    example = '"a text"' if result["what"] == "texts" else "an-image.png"
    print(f"\nmodel   {escaped(result['model'])}\nreport  {escaped(result['report'])}")
    print(f"next    rehead predict {escaped(shlex.quote(result['model']))} {example}")


def _print_headline(terminal: Console, result: dict[str, Any]) -> None:
    test = result["test"]
    low, high = test["accuracy_ci"]
    of_all = "of all labels of a text together, " if result["multilabel"] else ""
    number = counted(test["n"], f"test {result['what'].removesuffix('s')}")
    terminal.print(
        f"\n[bold]{test['accuracy']:.2%}[/bold] accuracy {of_all}on {number}, 95 % interval {low:.2%} to {high:.2%}"
    )
    if result.get("folds"):
        terminal.print("by fold: " + ", ".join(f"{fold['accuracy']:.2%}" for fold in result["folds"]))
    low, high = test["intervals"]["macro_f1"]
    micro = f"micro F1 {test['micro_f1']:.4f}, " if "micro_f1" in test else ""
    terminal.print(
        f"{micro}macro F1 {test['macro_f1']:.4f} ({low:.4f} to {high:.4f}), log loss {test['log_loss']:.4f}, "
        f"ECE {test['ece']:.4f}"
    )
    if result["baseline_factor"]:
        terminal.print(capitalised(said_beside(result["what"], result["baseline_factor"])))
    if result["comparison"]:
        # On the texts that it has not learned from, where there are others too.
        without = (result["overlap"] or {}).get("comparison_without")
        verdict = f"without the overlap: {without['verdict']}" if without else result["comparison"]["verdict"]
        terminal.print(f"[bold]{capitalised(verdict)}[/bold]")


def _print_approaches(terminal: Console, result: dict[str, Any]) -> None:
    test, overlap = result["test"], result["overlap"]
    columns: dict[str, Any] = {"": test | {"baselines": result["baselines"]}}
    if overlap and overlap["test_without"]:
        columns[" without overlap"] = overlap["test_without"] | {"baselines": overlap["baselines_without"]}
    measures = [f"{measure}{suffix}" for suffix in columns for measure in ("accuracy", "macro F1")]
    shown = table(f"on the same test {result['what']}", right=measures)
    approaches: list[tuple[str, str | None]] = [("rehead", None)]
    if result["baselines"]:
        others = rivals(result["baselines"], result["base"], multilabel=result["multilabel"])
        approaches += [(name, key) for key, name in others.items()]
    for title, key in approaches:
        measured = [values["baselines"][key] if key else values for values in columns.values()]
        shown.add_row(title, *(share for m in measured for share in (f"{m['accuracy']:.2%}", f"{m['macro_f1']:.4f}")))
    terminal.print(shown)


def _print_classes(terminal: Console, result: dict[str, Any]) -> None:
    test = result["test"]
    shown = table("class", right=("precision", "recall", "F1", f"test {result['what']}"))
    for row in test["per_class"]:
        shares = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
        shown.add_row(cell(row["label"]), *shares, f"{row['support']:,}")
    terminal.print()
    terminal.print(shown)
    if "confusion" in test and len(result["labels"]) <= _CONFUSED_CLASSES:
        shown = table("true \\ predicted", right=[cell(label) for label in result["labels"]])
        for label, counts in zip(result["labels"], test["confusion"], strict=True):
            shown.add_row(cell(label), *(f"{count:,}" for count in counts))
        terminal.print()
        terminal.print(shown)


def _print_decisions(terminal: Console, decisions: dict[str, Any]) -> None:
    """Print what the rule comes to on the test texts, where there is one beside the most probable label."""
    test = decisions["test"]
    lines = []
    if "thresholds" in decisions:
        _print_thresholds(terminal, decisions)
        return
    if decisions["threshold"]:
        values = {
            name: "none" if test[name] is None else f"{test[name]:.2%}"
            for name in ("precision", "specificity", "recall")
        }
        lines.append(
            f"{cell(test['label'])} from a probability of {decisions['threshold']['at']:.4f} on: precision "
            f"{values['precision']}, specificity {values['specificity']}, recall {values['recall']} on the test's"
        )
    if decisions["costs"]:
        lines.append(f"least expected cost: {test.get('cost', 0.0):.4f} a test text")
    if decisions["abstain_below"]:
        accuracy = "none" if test["accuracy"] is None else f"{test['accuracy']:.2%}"
        lines.append(
            f"no label below a probability of {decisions['abstain_below']:g}: {test['answered']:.2%} of the test texts "
            f"get one, {accuracy} of these are right"
        )
    if decisions["coverage"]:
        lines.append(
            f"sets of labels: {test['coverage']:.2%} of the test's hold the true one ({decisions['coverage']:.0%} were "
            f"wanted), of {test['set_size']:.2f} labels on average"
        )
    if lines:
        terminal.print()
        terminal.print("\n".join(lines))


def _print_thresholds(terminal: Console, decisions: dict[str, Any]) -> None:
    """Print those that are not at even odds, of a classifier whose texts may have several labels."""
    moved = {name: at for name, at in decisions["thresholds"].items() if at != EVEN}
    if not moved:
        return
    test = decisions["test"]
    shown = table("class", right=("from a probability of",))
    for name, at in moved.items():
        shown.add_row(cell(name), f"{at:.4f}")
    terminal.print()
    terminal.print(shown)
    terminal.print(
        f"with these thresholds: accuracy {test['accuracy']:.2%}, micro F1 {test['micro_f1']:.4f}, "
        f"macro F1 {test['macro_f1']:.4f} on the test texts"
    )
