"""A connection, bounded: what a client may cost the server while it sends slowly, too much, or nothing at all.

uvicorn reads and writes; what is added here is when it stops. A client that has sent its request and closes its sending
half is answered, as HTTP allows.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rehead.serving import logs, refusals
from rehead.serving.refusals import Refusal
from rehead.serving.settings import RequestLimits

# Seconds after a client's end of sending at which it is looked whether it has closed its receiving half as well.
_LOOKS = (0.05, 0.2, 1.0, 5.0)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(HttpToolsProtocol):
    """uvicorn's connection with the limits of one server; see `bounded_by`."""

    limits = RequestLimits()
    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None
    # What the client owes: "head" or "body" until `_deadline`, or nothing.
    _owed = ""
    _deadline = 0.0
    _head_bytes = 0
    _has_sent_all = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's is
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._refuse(
                Refusal(503, "too_many_connections", "too many connections are open; try again later", retry_after=5)
            )
        else:
            self._expect("head", self.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        if not self._owed:
            self._expect("head", self.limits.head_seconds)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._owed == "head" and self._head_bytes > self.limits.head_bytes:
            self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._owed != "head":  # a second request in the same piece
            self._expect("head", self.limits.head_seconds)

    def on_headers_complete(self) -> None:
        # A head that came in one piece, perhaps behind another request, has not been measured yet.
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self.limits.head_bytes:
            self._refuse_head()
            raise ValueError("a large head")  # the parser stops, and what follows is not read
        super().on_headers_complete()
        self._expect("body", self.limits.body_seconds)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._deadline += len(body) / self.limits.body_bytes_a_second

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._expect_nothing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes the connection
        """Return whether an answer is still to be sent; the connection is closed if not."""
        if self._owed == "body" or self.cycle is None or self.cycle.response_complete:
            return False
        if not self._has_sent_all:
            self._has_sent_all = True
            self.cycle.keep_alive = False
            # A client that has gone altogether looks the same. Its system answers whatever it is sent with a reset;
            # an interim response is what every client of HTTP/1.1 must put up with.
            if self.scope["http_version"] == "1.1" and not self.cycle.response_started and not self.pipeline:
                self.transport.write(_CONTINUE)
            for seconds in _LOOKS:
                self.loop.call_later(seconds, self._abort_if_reset)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def shutdown(self) -> None:
        if self._owed == "body" and not self.cycle.response_started:
            self._refuse(Refusal(503, "shutting_down", "this server is shutting down; ask another"))
        else:
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, "not_http", "this is no HTTP request that the server can read; send HTTP/1.1"))

    def _expect(self, owed: str, seconds: float) -> None:
        self._owed, self._deadline, self._head_bytes = owed, self.loop.time() + seconds, 0
        # The timer that runs is left to run: it looks at the deadline when it is over.
        if self._timer is None:
            self._timer = self.loop.call_later(seconds, self._look)

    def _expect_nothing(self) -> None:
        self._owed = ""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if not self._owed or self.transport.is_closing():
            return
        answering = self._owed == "head" and self.cycle is not None and not self.cycle.response_complete
        if answering or self.flow.read_paused:  # it is the server that takes its time
            self._deadline = max(self._deadline, self.loop.time() + self.limits.body_seconds)
        left = self._deadline - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._look)
        elif self._owed == "head" and not self._head_bytes:
            self.transport.close()  # nothing was begun that could be refused
        else:
            self._refuse(
                Refusal(408, "too_slow", f"the {self._owed} of the request did not arrive in time; send it faster")
            )

    def _refuse_head(self) -> None:
        limit = f"{self.limits.head_bytes:,}"
        self._refuse(Refusal(431, "large_head", f"the headers have more than {limit} bytes; send fewer"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        # Not in front of the answer to another request, nor into one that has begun.
        begun = self._owed == "body" and not self.cycle.response_started
        if not self.pipeline and (begun or self.cycle is None or self.cycle.response_complete):
            response = refusals.answer(secrets.token_hex(8), refusal)
            headers = [*response.raw_headers, (b"connection", b"close")]
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
            self.transport.write(STATUS_LINE[refusal.status] + lines + b"\r\n" + bytes(response.body))
        logs.event("connection closed", status=refusal.status, reason=refusal.message)
        self._expect_nothing()
        self.transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        """Break off, after a while, a connection whose client does not take in the end of what it was sent."""
        self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def _abort_if_reset(self) -> None:
        if not self.transport.is_closing():
            opened: socket.socket = self.transport.get_extra_info("socket")
            if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.transport.abort()


def bounded_by(limits: RequestLimits) -> type[Connection]:
    """Return the class of connections with these limits."""
    return type("BoundedConnection", (Connection,), {"limits": limits})
