"""A client of HTTP/1.1 as small as can be, for tests that send thousands of requests, and some that are none."""

from __future__ import annotations

import asyncio
import json
from typing import Any


class Connection:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, address: str) -> Connection:
        host, port = address.removeprefix("http://").rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)))

    async def send(self, content: bytes, path: str = "/v1/predict") -> None:
        """Sends a POST of JSON, and does not wait for the answer."""
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self.writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        await self.writer.drain()

    async def answer(self) -> tuple[int, Any]:
        """Status and body of the next answer.

        Raises:
            IncompleteReadError: the server has hung up.
        """
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), json.loads(body)

    async def ask(self, content: bytes) -> tuple[int, Any]:
        await self.send(content)
        return await self.answer()

    def close(self) -> None:
        self.writer.close()


def body(*texts: str) -> bytes:
    return json.dumps({"texts": texts}).encode()
