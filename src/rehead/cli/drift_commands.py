"""The command `drift`; see `rehead.cli.commands`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rehead.cli.inputs import read_input


def drift(options: argparse.Namespace) -> None:
    from rehead.data.samples import require_source

    if options.data != "-":
        require_source(options.data)  # before torch is imported, which takes seconds
    _, inputs, _ = read_input(options.data, options.text_column, Path(options.model))
    from rehead.drift.workflow import drift as run

    facts = run(options.model, inputs)
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        _print(facts)


# What a measure is called, and how its means are written.
_SHOWN = {
    "label": ("predicted labels", "{:.1%}"),
    "confidence": ("confidence", "{:.3f}"),
    "length": ("length in characters", "{:,.0f}"),
    "vocabulary": ("unknown words", "{:.1%}"),
    "embedding": ("what the head sees", "{}"),
}


def _print(facts: dict[str, Any]) -> None:
    """A line for each measure, and the advice."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from rehead.cli.printing import shortened

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n{facts['n']:,} inputs, beside {facts['reference']:,} that the classifier was tested on\n")
    table = Table("measure", box=None, pad_edge=False)
    for name in ("reference", "now", "distance", "threshold", "drifted"):
        table.add_column(name, justify="right")
    changed = max(facts["labels"].items(), key=lambda entry: abs(entry[1]["now"] - entry[1]["reference"]))
    for name, measure in facts["measures"].items():
        title, form = _SHOWN[name]
        means = measure["reference"], measure["now"]
        if name == "label":
            title, means = f"{title}: {shortened(changed[0])}", (changed[1]["reference"], changed[1]["now"])
        table.add_row(
            escape(title),
            *("" if mean is None else form.format(mean) for mean in means),
            f"{measure['value']:.3f}",
            f"{measure['threshold']:.3f}",
            "[bold red]yes[/bold red]" if measure["drifted"] else "no",
        )
    if facts["measures"]:
        console.print(table)
        console.print()
    console.print(facts["advice"], markup=False)
