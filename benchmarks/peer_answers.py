"""What the peers' scripts have in common: the clock, and the JSON that they print.

Runs in the peers' environment; the names are those of `rehead fit --json`.
"""

import json
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate")


class Clock:
    """Seconds by stage, each from the end of the stage before it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._last
        self._last = now


def scores(predicted: list[str], labels: list[str]) -> dict[str, float]:
    from sklearn.metrics import f1_score

    right = sum(guess == label for guess, label in zip(predicted, labels, strict=True))
    return {"accuracy": right / len(labels), "macro_f1": float(f1_score(labels, predicted, average="macro"))}


def logits_in_order(trainer: Any, examples: list[dict[str, Any]]) -> Any:
    """What a Trainer predicts, in the order of the examples.

    Where it trains on batches of like length, it predicts in such batches, too, and returns the rows as they came.
    """
    trainer.args.train_sampling_strategy = "random"
    predicted = trainer.predict(examples)
    assert predicted.label_ids.tolist() == [example["labels"] for example in examples]
    return predicted.predictions


def answer(clock: Clock, test: dict[str, float], *packages: str) -> None:
    """Prints the one line."""
    versions = {name: version(name) for name in (*PACKAGES, *packages)}
    print(json.dumps({"test": test, "seconds": clock.seconds, "versions": versions}))


def keep(file: Path, classes: Sequence[str], predicted: Sequence[Sequence[str]], probabilities: Any = None) -> None:
    """Writes what was predicted for each test row, for `accuracy.py` to score.

    Args:
        classes: in the order of the columns of `probabilities`.
        predicted: (n,) the labels of each row, one each unless a text may have several.
        probabilities: (n, n_classes), or None where the method has none.
    """
    rows = None if probabilities is None else [[round(float(p), 7) for p in row] for row in probabilities]
    answers = {"classes": list(classes), "predicted": [list(row) for row in predicted], "probabilities": rows}
    file.write_text(json.dumps(answers), encoding="utf-8")
