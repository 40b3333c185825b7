"""Runs commands as fresh processes, in turn, and measures them: wall seconds, peak memory, and the JSON they print.

A run's seconds hold all that a user waits for: the interpreter's start, imports, loading, work, writing. Knows nothing
of what it runs.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
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
    """One run: how long it took, the most memory it held, the JSON that it printed last, and all that it printed."""

    seconds: float
    peak_bytes: int
    facts: dict[str, Any]
    printed: str = field(default="", repr=False)


class FailedRunError(Exception):
    """A run ended with an error, or took too long.

    Attributes:
        timed_out: whether it was ended for its time.
    """

    def __init__(self, reason: str, timed_out: bool) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


def run(contender: Contender) -> Run:
    """Runs a contender once.

    Raises:
        SystemExit: it failed; with the end of what it wrote to stderr.
    """
    try:
        return attempt(contender)
    except FailedRunError as failure:
        sys.exit(f"{' '.join(map(str, contender.command))}\n{failure}")


def attempt(contender: Contender, timeout: float | None = None) -> Run:
    """Runs a contender once.

    Args:
        timeout: seconds after which it is ended, with all that it has started.

    Raises:
        FailedRunError: it failed, with the end of what it wrote to stderr, or took longer.
    """
    contender.before()
    environment = {**os.environ, **ENVIRONMENT, **contender.environment}
    command = [str(part) for part in contender.command]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=complaints, env=environment, start_new_session=timeout is not None
        )
        late = threading.Event()

        def end() -> None:
            late.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        alarm = threading.Timer(timeout or 0, end)
        if timeout is not None:
            alarm.start()
        try:
            # The most that the process or a child of it held. Linux counts in the memory of whoever started it, too:
            # this process must stay smaller than what it measures, so it imports no torch.
            _, status, usage = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            if timeout is not None:
                end()
            raise
        finally:
            alarm.cancel()
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        complaints.seek(0)
        if late.is_set():
            raise FailedRunError(f"took longer than {timeout:,.0f} s", timed_out=True)
        if process.returncode:
            raise FailedRunError(f"exit code {process.returncode}\n{complaints.read()[-4000:]}", timed_out=False)
        printed = output.read().strip()
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    # Not splitlines(): JSON may hold other characters that count as line breaks there.
    return Run(seconds, peak, json.loads(printed.split("\n")[-1]) if printed else {}, printed)


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
