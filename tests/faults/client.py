"""A client of `rehead serve`: uploads a table, waits for the job, and downloads what came of it."""

import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from tests.faults.children import has_ended

# Seconds within which a server that was told to end has ended.
_GRACE = 300


@dataclass(frozen=True)
class Client:
    """Does its work with each server that it is called with; knows which job an earlier one has accepted.

    Attributes:
        table: to be uploaded.
        result: where the download goes.
        memory: where the number of the accepted job is.
        patience: seconds within which the job has to be done.
    """

    table: Path
    result: Path
    memory: Path
    patience: float

    def __call__(self, log: Path, server: int) -> str:
        """Return what went wrong; that a server was killed is nothing wrong."""
        begun, wrong = time.monotonic(), ""
        try:
            if address := _address(log, server):
                with httpx2.Client(base_url=address, timeout=60) as client:
                    wrong = self._have_it_done(client, begun + self.patience)
        except httpx2.TransportError as error:
            time.sleep(1)  # a process that is killed closes its connections a moment before it has ended
            wrong = "" if has_ended(server) else repr(error)
        if not has_ended(server):
            os.kill(server, signal.SIGTERM)
        while not has_ended(server):
            if time.monotonic() > begun + self.patience + _GRACE:
                with suppress(ProcessLookupError):
                    os.kill(server, signal.SIGKILL)
                return f"{wrong} the server does not end"
            time.sleep(0.02)
        return wrong

    def _have_it_done(self, client: httpx2.Client, deadline: float) -> str:
        if not self.memory.exists():
            response = client.post("/v1/files", files={"file": (self.table.name, self.table.read_bytes())})
            if response.status_code != 202:
                return f"refused with {response.status_code}: {response.text}"
            self.memory.write_text(response.json()["id"])
        while True:
            response = client.get(f"/v1/files/{self.memory.read_text()}")
            if response.status_code != 200:
                return f"the accepted job: {response.status_code}: {response.text}"
            job = response.json()
            if job["state"] == "done":
                break
            if job["state"] not in ("waiting", "running"):
                self.memory.unlink()  # to be uploaded once more
                return f"the job is {job['state']}: {job['error']}"
            if time.monotonic() > deadline:
                return f"the job waits, perhaps for space: {job}"
            time.sleep(0.02)
        partial = self.result.with_suffix(".part")
        partial.write_bytes(client.get(job["result"]).content)
        partial.rename(self.result)
        return ""


def _address(log: Path, server: int) -> str | None:
    """Wait until the server says where it listens; None if it ends before."""
    while not has_ended(server):
        for line in log.read_text().splitlines() if log.exists() else []:
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "listening":
                    return str(event["address"])
        time.sleep(0.02)
    return None
