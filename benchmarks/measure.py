"""Runs commands as fresh processes, in turn, and measures them: wall seconds, peak memory, and the JSON they print.

A run's seconds hold all that a user waits for: the interpreter's start, imports, loading, work, writing. Knows nothing
of what it runs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The same for every contender. Threads that spin while they wait slow down whatever else the machine does; rehead's
# command line asks for this by itself, so whoever is compared with it gets it too. Nothing may come from a model hub.
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "3000", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Contender:
    """A command to be measured.

    Attributes:
        title: what the table calls it; runs of the same title belong together.
        command: a program and its arguments. What it prints last on stdout is a JSON object, or nothing.
        environment: variables beside `ENVIRONMENT`.
        before: called before each run and not measured; empties a cache, for example.
    """

    title: str
    command: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Run:
    """One run: how long it took, the most memory it held, and what it printed."""

    seconds: float
    peak_bytes: int
    facts: dict[str, Any]


def run(contender: Contender) -> Run:
    """Runs a contender once.

    Raises:
        SystemExit: it failed; with the end of what it wrote to stderr.
    """
    contender.before()
    environment = {**os.environ, **ENVIRONMENT, **contender.environment}
    command = [str(part) for part in contender.command]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=complaints, env=environment)
        # The most that the process or a child of it held. Linux counts in the memory of whoever started it, too: this
        # process must stay smaller than what it measures, so it imports no torch.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        complaints.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\nexit code {process.returncode}\n{complaints.read()[-4000:]}")
        printed = output.read().strip()
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return Run(seconds, peak, json.loads(printed.splitlines()[-1]) if printed else {})


def in_turn(rounds: Sequence[Sequence[Contender]]) -> Iterator[dict[str, list[Run]]]:
    """Runs every contender of a round before the next round, so that a slow quarter of an hour hits all of them.

    Yields:
        After each round all runs so far, by title.
    """
    runs: dict[str, list[Run]] = {}
    for number, contenders in enumerate(rounds, start=1):
        for contender in contenders:
            result = run(contender)
            runs.setdefault(contender.title, []).append(result)
            took = f"{result.seconds:.1f} s, {result.peak_bytes / 1e9:.2f} GB"
            print(f"round {number} of {len(rounds)}: {contender.title}: {took}", file=sys.stderr, flush=True)
        yield runs
