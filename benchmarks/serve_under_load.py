"""Requests a second over HTTP: `rehead serve` against a plain FastAPI server with transformers.pipeline, and LitServe.

One MiniLM classifier of sample:sms at full depth, saved with `cls` pooling so that it is a Transformers model, served
by each; SMS messages, one a request, each message once. First 64 connections that ask as fast as they are answered;
then, of half as many requests a second as that server answered, how long each takes. Server and clients share the
machine's cores.

    python benchmarks/serve_under_load.py SMSSpamCollection [--runs 3] [--out FILE.md]
"""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import load
import measure
import peers
import rehead_runs
import results
from load import Load
from rehead_runs import REHEAD

CONNECTIONS = 64
SECONDS, WARM_UP = 20.0, 5.0
BASE = ["sample:sms", "--base", "minilm", "--tune", "head"]
MODELS = {"6 blocks": ["--pool", "cls", "--depth", "6"], "as rehead chooses": []}


@dataclass(frozen=True)
class Server:
    """A contender.

    Attributes:
        path: that is asked.
        field: of the question, and whether it is a list.
    """

    title: str
    command: Sequence[str | Path]
    path: str = "/predict"
    field: str = "texts"
    several: bool = True

    def body(self, text: str) -> bytes:
        return json.dumps({self.field: [text] if self.several else text}).encode()


@dataclass(frozen=True)
class Run:
    """Attributes:
    most: with connections that ask as fast as they can.
    half: with half as many requests a second as that.
    """

    most: Load
    half: Load
    peak_bytes: int


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="of each load (%(default)s)")
    options = parser.parse_args()
    lines = options.collection.read_text(encoding="utf-8").strip("\n").split("\n")
    messages = sorted({line.split("\t", 1)[1] for line in lines})
    random.Random(0).shuffle(messages)  # noqa: S311 - the same order every time
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, list[Run]] = {}
        servers = list(_servers(folder))
        for number in range(options.runs):
            for server in servers:
                runs.setdefault(server.title, []).append(_measured(server, messages, options.seconds))
                rate = runs[server.title][-1].most.answers_a_second
                print(f"round {number + 1}: {server.title}: {rate:.0f} a second", file=sys.stderr, flush=True)
            results.publish([_table(runs), _conditions(options.runs, options.seconds)], options.out)


def _servers(folder: Path) -> Iterator[Server]:
    trained = {}
    for title, options in MODELS.items():
        trained[title] = folder / title.replace(" ", "-")
        command = [*REHEAD, "fit", *BASE, *options, "-o", trained[title], "--json"]
        measure.run(measure.Contender(title, command))
    full = str(trained["6 blocks"])
    dtypes = ["float32", *(["bfloat16"] if rehead_runs.has_bf16() else [])]
    for dtype in dtypes:
        arguments = ["--model", full, "--dtype", dtype]
        yield Server(f"FastAPI and pipeline, {dtype}", peers.command("peer_plain_server.py", *arguments))
    for dtype in dtypes:
        arguments = ["--model", full, "--dtype", dtype]
        command = peers.command("peer_litserve.py", *arguments)
        yield Server(f"LitServe, batches of 64, {dtype}", command, field="text", several=False)
    for title, model in trained.items():
        command = [*REHEAD, "serve", model, "--jobs", folder / "jobs"]
        yield Server(f"rehead serve, {title}", command, "/v1/predict")


def _measured(server: Server, messages: list[str], seconds: float) -> Run:
    bodies = [server.body(text) for text in messages]
    with _running(server) as (address, process):
        asyncio.run(load.closed_loop(address, server.path, bodies[::-1], CONNECTIONS, WARM_UP))
        most = asyncio.run(load.closed_loop(address, server.path, bodies, CONNECTIONS, seconds))
        half = asyncio.run(load.open_loop(address, server.path, bodies, most.answers_a_second / 2, seconds))
        peak = _peak_bytes(process)
    return Run(most, half, peak)


@contextmanager
def _running(server: Server) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, **measure.ENVIRONMENT}
    command = [*map(str, server.command), "--port", str(port)]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, start_new_session=True)
        try:
            _wait_for(address + server.path, server.body("a text"), process)
            yield address, process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_for(url: str, body: bytes, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - loopback
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    sys.exit(f"{url} does not answer")


def _peak_bytes(process: subprocess.Popen[bytes]) -> int:
    """Of the server and the processes that it has started, each at its own peak."""
    mine = [path for path in Path("/proc").glob("[0-9]*") if _session(path) == process.pid]
    total = 0
    for path in mine:
        lines = (path / "status").read_text(encoding="ascii").splitlines()
        total += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return total


def _session(path: Path) -> int:
    try:
        return int((path / "stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[3])
    except OSError:
        return -1


def _table(runs: dict[str, list[Run]]) -> str:
    rates = {title: [run.most.answers_a_second for run in of_title] for title, of_title in runs.items()}
    plain, lit = (
        max((median(values) for title, values in rates.items() if title.startswith(name)), default=1.0)
        for name in ("FastAPI", "LitServe")
    )
    rows = [
        [
            title,
            results.spread(rates[title], ".0f"),
            f"{median(rates[title]) / plain:.1f}×",
            f"{median(rates[title]) / lit:.1f}×",
            *(results.spread([1000 * run.most.percentile(share) for run in of_title], ".0f") for share in (0.5, 0.99)),
            *(results.spread([1000 * run.half.percentile(share) for run in of_title], ".0f") for share in (0.5, 0.99)),
            str(sum(run.most.failed + run.half.failed for run in of_title)),
            results.spread([run.peak_bytes / 1e9 for run in of_title], ".2f"),
        ]
        for title, of_title in runs.items()
    ]
    head = ["server", "requests a second", "to the best plain", "to the best LitServe"]
    head += [
        f"p50 ms, {CONNECTIONS} connections",
        "p99 ms",
        "p50 ms, half load",
        "p99 ms, half load",
        "failed",
        "peak GB",
    ]
    return results.table(head, rows)


def _conditions(rounds: int, seconds: float) -> str:
    speeds = rehead_runs.product_speeds()
    return (
        f"Medians of {rounds} rounds (lowest to highest) of {seconds:g} s for each load after {WARM_UP:g} s to warm "
        f"up; {os.cpu_count()} cores, shared with the clients, that multiply matrices at {speeds['float32']:.0f} "
        f"GFLOP/s in float32 and {speeds['bfloat16']:.0f} in bfloat16."
    )


if __name__ == "__main__":
    main()
