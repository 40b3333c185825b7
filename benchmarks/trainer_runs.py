"""How the benchmarks run transformers.Trainer, and the table of what is compared with it."""

from pathlib import Path

import peers
import results
from measure import Contender, Run

DEFAULT, BF16 = "Trainer, fp32 (its default)", "Trainer, bf16"


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
    """One row a contender; `DEFAULT` and `BF16` must be among them."""
    head = [
        "run",
        "test accuracy",
        "seconds",
        "peak GB",
        "faster than Trainer",
        "than Trainer bf16",
        "stages (seconds)",
    ]
    rows = [
        [
            title,
            results.score(own),
            results.seconds(own),
            results.gigabytes(own),
            results.times_faster(own, runs[DEFAULT]),
            results.times_faster(own, runs[BF16]),
            results.stages(own),
        ]
        for title, own in runs.items()
    ]
    return results.table(head, rows)
