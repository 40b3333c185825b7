"""The one way in: every request's id, who may ask, how large it may be; and what is logged and counted of it."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rehead.serving import logs, page
from rehead.serving.keys import Keys
from rehead.serving.refusals import Refusal, answer, disk_full
from rehead.serving.state import ServerState

# What needs no key: whether the server is there, and the pages, of which one asks for the key.
OPEN = frozenset({*page.FILES, "/healthz", "/readyz", "/openapi.json"})
UPLOADS = "/v1/files"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A name or an address, and maybe a port: all of what a Host header may hold.
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
# Of a client that hung up, as nginx logs it.
_HUNG_UP = 499


class Gate:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, state: ServerState) -> None:
        self._app, self._state, self._settings = app, state, state.settings
        self._keys = Keys(state.settings.keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        wished = headers.get("x-request-id", "")
        request_id = wished if _REQUEST_ID.fullmatch(wished) else secrets.token_hex(8)
        # What endpoints add to the request's line in the log.
        noted: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, noted=noted)
        status, answered, hung_up = 0, False, False
        limits = self._settings.limits
        left = limit = limits.upload_bytes if scope["path"] == UPLOADS else limits.body_bytes
        too_large = f"the body has more than {limit:,} bytes; send it in parts"

        async def receiving() -> Message:
            nonlocal hung_up, left
            message = await receive()
            # Once all is sent, the end of the connection is reported the same way.
            hung_up = hung_up or (message["type"] == "http.disconnect" and not answered)
            left -= len(message.get("body", b""))
            if left < 0:  # it says nothing of its length, or not the truth
                raise HTTPException(413, too_large)
            return message

        async def sending(message: Message) -> None:
            nonlocal status, answered
            answered = answered or (message["type"] == "http.response.body" and not message.get("more_body", False))
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(
                    {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
                )
            await send(message)

        try:
            self._check(scope, headers)
            length = headers.get("content-length", "0")
            if length.isdigit() and int(length) > limit:
                raise Refusal(413, "too_large", too_large)
            if scope["path"] == UPLOADS and scope["method"] == "POST":
                await self._state.require_free_place_for_a_job()  # before its file is taken in
            await self._app(scope, receiving, sending)
        except Refusal as refusal:
            await answer(request_id, refusal)(scope, receive, sending)
        except ClientDisconnect:
            hung_up = True
        except Exception as error:
            logs.fault("a fault of rehead's own", error, request_id=request_id)
            if status:
                raise  # the answer has begun; breaking it off is all that is left
            message = f"a fault of rehead's own: {type(error).__name__}; the server's log has more"
            await answer(request_id, disk_full(error) or Refusal(500, "fault", message))(scope, receive, sending)
        if hung_up:
            status = _HUNG_UP  # whatever was answered, to nobody
        seconds = time.perf_counter() - started
        path = getattr(scope.get("route"), "path", "other")
        self._state.metrics.request(path, status, seconds)
        logs.event(
            "request",
            request_id=request_id,
            method=scope["method"],
            path=path,
            status=status,
            milliseconds=round(1000 * seconds, 1),
            **noted,
        )

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise Refusal before anything of the body is read."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not (host := _HOST.fullmatch(hosts[0])):
            raise Refusal(400, "one_host", "send one Host header, with a name and, if need be, a port")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host[0]:
            # Browsers send what a page of another site asks for, with or without its right to read the answer.
            raise Refusal(403, "other_origin", "requests from pages of other sites are not taken")
        local = ("localhost", "127.0.0.1", "[::1]", self._settings.host, f"[{self._settings.host}]")
        if self._settings.on_loopback and not self._keys and host[1].lower() not in local:
            # A site whose name was made to point here would otherwise be let in.
            raise Refusal(403, "other_host", "this server is asked as localhost; set a key to ask it by another name")
        if self._keys and scope["path"] not in OPEN:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            address = (scope.get("client") or ("",))[0]
            self._keys.require(address, key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", ""))
