"""The endpoints for files: upload one, see how far it is, download the result."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi import Path as InPath
from fastapi.responses import FileResponse, Response
from starlette.concurrency import run_in_threadpool

from rehead.batch.scoring import score_table
from rehead.runtime.errors import SettingError
from rehead.serving import wire
from rehead.serving.batching import FromThread
from rehead.serving.gate import UPLOADS
from rehead.serving.jobs import ENDED, Job, Jobs
from rehead.serving.models import Models
from rehead.serving.refusals import Refusal, described
from rehead.serving.state import state_of

router = APIRouter(prefix=UPLOADS)
_MEDIA_TYPES = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
Number = Annotated[str, InPath(pattern="^[0-9a-f]{24}$", description="of the job")]


@router.post("", status_code=202, response_model=wire.JobFacts, responses=described(400, 401, 403, 404, 413, 422, 429))
async def upload(
    request: Request,
    file: Annotated[UploadFile, File(description="CSV, TSV, JSON Lines or Parquet")],
    model: Annotated[str | None, Form(max_length=64)] = None,
    text_column: Annotated[str | None, Form(max_length=1000, description="found by its name if not given")] = None,
    format: Annotated[Literal["csv", "tsv", "jsonl", "parquet"] | None, Form(description="of the result")] = None,
) -> dict[str, Any]:
    """Scores each row of a file: a job is made, which goes on by itself, also if the server is started again."""
    state = state_of(request)
    version = state.models.main(model)
    if version.artifact.takes == "images":
        raise Refusal(422, "wrong_kind", f"model {version.name!r} classifies images; send them to /v1/predict")
    await state.require_room_for_a_job()  # once more: others may have come while this file did
    name = Path((file.filename or "file").replace("\\", "/")).name[:200] or "file"
    ending = Path(name).suffix.lower().removeprefix(".")
    chosen = format or (ending if ending in _MEDIA_TYPES else "csv")
    job = await run_in_threadpool(state.jobs.add, file.file, version.name, name, text_column or None, chosen)
    request.state.facts.update(model=version.name, job=job.id)
    return _told(job, state.jobs)


@router.get("/{number}", response_model=wire.JobFacts, responses=described(401, 403, 404, 422))
async def job(request: Request, number: Number) -> dict[str, Any]:
    """How far a job is."""
    jobs = state_of(request).jobs
    return _told(await run_in_threadpool(_found, jobs, number), jobs)


@router.get(
    "/{number}/result",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in _MEDIA_TYPES.values()}, "description": "The rows with predictions"},
        **described(401, 403, 404, 409, 422),
    },
)
async def result(request: Request, number: Number) -> Response:
    """The rows of the file with what is predicted of each."""
    jobs = state_of(request).jobs
    found = await run_in_threadpool(_done, jobs, number)
    name = f"{Path(found.name).stem}.predicted.{found.format}"
    return FileResponse(jobs.result_of(found), media_type=_MEDIA_TYPES[found.format], filename=name)


@router.get(
    "/{number}/bad-rows",
    response_class=Response,
    responses={
        200: {"content": {_MEDIA_TYPES["jsonl"]: {}}, "description": "Each with its row and the reason"},
        **described(401, 403, 404, 409, 422),
    },
)
async def bad_rows(request: Request, number: Number) -> Response:
    """The rows that could not be read."""
    jobs = state_of(request).jobs
    found = await run_in_threadpool(_done, jobs, number)
    file = jobs.bad_rows_of(found)
    if not file.is_file():
        raise Refusal(404, "no_bad_rows", "all rows of that file could be read")
    name = f"{Path(found.name).stem}.bad.jsonl"
    return FileResponse(file, media_type=_MEDIA_TYPES["jsonl"], filename=name)


@router.delete("/{number}", response_model=wire.JobFacts, responses=described(401, 403, 404, 422))
async def cancel(request: Request, number: Number) -> dict[str, Any]:
    """Ends a job, and removes its file and its result."""
    jobs = state_of(request).jobs
    await run_in_threadpool(_found, jobs, number)
    await run_in_threadpool(jobs.cancel, number)
    return _told(await run_in_threadpool(_found, jobs, number), jobs)


def _found(jobs: Jobs, number: str) -> Job:
    found = jobs.find(number)
    if found is None:
        raise Refusal(404, "unknown_job", f"there is no job {number}; jobs are kept for seven days after they end")
    return found


def _done(jobs: Jobs, number: str) -> Job:
    found = _found(jobs, number)
    if found.state != "done" or not jobs.result_of(found).is_file():
        how = found.error or ("wait" if found.state not in ENDED else "upload the file again")
        raise Refusal(409, f"job_{found.state}", f"the job is {found.state}, so there is no result: {how}")
    return found


def _told(job: Job, jobs: Jobs) -> dict[str, Any]:
    done = job.state == "done"
    facts = {name: value for name, value in (job.facts or {}).items() if name not in ("output", "bad_rows_file")}
    return {
        "id": job.id,
        "state": job.state,
        "model": job.model,
        "name": job.name,
        "created": job.created,
        "ended": job.ended,
        "progress": 1.0 if done else min(1.0, job.done / job.total if job.total else 0.0),
        "result": f"{UPLOADS}/{job.id}/result" if done and jobs.result_of(job).is_file() else None,
        "bad_rows": f"{UPLOADS}/{job.id}/bad-rows" if done and jobs.bad_rows_of(job).is_file() else None,
        "facts": facts or None,
        "error": job.error,
    }


def work(models: Models, loop: asyncio.AbstractEventLoop) -> Any:
    """What a job is: its file scored by the model of its name, among the requests that come in meanwhile."""

    def score(
        job: Job, file: Path, output: Path, tell: Callable[[int, int], None], stop: threading.Event
    ) -> dict[str, Any]:
        try:
            version = models.main(job.model)
        except Refusal as refusal:
            raise SettingError(refusal.message) from None
        asked = FromThread(version.batcher, loop, observed=True, bounded=False)
        return score_table(
            version.artifact,
            asked,
            str(file),
            output,
            text_column=job.text_column,
            on_progress=tell,
            stop=stop,
        )

    return score
