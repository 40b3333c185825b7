"""Serve saved classifiers with Ray Serve: the API of `rehead.serving` in replicas, on as many machines as there are.

Files are scored by `rehead.cluster.prediction`, not by a server of several processes, which would have to know each
other's jobs; so those endpoints are not there.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from fastapi import FastAPI

from rehead.artifact.loading import load_artifact
from rehead.cluster.connection import connected
from rehead.runtime import hardware
from rehead.serving import files_api, logs
from rehead.serving.jobs import Jobs
from rehead.serving.metrics import ServerMetrics
from rehead.serving.models import Models, ModelSource
from rehead.serving.server import application
from rehead.serving.settings import ServerSettings
from rehead.serving.state import ServerState

_NAME = "rehead"


def serve_on_ray(
    sources: Sequence[ModelSource], settings: ServerSettings, *, on: str = "ray", replicas: int = 1
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        sources: folders have to be there on all machines.
        settings: host and port are those of Serve's proxies, one on each machine that has a replica; `jobs` is not
            used.
        on: see `rehead.cluster.connection.connected`.
        replicas: processes, each with all models, and with a device where the cluster has any.

    Raises:
        RheadError: there is no cluster, or the models cannot be loaded.
    """
    logs.start()
    stopped = threading.Event()
    with connected(on), deployed(sources, settings, replicas) as address:
        for number in (signal.SIGTERM, signal.SIGINT):  # Ray has handlers of its own by now
            signal.signal(number, lambda *_: stopped.set())
        logs.event("listening", address=address)
        stopped.wait()
    logs.event("stopped")


@contextmanager
def deployed(sources: Sequence[ModelSource], settings: ServerSettings, replicas: int) -> Iterator[str]:
    """Yield the address at which a cluster answers, while the block runs."""
    import ray
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    sources = [replace(source, folder=source.folder.absolute()) for source in sources]
    # What is wrong with them is said here; Serve would point to a replica's log.
    ray.get(ray.remote(num_cpus=0)(_load).remote(sources))
    device = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
    options: dict[str, Any] = {"ray_actor_options": device, "max_ongoing_requests": settings.limits.connections}
    deployment = serve.deployment(serve.ingress(_builder(sources, settings))())
    serve.start(http_options={"host": settings.host, "port": settings.port})
    try:
        serve.run(deployment.options(name=_NAME, num_replicas=replicas, **options).bind(), name=_NAME)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        yield f"http://{host}:{settings.port}"
    finally:
        serve.shutdown()


def _load(sources: Sequence[ModelSource]) -> None:
    for source in sources:
        load_artifact(source.folder)


def _builder(sources: Sequence[ModelSource], settings: ServerSettings) -> Callable[[], FastAPI]:
    """Return what makes the application in a replica's event loop."""

    def build() -> FastAPI:
        logs.start()
        if hardware.device().type == "cpu":
            torch.set_num_threads(1)  # see `rehead.serving.server.run`
        folder, metrics = TemporaryDirectory(prefix="rehead-jobs-"), ServerMetrics()
        models = Models(sources, settings.limits, metrics)
        work = files_api.work(models, asyncio.get_running_loop(), settings.limits)
        state = ServerState(settings, metrics, models, Jobs(Path(folder.name), work, metrics.job))
        app = application(state, with_files=False)

        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            await models.load()
            yield
            await state.settle()
            state.jobs.close()
            models.close()
            folder.cleanup()

        app.router.lifespan_context = lifespan
        return app

    return build
