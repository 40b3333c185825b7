"""What the peers' scripts have in common: the clock, and the JSON that they print.

Runs in the peers' environment; the names are those of `rehead fit --json`.
"""

import json
import time
from importlib.metadata import version

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


def answer(clock: Clock, test: dict[str, float], *packages: str) -> None:
    """Prints the one line."""
    versions = {name: version(name) for name in (*PACKAGES, *packages)}
    print(json.dumps({"test": test, "seconds": clock.seconds, "versions": versions}))
