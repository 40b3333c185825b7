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

from rehead.runtime.errors import SettingError
from rehead.serving import wire
from rehead.serving.batching import FromThread
from rehead.serving.gate import UPLOADS
from rehead.serving.job_process import JobTask, score_file
from rehead.serving.jobs import ENDED, Job, Jobs, Work
from rehead.serving.models import Models
from rehead.serving.refusals import Refusal, described
from rehead.serving.settings import RequestLimits
from rehead.serving.state import state_of

router = APIRouter(prefix=UPLOADS)
_MEDIA_TYPES = {
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}
Number = Annotated[str, InPath(pattern="^[0-9a-f]{24}$", description="of the job")]


@router.post("", status_code=202, responses=described(400, 401, 403, 404, 413, 422, 429, 507))
async def upload(
    request: Request,
    file: Annotated[UploadFile, File(description="CSV, TSV, JSON Lines or Parquet")],
    model: Annotated[str | None, Form(max_length=64)] = None,
    text_column: Annotated[str | None, Form(max_length=1000, description="found by its name if left out")] = None,
    format: Annotated[Literal["csv", "tsv", "jsonl", "parquet"] | None, Form(description="of the result")] = None,
    formulas: Annotated[
        Literal["escape", "keep"], Form(description="whether CSV and TSV keep what a spreadsheet would run")
    ] = "escape",
) -> wire.FileJob:
    """Score each row of a file: a job is made, which goes on by itself, also if the server is started again."""
    state = state_of(request)
    version = state.models.main(model)
    if version.artifact.takes == "images":
        raise Refusal(422, "wrong_kind", f"model {version.name!r} classifies images; send them to /v1/predict")
    await state.require_free_place_for_a_job()  # once more: others may have come while this file did
    name = Path((file.filename or "file").replace("\\", "/")).name[:200] or "file"
    ending = Path(name).suffix.lower().removeprefix(".")
    chosen = format or (ending if ending in _MEDIA_TYPES else "csv")
    job = await run_in_threadpool(
        state.jobs.add, file.file, version.name, name, text_column or None, chosen, formulas == "escape"
    )
    request.state.noted.update(model=version.name, job=job.id)
    return _entry(job, state.jobs)


@router.get("/{number}", responses=described(401, 403, 404, 422))
async def progress(request: Request, number: Number) -> wire.FileJob:
    """Return how far a job is."""
    jobs = state_of(request).jobs
    return _entry(await run_in_threadpool(_job_of, jobs, number), jobs)


@router.get(
    "/{number}/result",
    response_class=Response,
    responses={
        200: {"content": {kind: {} for kind in _MEDIA_TYPES.values()}, "description": "The rows with predictions"},
        **described(401, 403, 404, 409, 422),
    },
)
async def result(request: Request, number: Number) -> Response:
    """Download the rows of the file with what is predicted of each."""
    jobs = state_of(request).jobs
    job = await run_in_threadpool(_done, jobs, number)
    name = f"{Path(job.name).stem}.predicted.{job.format}"
    return FileResponse(jobs.result_of(job), media_type=_MEDIA_TYPES[job.format], filename=name)


@router.get(
    "/{number}/bad-rows",
    response_class=Response,
    responses={
        200: {"content": {_MEDIA_TYPES["jsonl"]: {}}, "description": "Each with its row and the reason"},
        **described(401, 403, 404, 409, 422),
    },
)
async def bad_rows(request: Request, number: Number) -> Response:
    """Download the rows that could not be read."""
    jobs = state_of(request).jobs
    job = await run_in_threadpool(_done, jobs, number)
    file = jobs.bad_rows_of(job)
    if not file.is_file():
        raise Refusal(404, "no_bad_rows", "all rows of that file could be read")
    name = f"{Path(job.name).stem}.bad.jsonl"
    return FileResponse(file, media_type=_MEDIA_TYPES["jsonl"], filename=name)


@router.delete("/{number}", responses=described(401, 403, 404, 422))
async def cancel(request: Request, number: Number) -> wire.FileJob:
    """End a job, and remove its file and its result."""
    jobs = state_of(request).jobs
    await run_in_threadpool(_job_of, jobs, number)
    await run_in_threadpool(jobs.cancel, number)
    return _entry(await run_in_threadpool(_job_of, jobs, number), jobs)


def _job_of(jobs: Jobs, number: str) -> Job:
    job = jobs.find(number)
    if job is None:
        raise Refusal(404, "unknown_job", f"there is no job {number}; jobs are kept for seven days after they end")
    return job


def _done(jobs: Jobs, number: str) -> Job:
    job = _job_of(jobs, number)
    if job.state != "done" or not jobs.result_of(job).is_file():
        how = job.error or ("wait" if job.state not in ENDED else "upload the file again")
        raise Refusal(409, f"job_{job.state}", f"the job is {job.state}, so there is no result: {how}")
    return job


def _entry(job: Job, jobs: Jobs) -> wire.FileJob:
    done = job.state == "done"
    summary = {name: value for name, value in (job.summary or {}).items() if name not in ("output", "bad_rows_file")}
    return wire.FileJob(
        id=job.id,
        state=job.state,
        model=job.model,
        name=job.name,
        created=job.created,
        ended=job.ended,
        progress=1.0 if done else min(1.0, job.done / job.total if job.total else 0.0),
        result=f"{UPLOADS}/{job.id}/result" if done and jobs.result_of(job).is_file() else None,
        bad_rows=f"{UPLOADS}/{job.id}/bad-rows" if done and jobs.bad_rows_of(job).is_file() else None,
        facts=summary or None,
        error=job.error,
    )


def work(models: Models, loop: asyncio.AbstractEventLoop, limits: RequestLimits) -> Work:
    """Return what a job is: its file scored by the model of its name, among the requests that come in meanwhile."""

    def score(
        job: Job, file: Path, output: Path, on_progress: Callable[[int, int], None], stop: threading.Event
    ) -> dict[str, Any]:
        try:
            version = models.main(job.model)
        except Refusal as refusal:
            raise SettingError(refusal.message) from None
        model = version.artifact
        task = JobTask(
            model.entries,
            model.labels,
            model.rule,
            file,
            output,
            job.text_column,
            job.escape_formulas,
            limits.job_bytes,
        )
        asking = FromThread(version.batcher, loop, observed=True, bounded=False)
        return score_file(task, asking.begin, on_progress, stop, limits.job_seconds)

    return score
