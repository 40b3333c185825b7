"""The state that the endpoints of one server share."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from anyio import CapacityLimiter
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from rehead.runtime.errors import RheadError
from rehead.serving import logs
from rehead.serving.jobs import Jobs
from rehead.serving.metrics import ServerMetrics
from rehead.serving.models import Models
from rehead.serving.refusals import Refusal
from rehead.serving.settings import ServerSettings

# Threads; the others that an endpoint may need are left to those that are quick.
_EXPLAINED_AT_ONCE = 8


@dataclass
class ServerState:
    """One server's parts, and what it is doing.

    Attributes:
        draining: whether the server is shutting down.
        explaining: threads for explanations, each of which keeps one waiting while its texts are scored.
    """

    settings: ServerSettings
    metrics: ServerMetrics
    models: Models
    jobs: Jobs
    draining: bool = False
    explaining: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(_EXPLAINED_AT_ONCE))
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def reload(self) -> bool:
        """Load the models again, log what came of it, and return whether they could be loaded."""
        try:
            await self.models.load()
        except RheadError as error:
            logs.event("not reloaded", reason=str(error))
            return False
        logs.event("reloaded", versions=self.versions())
        return True

    async def require_free_place_for_a_job(self) -> None:
        """Raise Refusal where as many files wait as may."""
        if await run_in_threadpool(self.jobs.count, "waiting") >= self.settings.limits.jobs:
            raise Refusal(429, "overloaded", "too many files are waiting; try again later", retry_after=60)

    def in_the_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what no answer waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop itself holds it weakly
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logs.fault("a fault of rehead's own in the background", error)

    async def settle(self) -> None:
        """Return when nothing is done in the background any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def versions(self) -> dict[str, list[str]]:
        """Return the served versions by model."""
        return {name: [version.id for version in self.models.named(name)] for name in self.models.names}


def state_of(request: Request) -> ServerState:
    """Return the state of the server that a request came to."""
    state = request.app.state.rehead
    assert isinstance(state, ServerState)
    return state
