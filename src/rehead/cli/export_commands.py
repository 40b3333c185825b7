"""The command `export`; see `rehead.cli.commands`."""

from __future__ import annotations

import argparse
import json
from typing import Any


def export(options: argparse.Namespace) -> None:
    from rehead.data.samples import require_source

    if options.data:
        require_source(options.data)  # before torch is imported, which takes seconds
    from rehead.export.workflow import export as run

    facts = run(
        options.model,
        options.format,
        options.output,
        int8=options.int8,
        data=options.data,
        text_column=options.text_column,
    )
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))
    else:
        print(*_lines(facts), sep="\n")


def _lines(facts: dict[str, Any]) -> list[str]:
    what, difference, speed = facts["what"], facts["largest_difference"], facts["a_second"]
    numbers = "8-bit integers" if facts["int8"] else "float32"
    runtime = "onnxruntime" if facts["format"] == "onnx" else "Transformers"
    return [
        f"{facts['same']:,} of {facts['compared']:,} {what} keep their labels ({facts['agreement']:.2%}); "
        f"probabilities differ by {difference['probability']:.1e} at most",
        f"{speed['export']:,.0f} {what} a second in {runtime}, {speed['rehead']:,.0f} in rehead (float32)",
        f"model   {facts['output']} ({facts['format']}, {numbers}, {facts['bytes'] / 1e6:,.1f} MB)",
    ]
