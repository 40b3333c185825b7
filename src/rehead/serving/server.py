"""Puts a server together, and runs it until it is asked to stop: then it answers what it has accepted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn

import torch
import uvicorn
from fastapi import FastAPI, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from rehead.runtime import hardware
from rehead.runtime.errors import SettingError
from rehead.serving import api, files_api, logs, page, refusals
from rehead.serving.gate import Gate
from rehead.serving.jobs import Jobs
from rehead.serving.metrics import ServerMetrics
from rehead.serving.models import Models, ModelSource
from rehead.serving.protocol import bounded_by
from rehead.serving.settings import ServerSettings
from rehead.serving.state import ServerState

# Connections that wait to be taken; what comes beyond them is refused by the system.
_BACKLOG = 2048
# Seconds that a connection may be silent: longer than load balancers let one be, so that it is they who end it.
_KEEP_ALIVE = 75
# Seconds within which what was accepted is answered when the server stops: a client that has fallen silent does not
# hold it for ever.
_GRACE = 60


def run(sources: Sequence[ModelSource], settings: ServerSettings) -> NoReturn:
    """Serve until SIGTERM or Ctrl-C, which end the process. SIGHUP loads the models again.

    Raises:
        RheadError: the models cannot be loaded, or the address or the jobs' folder cannot be used.
    """
    logs.start()
    if hardware.device().type == "cpu":
        # Two threads on a small batch are hardly faster than one: 7,400 against 6,600 tokens a second through MiniLM,
        # 32 messages at a time. So each batch has one, and several batches are scored at once.
        torch.set_num_threads(1)
    asyncio.run(serve(sources, settings))
    sys.stderr.flush()
    os._exit(0)  # Python would wait for threads whose results nobody waits for, and take libraries down for seconds


async def serve(
    sources: Sequence[ModelSource],
    settings: ServerSettings,
    listening: Callable[[str, Callable[[], object]], None] | None = None,
) -> None:
    """Serve inside an event loop; see `run`.

    Args:
        listening: called when requests are taken, with the server's address and what stops it.
    """
    with _listening(settings) as socket_:
        metrics = ServerMetrics()
        models = Models(sources, settings.limits, metrics)
        loop = asyncio.get_running_loop()
        jobs = Jobs(settings.jobs, files_api.work(models, loop, settings.limits), metrics.job)
        try:
            await models.load()
            state = ServerState(settings, metrics, models, jobs)
            server = _Server(
                uvicorn.Config(
                    application(state),
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    server_header=False,
                    http=bounded_by(settings.limits),
                    ws="none",  # it would go past what `http` bounds and the gate checks
                    timeout_keep_alive=_KEEP_ALIVE,
                    timeout_graceful_shutdown=_GRACE,
                )
            )

            def stop() -> None:
                server.should_exit = state.draining = True

            _obey_signals(loop, state, stop)
            jobs.start()
            host, port = socket_.getsockname()[:2]
            address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            logs.event("listening", address=address, versions=state.versions())
            if listening:
                listening(address, partial(loop.call_soon_threadsafe, stop))
            await server.serve(sockets=[socket_])
            await state.settle()
        finally:
            await asyncio.to_thread(jobs.close)
            models.close()
            logs.event("stopped")


def application(state: ServerState, *, with_files: bool = True) -> FastAPI:
    """Return the ASGI application, with the endpoints for files or without."""
    app = FastAPI(
        title="rehead",
        version="1",
        description="Classifies texts, or images, with models that `rehead fit` has saved.",
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    # For the description alone: it is the gate that asks for the key.
    keys = [
        Security(HTTPBearer(auto_error=False, description="one of the server's keys")),
        Security(APIKeyHeader(name="X-API-Key", auto_error=False, description="the same, in another header")),
    ]
    with_key = keys if state.settings.keys else []
    app.state.rehead = state
    refusals.install(app)
    app.include_router(api.router, dependencies=with_key)
    if with_files:
        app.include_router(files_api.router, dependencies=with_key)
    app.include_router(api.without_key)
    app.include_router(page.router)
    app.add_middleware(Gate, state=state)
    return app


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_obey_signals`; uvicorn's would end the process before the jobs are put away."""
        yield


def _obey_signals(loop: asyncio.AbstractEventLoop, state: ServerState, stop: Callable[[], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def end() -> None:
        if state.draining:
            logs.event("stopped at once")
            os._exit(130)  # what is done of a job is on the disk
        stop()

    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, end)
    loop.add_signal_handler(signal.SIGHUP, lambda: state.in_the_background(state.reload()))


@contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        taken = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingError(
            f"cannot listen on {settings.host} port {settings.port} ({error.strerror or error}); "
            "give another `host` or `port`"
        ) from error
    # Named TCP, or asyncio would leave Nagle's algorithm on: small answers would wait 40 ms for an acknowledgement.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=taken.detach()) as named:
        yield named
