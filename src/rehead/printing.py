"""What the command line shows a person: an evaluation, a plan, one line of a text."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def evaluation(facts: dict[str, Any]) -> None:
    """Headline, what the baselines reach on the same texts, per-class table, confusion matrix."""
    console = Console(highlight=False, soft_wrap=True)
    test, overlap = facts["test"], facts["overlap"]
    low, high = test["accuracy_ci"]
    console.print(f"\n[bold]{test['accuracy']:.2%}[/bold] accuracy on {test['n']:,} test texts", end="")
    console.print(f", 95 % interval {low:.2%} to {high:.2%}")
    console.print(f"macro F1 {test['macro_f1']:.4f}, log loss {test['log_loss']:.4f}, ECE {test['ece']:.4f}")

    table = Table("on the same test texts", title_justify="left", box=None, pad_edge=False)
    columns: dict[str, Any] = {"": test | {"baselines": facts["baselines"]}}
    if overlap and overlap["test_without"]:
        columns[" without overlap"] = overlap["test_without"] | {"baselines": overlap["baselines_without"]}
    for suffix in columns:
        table.add_column(f"accuracy{suffix}", justify="right")
        table.add_column(f"macro F1{suffix}", justify="right")
    approaches = [("rehead", None), ("TF-IDF + logistic regression", "tfidf"), ("majority class", "majority")]
    for title, key in approaches if facts["baselines"] else approaches[:1]:
        measured = [values["baselines"][key] if key else values for values in columns.values()]
        table.add_row(title, *(cell for m in measured for cell in (f"{m['accuracy']:.2%}", f"{m['macro_f1']:.4f}")))
    console.print(table)

    table = Table("class", box=None, pad_edge=False)
    for name in ("precision", "recall", "F1", "test texts"):
        table.add_column(name, justify="right")
    for row in test["per_class"]:
        values = (
            f"{row['precision']:.4f}",
            f"{row['recall']:.4f}",
            f"{row['f1']:.4f}",
            f"{row['support']:,}",
        )
        table.add_row(_plain(row["label"]), *values)
    console.print()
    console.print(table)

    if len(facts["labels"]) <= 12:
        table = Table("true \\ predicted", box=None, pad_edge=False)
        for label in facts["labels"]:
            table.add_column(_plain(label), justify="right")
        for label, counts in zip(facts["labels"], test["confusion"], strict=True):
            table.add_row(_plain(label), *(f"{count:,}" for count in counts))
        console.print()
        console.print(table)
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in facts["seconds"].items())
    console.print(
        f"\nseconds: {seconds}; {facts['flops'] / 1e12:.2f} TFLOP; {facts['peak_rss_bytes'] / 1e9:.2f} GB at most"
    )
    if facts.get("peak_share"):
        console.print(
            f"trunk pass: {facts['gflops']:.0f} GFLOP/s, {facts['peak_share']:.0%} of this machine's matrix product"
        )


def _plain(label: str) -> str:
    return escape(shortened(label))


def shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."


def plan(facts: dict[str, Any]) -> None:
    """What a fit would take."""
    console = Console(highlight=False, soft_wrap=True)
    operations = (facts["trunk_flops"] + facts["training_flops"]) / 1e12
    rows = facts["rows"]
    console.print(f"\n{rows['train']:,} training, {rows['validation']:,} validation, {rows['test']:,} test texts")
    console.print(
        f"{facts['tokens']:,} tokens; {operations:.1f} TFLOP, of which {facts['training_flops'] / 1e12:.1f} training"
    )
    console.print(f"about {facts['seconds']:.0f} seconds, {facts['peak_memory_bytes'] / 1e9:.1f} GB of memory", end="")
    console.print(f" and {facts['features_bytes'] / 1e6:.0f} MB of features on disk; nothing was trained")
