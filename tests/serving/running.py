"""Real servers over real sockets: in a thread of this process, and as a process of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from rehead.serving import server
from rehead.serving.models import parse
from rehead.serving.settings import ServerSettings


@contextmanager
def _logging_as_before() -> Iterator[None]:
    """Undo what a server does to its process, which logs to the stderr of the test that began it."""
    logs = [logging.getLogger(name) for name in ("rehead", "rehead.serving", "uvicorn.error")]
    before = [(log.handlers, log.propagate, log.level) for log in logs]
    try:
        yield
    finally:
        for log, (handlers, propagate, level) in zip(logs, before, strict=True):
            log.handlers, log.propagate = handlers, propagate
            log.setLevel(level)


@contextmanager
def running(models: Sequence[Any], jobs: Path, **settings: Any) -> Iterator[httpx2.Client]:
    """A client of a server in a thread of this process; the server has stopped when the block is left."""
    with _logging_as_before(), _in_a_thread(models, jobs, **settings) as client:
        yield client


@contextmanager
def _in_a_thread(models: Sequence[Any], jobs: Path, **settings: Any) -> Iterator[httpx2.Client]:
    addresses: list[str] = []
    stops: list[Any] = []
    ready = threading.Event()
    faults: list[BaseException] = []

    def listening(address: str, stop: Any) -> None:
        addresses.append(address)
        stops.append(stop)
        ready.set()

    def run() -> None:
        try:
            chosen = ServerSettings(port=0, jobs=jobs, **settings)
            asyncio.run(server.serve(parse([str(model) for model in models]), chosen, listening))
        except BaseException as fault:
            faults.append(fault)
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    if faults:
        raise faults[0]
    try:
        with httpx2.Client(base_url=addresses[0], timeout=60) as client:
            yield client
    finally:
        stops[0]()
        thread.join()
    if faults:
        raise faults[0]


@dataclass
class Process:
    """A server as a process, and what it has logged so far."""

    process: subprocess.Popen[str]
    address: str
    log: list[dict[str, Any]]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def process(*arguments: object, environment: dict[str, str] | None = None) -> Iterator[Process]:
    """`rehead serve` with these arguments, on a free port."""
    command = [sys.executable, "-m", "rehead.cli", "serve", *map(str, arguments), "--port", "0"]
    started = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}, start_new_session=True
    )
    log: list[dict[str, Any]] = []
    listening = threading.Event()

    def read() -> None:
        assert started.stderr is not None
        for line in started.stderr:
            try:
                log.append(json.loads(line))
            except ValueError:
                log.append({"event": "not JSON", "line": line})
            if log[-1]["event"] == "listening":
                listening.set()
        listening.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert listening.wait(120), log
        told = next((entry for entry in log if entry["event"] == "listening"), None)
        assert told is not None, log
        yield Process(started, told["address"], log)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        reader.join(10)


def counted(client: httpx2.Client, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
