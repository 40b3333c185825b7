"""Asks a server as many clients would, and counts: answers a second, and how long they took.

Knows nothing of who answers. A connection is kept alive, as clients that ask often do.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
        seconds: from the first question to the last answer.
        latencies: seconds of each answer; in an open loop from when the question was due.
        failed: answers with another status than 200.
    """

    seconds: float
    latencies: list[float]
    failed: int

    @property
    def answers_a_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the answers came."""
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


async def closed_loop(address: str, path: str, bodies: Sequence[bytes], connections: int, seconds: float) -> Load:
    """Each connection asks again as soon as it has its answer: what the server can do at most."""
    latencies: list[float] = []
    failed = 0
    coming = itertools.cycle(bodies)
    begun = time.perf_counter()

    async def client() -> None:
        nonlocal failed
        connection = await _open(address)
        while (asked := time.perf_counter()) - begun < seconds:
            failed += await _ask(connection, path, next(coming)) != 200
            latencies.append(time.perf_counter() - asked)
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return Load(time.perf_counter() - begun, latencies, failed)


async def open_loop(address: str, path: str, bodies: Sequence[bytes], rate: float, seconds: float) -> Load:
    """So many questions a second at even distances, whether the answers come or not: what users feel."""
    latencies: list[float] = []
    failed = 0
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    coming: Iterator[bytes] = itertools.cycle(bodies)
    begun = time.perf_counter()

    async def ask(due: float) -> None:
        nonlocal failed
        body = next(coming)
        while free:
            connection = free.pop()
            try:
                status = await _ask(connection, path, body)
                break
            except (OSError, asyncio.IncompleteReadError):
                continue  # the server lets no connection be idle for long
        else:
            connection = await _open(address)
            status = await _ask(connection, path, body)
        failed += status != 200
        latencies.append(time.perf_counter() - begun - due)
        free.append(connection)

    asked = []
    for number in range(int(rate * seconds)):
        due = number / rate
        if (wait := due - (time.perf_counter() - begun)) > 0:
            await asyncio.sleep(wait)
        asked.append(asyncio.create_task(ask(due)))
    await asyncio.gather(*asked)
    for _, writer in free:
        writer.close()
    return Load(time.perf_counter() - begun, latencies, failed)


async def _open(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = address.removeprefix("http://").rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def _ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, body: bytes) -> int:
    """The status of the answer, which is read to its end."""
    reader, writer = connection
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    writer.write(f"{head}\r\n\r\n".encode() + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = answer.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]
    await reader.readexactly(int(length))
    return int(answer.split(b" ", 2)[1])
