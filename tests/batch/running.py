"""Runs that are watched and interrupted, and what they write."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rehead.artifact.predictor import Predictor, Scores
from tests.tiny_texts import messages

ANSWERS = ["predicted", "p(ham)", "p(spam)", "tokens_cut"]
KINDS = ["csv", "tsv", "jsonl", "parquet"]


class Watched:
    """A predictor that keeps the texts it was asked for, and is interrupted when it is asked for the nth time."""

    def __init__(self, predictor: Predictor, interrupted_at: int | None = None) -> None:
        self._predictor, self._interrupted_at = predictor, interrupted_at
        self.portions: list[list[str]] = []

    def scores(self, inputs: Sequence[Any]) -> Scores:
        if len(self.portions) + 1 == self._interrupted_at:
            raise KeyboardInterrupt
        self.portions.append(list(inputs))
        return self._predictor.scores(inputs)

    @property
    def texts(self) -> list[str]:
        return [text for portion in self.portions for text in portion]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What was written, a dictionary for each row."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def bad_rows_of(output: Path) -> list[dict[str, Any]]:
    beside = output.with_suffix(".bad.jsonl")
    return rows_of(beside) if beside.exists() else []


def originals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what was predicted."""
    return [{name: value for name, value in row.items() if name not in ANSWERS} for row in rows]


def state_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.rehead-run")


def same_content(first: Path, second: Path) -> bool:
    """Byte for byte, or for Parquet as tables."""
    if first.suffix == ".parquet":
        return pq.read_table(first).equals(pq.read_table(second), check_metadata=True)
    return first.read_bytes() == second.read_bytes()


def write_ids_and_messages(path: Path, n: int) -> Path:
    """A CSV file of n rows, in which no two are the same."""
    texts, _ = messages(n)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts))
    return path
