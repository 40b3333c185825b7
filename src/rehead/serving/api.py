"""The endpoints that answer at once: predictions, what is served, and how the server is."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from rehead.analysis.image_explanation import coloured, heat_map
from rehead.artifact.explanation import contributions
from rehead.batch.answers import answers_of
from rehead.data.columns import SURROGATE
from rehead.data.images import ImageInput, looked_at
from rehead.data.records import key_twice
from rehead.runtime.errors import RheadError
from rehead.serving import logs, wire
from rehead.serving.batching import FromThread
from rehead.serving.models import Version
from rehead.serving.refusals import Refusal, described
from rehead.serving.settings import RequestLimits
from rehead.serving.state import state_of


class _Body(Request):
    async def json(self) -> Any:
        return json.loads(await self.body(), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    sent = dict(pairs)
    if (twice := key_twice(sent, pairs)) is not None:
        raise Refusal(422, "key_twice", f"the key {twice!r:.40} comes twice in one object; send it once")
    return sent


class _Route(APIRoute):
    """A route whose body is JSON that can be meant in one way only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_and_handle(request: Request) -> Response:
            return await handle(_Body(request.scope, request.receive))

        return read_and_handle


router = APIRouter(route_class=_Route)
# What needs no key, see `rehead.serving.gate.OPEN`.
without_key = APIRouter()
Answers = list[dict[str, Any]]
# Digits of a probability that go over the wire; the seventh is rounding.
_DIGITS = 6
# The report's own scripts and pictures, which are in it, and nothing else; kept apart from the page.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)


@router.post(
    "/v1/predict", response_model=wire.PredictionsReply, responses=described(400, 401, 403, 404, 413, 422, 429)
)
async def predict(asked: wire.PredictRequest, request: Request) -> Response:
    """Classify texts, or images: their labels, the probability of each, and why if that is asked for."""
    state = state_of(request)
    version, shadows = state.models.routed(asked.model)
    inputs = await _inputs(asked, version, state.settings.limits)
    request.state.noted.update(model=version.name, version=version.id, inputs=len(inputs))
    if state.settings.log_texts and version.artifact.takes == "texts":
        request.state.noted["texts"] = inputs
    answering = _explained(version, inputs, state.explaining) if asked.explain else _predicted(version, inputs)
    try:
        predictions = await _while_listened_to(request, answering)
    except RheadError as error:
        raise Refusal(422, "not_scored", str(error)) from error
    for shadow in shadows:
        state.in_the_background(_shadow(shadow, inputs, predictions))
    body = {"model": version.name, "version": version.id, "predictions": predictions}
    return Response(json.dumps(body, ensure_ascii=False), media_type="application/json")


async def _while_listened_to(request: Request, work: Coroutine[Any, Any, Answers]) -> Answers:
    """Return what comes of some work, which is abandoned if the client hangs up before.

    Raises:
        ClientDisconnect: it has.
    """

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    answering, leaving = asyncio.ensure_future(work), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            raise ClientDisconnect
        return answering.result()
    finally:
        answering.cancel()
        leaving.cancel()


async def _predicted(version: Version, inputs: list[Any]) -> Answers:
    return [
        {**answer, "probabilities": {label: round(p, _DIGITS) for label, p in answer["probabilities"].items()}}
        for answer in answers_of(version.artifact, await version.batcher.scores(inputs))
    ]


async def _explained(version: Version, inputs: list[Any], threads: CapacityLimiter) -> Answers:
    # Both at once, so that what they have in common passes through the model once.
    asked = FromThread(version.batcher, asyncio.get_running_loop())
    try:
        predictions, reasons = await asyncio.gather(
            _predicted(version, inputs), _reasons(version, inputs, asked, threads)
        )
    finally:
        asked.give_up()
    return [{**prediction, **reason} for prediction, reason in zip(predictions, reasons, strict=True)]


async def _reasons(version: Version, inputs: list[Any], asked: FromThread, threads: CapacityLimiter) -> Answers:
    """Return for each text its pieces, and for each image its parts' weights and their picture."""
    in_thread = partial(to_thread.run_sync, limiter=threads, abandon_on_cancel=True)
    if version.artifact.takes == "images":
        return await asyncio.gather(*(in_thread(_image_reasons, asked, image) for image in inputs))
    pieces, _ = await in_thread(contributions, asked, inputs)
    return [{"pieces": [asdict(piece) for piece in of_one]} for of_one in pieces]


def _image_reasons(asked: FromThread, image: ImageInput) -> dict[str, Any]:
    weights, _ = heat_map(asked, image)
    content = io.BytesIO()
    coloured(image, weights).save(content, "PNG")
    shown = base64.b64encode(content.getvalue()).decode("ascii")
    return {"weights": weights.round(4).tolist(), "heat_map": f"data:image/png;base64,{shown}"}


async def _shadow(version: Version, inputs: list[Any], heard: list[dict[str, Any]]) -> None:
    """Ask a version that nobody hears, and count whether it would have answered the same."""
    try:
        answers = await _predicted(version, inputs)
    except (Refusal, RheadError) as error:
        logs.event("a shadow was not asked", version=version.id, reason=str(error))
        return
    for answer, other in zip(answers, heard, strict=True):
        version.metrics.compared(all(answer.get(key) == other.get(key) for key in ("label", "labels")))


async def _inputs(asked: wire.PredictRequest, version: Version, limits: RequestLimits) -> list[Any]:
    kind = version.artifact.takes
    other = "texts" if kind == "images" else "images"
    sent, wrong = getattr(asked, kind), getattr(asked, other)
    if sent is None or wrong is not None:
        raise Refusal(422, "wrong_kind", f'model {version.name!r} classifies {kind}: send "{kind}" and nothing else')
    inputs = [sent] if isinstance(sent, str) else sent
    most = limits.explained if asked.explain else limits.texts
    if len(inputs) > most:
        explained = " where they are explained" if asked.explain else ""
        raise Refusal(422, "too_many", f"{kind}: {most:,} a request at most{explained}, not {len(inputs):,}")
    if kind == "images":
        return await run_in_threadpool(_pictures, inputs)
    for number, text in enumerate(inputs):
        if len(text) > limits.characters:
            message = f"texts.{number} has {len(text):,} characters, the limit is {limits.characters:,}; shorten it"
            raise Refusal(422, "too_long", message)
        if not text.isascii() and SURROGATE.search(text):
            raise Refusal(422, "not_unicode", f"texts.{number} holds half a character (a lone surrogate); remove it")
    return inputs


def _pictures(encoded: list[str]) -> list[ImageInput]:
    pictures = []
    for number, one in enumerate(encoded):
        try:
            content = base64.b64decode(one, validate=True)
        except (binascii.Error, ValueError):
            raise Refusal(422, "not_base64", f"images.{number} is not base64; send the file's bytes in it") from None
        pictures.append(ImageInput(f"images.{number}", content=content))
    for picture, problem in zip(pictures, looked_at(pictures), strict=True):
        if problem is not None:
            raise Refusal(422, "not_an_image", f"{picture.name} {problem}; send a JPEG or PNG")
    return pictures


@router.get("/v1/models", responses=described(401, 403))
async def models(request: Request) -> wire.ModelList:
    """List what is served."""
    versions = state_of(request).models.versions
    return wire.ModelList(models=[await run_in_threadpool(_entry, version) for version in versions])


Model = Query(None, max_length=64, description="its name; may be left out where one is served")


@router.get("/v1/model", responses=described(401, 403, 404, 422))
async def model(request: Request, model: str | None = Model) -> wire.ModelCard:
    """Describe one model: labels, measures, card; of several that share the name, that with the largest share."""
    version = state_of(request).models.main(model)
    card = version.source.folder / "README.md"
    entry = await run_in_threadpool(_entry, version)
    return wire.ModelCard(**dict(entry), card=card.read_text(encoding="utf-8") if card.is_file() else "")


@router.get(
    "/v1/model/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "A page"}, **described(401, 403, 404, 422)},
)
async def report(request: Request, model: str | None = Model) -> Response:
    """Download the report of the fit."""
    version = state_of(request).models.main(model)
    file = version.source.folder / "report.html"
    if not file.is_file():
        raise Refusal(404, "no_report", f"model {version.name!r} was saved without a report")
    return FileResponse(file, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


def _entry(version: Version) -> wire.ServedModel:
    """Describe a version; in a thread, because to measure drift can take tenths of a second."""
    manifest = version.artifact.manifest
    metrics = manifest.metrics or {}
    drift = version.drift()
    return wire.ServedModel(
        name=version.name,
        version=version.id,
        weight=version.source.weight,
        kind=version.artifact.takes,
        labels=list(version.artifact.labels),
        several_labels=version.artifact.multilabel,
        base=Path(manifest.base).name,  # of a folder, where it lies is nobody's business
        tune=manifest.tune,
        depth=manifest.depth,
        pool=manifest.pool,
        max_length=manifest.max_length,
        has_report=(version.source.folder / "report.html").is_file(),
        test=metrics.get("test"),
        baselines=metrics.get("baselines"),
        drift=None if drift is None else drift.to_json(),
    )


@router.post("/v1/reload", responses=described(401, 403, 422))
async def reload(request: Request) -> wire.Reloaded:
    """Load all models again from their folders; requests go on being answered meanwhile."""
    state = state_of(request)
    if not await state.reload():
        raise Refusal(422, "not_loaded", "the models stay as they were; the server's log says why")
    return wire.Reloaded(versions=state.versions())


@without_key.get("/healthz")
async def healthz() -> wire.Health:
    """Return whether the server runs."""
    return wire.Health(status="ok")


@without_key.get("/readyz", responses=described(503))
async def readyz(request: Request) -> wire.Health:
    """Return whether requests should be sent here: not while it shuts down."""
    if state_of(request).draining:
        raise Refusal(503, "shutting_down", "this server is shutting down; ask another")
    return wire.Health(status="ok")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus's text format"}, **described(401, 403)},
)
async def metrics(request: Request) -> Response:
    """Return what the server counts."""
    content = await run_in_threadpool(state_of(request).metrics.exposition)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


@router.get("/openapi.json", include_in_schema=False)
async def description(request: Request) -> JSONResponse:
    """Return the description of this API."""
    return JSONResponse(request.app.openapi())
