"""What the tests of the command line share: the command, and what a mistake of the user's must look like."""

import json
import os
import random
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# What a command says on its way; whatever else is on stderr is meant for the user to read.
PROGRESS = re.compile(
    r".*: [\d,]+ rows; texts from|[\d,]+ tokens: about|"
    r"training [\d,]+, validation|kept \d+ of|output layer |"
    r"(probing|predicting|trunk pass|converting|training)\b|[\w-]+: calibrated validation loss|the baseline stands|"
    r"word and character n-grams stand beside"
)


# Only the tests of other ways of tuning have to wait for them: a later --strategy overrides this one.
FIT = ("fit", "--strategy", "head")


@dataclass(frozen=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that stdout must be, with no number that JSON does not have."""
        lines = self.out.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    @property
    def said(self) -> list[str]:
        """Lines on stderr that are not progress."""
        return [line for line in self.err.splitlines() if line.strip() and not PROGRESS.match(line)]


def in_child(*arguments: object, stdin: str = "", **environment: str) -> Finished:
    """The real command."""
    command = [sys.executable, "-m", "rehead.cli", *map(str, arguments)]
    env = os.environ | environment
    finished = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=env)
    return Finished(finished.returncode, finished.stdout, finished.stderr)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


JUNK = random.Random(0).randbytes(100_000)  # noqa: S311


@dataclass(frozen=True)
class Place:
    """A fit that would work, to be spoilt: `data` and `base` may be changed, nothing else may be in `output.parent`."""

    data: Path
    base: Path
    output: Path


def assert_refused(finished: Finished, about: str) -> None:
    assert finished.code == 2, finished.err
    assert finished.out == ""
    assert "Traceback" not in finished.err
    (line,) = finished.said
    assert line.startswith("rehead: ")
    assert re.search(about, line)


def assert_nothing_written(output: Path) -> None:
    assert list(output.parent.iterdir()) == []


def truncate_weights(base: Path) -> None:
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[: len(content) // 2])
