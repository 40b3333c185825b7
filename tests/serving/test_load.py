"""Under load: nothing is lost, nothing fails by the server's fault, and memory does not grow."""

import asyncio
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from rehead.artifact.loading import load_artifact
from tests.serving.http_client import Connection, body
from tests.serving.running import Process, process
from tests.tiny_texts import messages

pytestmark = pytest.mark.slow

REQUESTS, CONNECTIONS, ROUNDS = 20_000, 64, 8
BAD = [b"", b"{", b'{"texts": 1}', b'{"texts": []}', b"[]", b"\xff\xfe", b'{"texts": ["a"], "more": 1}', b"null"]


def resident_bytes(server: Process) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def test_twenty_thousand_requests_of_all_kinds(spam: Path, tmp_path: Path) -> None:
    """5 % are malformed, and 5 % of the clients hang up before they have their answer."""
    texts, _ = messages(400, start=2000)
    loaded = load_artifact(spam)
    expected = dict(zip(texts, (loaded.labels[i] for i in loaded.scores(texts).probabilities.argmax(1)), strict=True))
    statuses: Counter[Any] = Counter()
    memory: list[int] = []

    async def client(server: Process, number: int, share: int) -> None:
        chance = random.Random(number)  # noqa: S311
        connection = await Connection.open(server.address)
        for _ in range(share):
            kind = chance.random()
            if kind < 0.05:
                status, _ = await connection.ask(chance.choice(BAD))
                statuses["bad", status] += 1
            elif kind < 0.10:
                await connection.send(body(*chance.choices(texts, k=3)))
                connection.close()
                connection = await Connection.open(server.address)
                statuses["hung up"] += 1
            else:
                asked = chance.choices(texts, k=chance.choice((1, 1, 1, 2, 5, 30)))
                status, told = await connection.ask(body(*asked))
                statuses["good", status] += 1
                assert [answer["label"] for answer in told["predictions"]] == [expected[text] for text in asked]
        connection.close()

    async def everybody(server: Process) -> None:
        for _ in range(ROUNDS):
            share = REQUESTS // CONNECTIONS // ROUNDS
            await asyncio.gather(*(client(server, i + len(memory) * CONNECTIONS, share) for i in range(CONNECTIONS)))
            memory.append(resident_bytes(server))

    with process(spam, "--jobs", tmp_path / "jobs") as server:
        asyncio.run(everybody(server))
        assert server.end(signal.SIGTERM) == 0
    asked = sum(statuses.values())
    assert asked == REQUESTS // CONNECTIONS // ROUNDS * ROUNDS * CONNECTIONS
    assert {key for key in statuses if key[0] == "good"} == {("good", 200)}
    assert {key[1] for key in statuses if key[0] == "bad"} <= {400, 422}
    assert not [entry for entry in server.log if entry.get("status", 0) >= 500 or entry["event"] == "not JSON"]
    # Freed memory is kept for later: it grows less and less, with the first batches of each size in each thread.
    assert memory[-1] < 1.06 * memory[3 * ROUNDS // 4 - 1]


def test_memory_does_not_grow_with_the_lengths_of_texts_that_come(spam: Path, tmp_path: Path) -> None:
    """Code and plans for shapes that were met once are not kept for ever."""
    words = [f"word{i}" for i in range(3_000)]
    memory: list[int] = []

    async def client(server: Process, number: int, share: int) -> None:
        chance = random.Random(number)  # noqa: S311
        connection = await Connection.open(server.address)
        for _ in range(share):
            status, _ = await connection.ask(body(" ".join(chance.choices(words, k=chance.randint(1, 200)))))
            assert status == 200
        connection.close()

    async def everybody(server: Process) -> None:
        for part in range(5):
            await asyncio.gather(*(client(server, 8 * part + i, 125) for i in range(8)))
            memory.append(resident_bytes(server))

    with process(spam, "--jobs", tmp_path / "jobs") as server:
        asyncio.run(everybody(server))
    assert memory[-1] < 1.15 * memory[0]  # it was 1.37 times as much, and grew on


def test_more_than_it_can_take_is_turned_away_and_not_dropped(spam: Path, tmp_path: Path) -> None:
    async def everybody(server: Process) -> Counter[int]:
        statuses: Counter[int] = Counter()

        async def client() -> None:
            connection = await Connection.open(server.address)
            for _ in range(10):
                status, told = await connection.ask(body(*["win free cash now"] * 100))
                statuses[status] += 1
                assert status == 200 or told["error"]["code"] == "overloaded"
            connection.close()

        await asyncio.gather(*(client() for _ in range(32)))
        return statuses

    with process(spam, "--jobs", tmp_path / "jobs", "--queue-tokens", 2_000) as server:
        statuses = asyncio.run(everybody(server))
    assert statuses[200] > 0
    assert statuses[429] > 0
    assert statuses.total() == 320


def test_what_was_accepted_is_answered_when_it_is_told_to_stop(spam: Path, tmp_path: Path) -> None:
    received: Counter[int] = Counter()

    async def client(server: Process) -> None:
        """Goes on until the server is gone."""
        while True:
            try:
                connection = await Connection.open(server.address)
                while True:
                    status, _ = await connection.ask(body(*["win free cash now"] * 20))
                    received[status] += 1
            except (OSError, asyncio.IncompleteReadError):
                if server.process.poll() is not None:
                    return
                await asyncio.sleep(0.005)

    async def everybody(server: Process) -> None:
        clients = [asyncio.create_task(client(server)) for _ in range(32)]
        await asyncio.sleep(2)
        assert await asyncio.to_thread(server.end, signal.SIGTERM) == 0
        await asyncio.gather(*clients)

    with process(spam, "--jobs", tmp_path / "jobs") as server:
        asyncio.run(everybody(server))
        deadline = time.monotonic() + 10
        while server.log[-1]["event"] != "stopped" and time.monotonic() < deadline:
            time.sleep(0.05)
    answered = Counter(entry["status"] for entry in server.log if entry.get("path") == "/v1/predict")
    assert received[200] > 32
    assert received == answered  # whatever the server has taken, its client has in full
