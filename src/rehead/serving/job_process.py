"""A job in a process of its own: it reads the file and writes the result, and asks the server for scores.

Whoever uploads a file decides what reading it costs. A process has a limit on its memory, can be killed at any moment,
and keeps no request waiting while it decodes. The two ends exchange JSON over a socket; the process begins each
exchange:

    {"texts": [...]}               -> {"probabilities": [[...], ...], "tokens_cut": [...]}
    {"progress": [done, total]}
    {"result": {...}} or {"refused": "message"} or {"fault": "traceback"}, the last one
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rehead.batch.answers import Scored
from rehead.batch.scoring import score_table
from rehead.runtime import progress
from rehead.runtime.errors import DataError, Interrupted, RheadError

if TYPE_CHECKING:
    from rehead.artifact.predictor import Scores
    from rehead.evaluation.decisions import DecisionRule

# Seconds between two looks at whether to stop.
_TICK = 0.1
# How much the process gives way to whoever answers requests.
_NICE = 10
# A portion of rows in JSON, at six bytes a character, is far below that.
_LARGEST_MESSAGE = 256 * 2**20
# Of libraries that would start a thread for each core.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


class JobProcessError(Exception):
    """The process has failed by a fault of its own; the message is its traceback."""


@dataclass(frozen=True)
class JobTask:
    """What the process is to do.

    Attributes:
        entries, labels, rule: of the classifier, for which it stands as a `rehead.batch.answers.Deciding`.
        source, output: the file, and where the result goes.
        escape_formulas: whether spreadsheets are kept from running what cells hold.
        job_bytes: memory that the process may take.
    """

    entries: dict[str, Any]
    labels: tuple[str, ...]
    rule: DecisionRule
    source: Path
    output: Path
    text_column: str | None
    escape_formulas: bool
    job_bytes: int


def score_file(
    task: JobTask,
    ask: Callable[[Sequence[str]], Future[Scores]],
    on_progress: Callable[[int, int], None],
    stop: threading.Event,
    seconds: float,
) -> dict[str, Any]:
    """Score a file in a process of its own.

    Args:
        ask: begins to score texts.
        on_progress: called with what is done and the total.
        stop: where it is set, the process is killed; what it has kept is taken up by the next one.
        seconds: for which the process may be silent.

    Returns:
        What `rehead.batch.scoring.score_table` returns, and `warnings`, such as of a guess.

    Raises:
        RheadError: what the process could not do, or would have needed too much memory or time for.
        JobProcessError: it has failed.
        Interrupted: `stop` was set.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "rehead.serving.job_process", str(theirs.fileno()), str(os.getpid())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # the log is for programs; what goes wrong is sent
            pass_fds=[theirs.fileno()],
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,  # a Ctrl-C is for the server
        )
        theirs.close()
        with Connection(ours.detach()) as connection:
            try:
                connection.send(task)
                return _attend(connection, ask, on_progress, stop, seconds)
            except (EOFError, OSError) as error:
                code = process.wait()
                how = signal.strsignal(-code) or f"signal {-code}" if code < 0 else f"exit status {code}"
                raise DataError(f"reading it broke off ({how}); give a smaller or simpler file") from error
            finally:
                process.kill()
                process.wait()


def _attend(
    connection: Connection,
    ask: Callable[[Sequence[str]], Future[Scores]],
    on_progress: Callable[[int, int], None],
    stop: threading.Event,
    seconds: float,
) -> dict[str, Any]:
    """Answer what the process asks until it has done what it is to do."""
    heard = time.monotonic()
    while True:
        if stop.is_set():
            raise Interrupted
        if not connection.poll(_TICK):
            if time.monotonic() - heard > seconds:
                raise DataError(f"no rows could be read from it for {seconds:,.0f} seconds; give a simpler file")
            continue
        message = json.loads(connection.recv_bytes(_LARGEST_MESSAGE))
        if "texts" in message:
            scoring = ask(message["texts"])
            while not wait([scoring], _TICK).done:
                if stop.is_set():
                    scoring.cancel()
                    raise Interrupted
            scores = scoring.result()
            answer = {"probabilities": scores.probabilities.tolist(), "tokens_cut": scores.tokens_cut.tolist()}
            connection.send_bytes(json.dumps(answer).encode())
        elif "progress" in message:
            on_progress(*message["progress"])
        elif "result" in message:
            result: dict[str, Any] = message["result"]
            return result
        elif "refused" in message:
            raise DataError(message["refused"])
        else:
            raise JobProcessError(message["fault"])
        heard = time.monotonic()


# The process's own end.


def main(descriptor: int, server: int) -> None:
    """Do the task that comes over a socket, and send what came of it.

    Args:
        descriptor: of the socket.
        server: the process at its other end, without which this one ends.
    """
    threading.Thread(target=_end_with, args=(server,), daemon=True).start()
    os.nice(_NICE)
    with Connection(descriptor) as connection:
        task: JobTask = connection.recv()
        asked = _Server(connection)
        try:
            # Beyond these bytes the system refuses memory, where it knows such a limit.
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_AS, (task.job_bytes, task.job_bytes))
            asked.send({"result": _score(task, asked)})
        except (RheadError, MemoryError) as error:
            lacks_memory = any(isinstance(each, MemoryError) for each in (error, error.__cause__))  # Arrow's are causes
            asked.send({"refused": _too_large(task) if lacks_memory else str(error)})
        except Exception:
            asked.send({"fault": traceback.format_exc()})


def _score(task: JobTask, server: _Server) -> dict[str, Any]:
    """Return what `score_table` returns, and the `warnings` on the way."""
    with progress.heard() as warnings:
        result = score_table(
            task,
            server,
            str(task.source),
            task.output,
            text_column=task.text_column,
            on_progress=lambda done, total: server.send({"progress": [done, total]}),
            escape_formulas=task.escape_formulas,
        )
    return result.to_json() | {"warnings": warnings}


@dataclass(frozen=True)
class _Scores:
    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Server:
    """The server at the other end, asked for scores as a predictor is. A `rehead.batch.answers.TextScorer`."""

    connection: Connection

    def scores(self, inputs: Sequence[str], /) -> Scored:
        self.send({"texts": list(inputs)})
        answer = json.loads(self.connection.recv_bytes())
        probabilities = np.array(answer["probabilities"], dtype=np.float64)
        return _Scores(probabilities, np.array(answer["tokens_cut"], dtype=np.int64))

    def send(self, message: dict[str, Any]) -> None:
        self.connection.send_bytes(json.dumps(message).encode())


def _end_with(server: int) -> None:
    while os.getppid() == server:
        time.sleep(_TICK)
    os._exit(1)  # what is done is on the disk


def _too_large(task: JobTask) -> str:
    gigabytes = task.job_bytes / 2**30
    return f"{task.source} takes more than {gigabytes:.1f} GB of memory to read; split it, or shorten its cells"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
