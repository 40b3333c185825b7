"""What the server answers to a request that it does not carry out: one shape for all, with what to do about it."""

from __future__ import annotations

import errno
import math
import sqlite3

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

# What each status means here, as the API's description has it.
MEANINGS = {
    400: "The request cannot be read, or does not name one host.",
    401: "An API key is needed, or this one is not known.",
    403: "The request comes from another site's page.",
    404: "There is no such model, job or page.",
    405: "The path does not take this method.",
    409: "The job is not in a state for that.",
    413: "The request is larger than the server takes.",
    422: "The request says something that cannot be carried out.",
    429: "More is waiting than the server can take; try again after the time in Retry-After, in seconds.",
    503: "The server is shutting down.",
    507: "The server's disk is full.",
}
# What the system calls a full disk, a used-up quota, and a file that may not grow.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Fault(BaseModel):
    """What is wrong with a request.

    Attributes:
        code: for programs: short and lasting.
        message: for people: what, where and how to mend it.
        request_id: under which the server's log has it.
    """

    code: str
    message: str
    request_id: str


class Refused(BaseModel):
    """The body of every answer from 400 on."""

    error: Fault


class Refusal(Exception):  # noqa: N818 - a request is refused; nothing is in error
    """Raised anywhere below an endpoint; becomes the answer."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = {} if retry_after is None else {"Retry-After": str(max(1, math.ceil(retry_after)))}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"


def described(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return what an endpoint may refuse with, for its `responses`."""
    return {status: {"model": Refused, "description": MEANINGS[status]} for status in statuses}


def answer(request_id: str, refusal: Refusal) -> JSONResponse:
    """Return the refusal as a response."""
    fault = Fault(code=refusal.code, message=refusal.message, request_id=request_id)
    return JSONResponse(Refused(error=fault).model_dump(), refusal.status, refusal.headers)


def disk_full(error: BaseException | None) -> Refusal | None:
    """Return the refusal for an error that a full disk has caused; None for any other."""
    full = isinstance(error, OSError) and error.errno in _FULL
    if isinstance(error, sqlite3.OperationalError):
        full = error.sqlite_errorname in ("SQLITE_FULL", "SQLITE_IOERR_WRITE")
    return Refusal(507, "disk_full", "the server's disk is full; try again when there is space on it") if full else None


def install(app: FastAPI) -> None:
    """Give all that an application refuses, by itself or within an endpoint, the one shape."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        return answer(request.state.request_id, _refusal_of(request, error))

    for kind in (Refusal, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, refused)


def _refusal_of(request: Request, error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return Refusal(400, "not_json", 'the body is not JSON; send an object such as {"texts": ["..."]}')
        # The text that was sent is in the error too, and stays out of the answer.
        where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        return Refusal(422, "invalid_request", f"{where}: {message}; see /openapi.json")
    assert isinstance(error, HTTPException)
    if full := disk_full(error.__cause__):  # met while the body was put on the disk
        return full
    if isinstance(error.__cause__, Refusal):  # met while the body was read
        return error.__cause__
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(error.status_code, "bad_request")
    refusal = Refusal(error.status_code, code, f"{request.method} {request.scope['path']}: {error.detail}")
    refusal.headers |= dict(error.headers or {})
    return refusal
