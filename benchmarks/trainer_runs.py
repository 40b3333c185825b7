"""How the benchmarks run transformers.Trainer, and the table of what is compared with it."""

from pathlib import Path

import peers
import rehead_runs
import results
from measure import Contender, Run

# Of `peer_trainer.py`, the Trainer's default; rehead's own is lower, for it starts from a solved head.
RATE = ["--learning-rate", "5e-5"]
DEFAULT, BF16 = "Trainer, fp32 (its default)", "Trainer, bf16"


def feasible(titled: dict[str, list[str]]) -> dict[str, list[str]]:
    """Of options by title, those without `--bf16` where that is not native: it would take the Trainer hours."""
    return {title: options for title, options in titled.items() if "--bf16" not in options or rehead_runs.has_bf16()}


def contender(title: str, files: dict[str, Path], model: Path, output: Path, options: list[str]) -> Contender:
    """`peer_trainer.py` on the book's split.

    Args:
        files: see `book_files.write`.
        model: the Transformers folder that it starts from.
        output: the folder that it writes.
        options: further ones of the script.
    """
    data = ["--train", files["train"], "--test", files["test"], "--model", model, "--output", output]
    return Contender(title, peers.command("peer_trainer.py", *data, *options))


def table(runs: dict[str, list[Run]]) -> str:
    """One row a contender; `DEFAULT` must be among them."""
    references = {"faster than Trainer": DEFAULT, "than Trainer bf16": BF16}
    references = {told: title for told, title in references.items() if title in runs}
    head = ["run", "test accuracy", "seconds", "peak GB", *references, "stages (seconds)"]
    rows = [
        [
            title,
            results.score(own),
            results.seconds(own),
            results.gigabytes(own),
            *(results.times_faster(own, runs[reference]) for reference in references.values()),
            results.stages(own),
        ]
        for title, own in runs.items()
    ]
    return results.table(head, rows)
