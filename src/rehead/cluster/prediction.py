"""Score tables or images on many machines: tasks read them, actors that hold the classifier score and write parts.

Ray Data streams the parts from the ones to the others, starts lost workers again and repeats what they had begun.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import torch

from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import load_artifact
from rehead.batch import answers
from rehead.batch.journal import Counts, identity_of
from rehead.batch.portions import rows_at_once
from rehead.batch.scoring import ScoredTable, score_portion
from rehead.batch.sinks import Sink, sink_for
from rehead.batch.sources import FILE_COLUMN
from rehead.batch.text_files import different_columns
from rehead.cluster.connection import connected, there
from rehead.cluster.inputs import PART_ROWS, Images, Input, Part, Preview, here, inputs_of, parts_of
from rehead.cluster.outputs import BAD, Output, Record
from rehead.data.columns import text_column_of
from rehead.runtime import hardware, progress
from rehead.runtime.errors import DataError, Interrupted

if TYPE_CHECKING:
    import pyarrow

# Shares of a core. Actors that held all of them would starve the tasks that read for them.
_READING, _SCORING = 0.25, 0.5
# Ray joins what tasks give to blocks of this size, and a block is what an actor gets: small ones keep all actors busy.
_BLOCK_BYTES = 4 * 2**20


def score_on_ray(
    model: str,
    source: str,
    output: str,
    *,
    on: str = "ray",
    text_column: str | None = None,
    part_rows: int = PART_ROWS,
    escape_formulas: bool = False,
) -> ScoredTable:
    """Write the rows of tables, or of images, with what a saved classifier predicts of each, to a folder of parts.

    The columns are those of `rehead.batch.scoring.score_table`. A run that was interrupted goes on where it was, if
    model, input and settings are the same.

    Args:
        model: folder of the classifier, which has to be there on all machines, or its address (`s3://...`).
        source: a file, a folder of files or a pattern, likewise.
        output: name of the folder; .csv, .tsv, .jsonl or .parquet.
        on: see `rehead.cluster.connection.connected`.
        text_column, escape_formulas: see `score_table`.
        part_rows: rows of a part, at least, but of an input's last one.

    Returns:
        What `score_table` does; `bad_rows_file` is a folder.

    Raises:
        RheadError: for what the user can mend.
        Interrupted: Ctrl-C; what is written is kept.
    """
    with connected(on):
        places = [one if "://" in one else str(Path(one).absolute()) for one in (model, source, output)]
        result: ScoredTable = there(_score, *places, text_column, part_rows, escape_formulas)
    bad = f"{output.rstrip('/')}/{BAD}" if result.bad_rows else None
    return replace(result, output=output, bad_rows_file=bad)


@dataclass(frozen=True)
class _Plan:
    """What workers have to know.

    Attributes:
        names: of columns that are looked for; a first row with one of them is a header.
        added: columns with answers.
        run: of these parts; those of an interrupted run have another.
    """

    model: str
    output: Output
    text_column: str
    names: tuple[str, ...]
    columns: list[str]
    schema: pyarrow.Schema | None
    added: list[str]
    part_rows: int
    escape_formulas: bool
    run: str


def _score(
    model: str, source: str, output: str, text_column: str | None, part_rows: int, escape_formulas: bool
) -> ScoredTable:
    """Score inside the cluster."""
    begun = time.perf_counter()
    written = Output.at(output)
    with here(model, is_folder=True) as folder:
        loaded = load_artifact(folder)
        inputs = inputs_of(source, output, takes=loaded.takes, text_column=text_column)
        # The first input says how the others are read.
        trained_on, added = loaded.entries.get("text_column"), answers.names_of(loaded)
        named = [name for name in (text_column, trained_on, loaded.entries.get("label_column")) if name]
        first = _previews(inputs[:1], named)[0]
        names = (*named, *(first.columns if first.sample.header else ()))
        previews = [first, *_previews(inputs[1:], names)]
        columns = _columns_of(previews)
        answers.require_free(columns, added, first.sample.source)
        is_of_images = isinstance(inputs[0], Images)
        column = first.columns[0] if is_of_images else text_column_of(first.sample, text_column, trained_on)
        rows, run = rows_at_once(part_rows, len(columns)), uuid4().hex
        plan = _Plan(model, written, column, names, columns, first.schema, added, rows, escape_formulas, run)
        decisive = {
            "model": json.dumps(loaded.entries, sort_keys=True, default=str),
            "plan": repr(replace(plan, run="")),
            "input": repr([preview.identity for preview in previews]),
            "version of rehead": version("rehead"),
        }
    if written.begin(identity_of(decisive)):
        progress.say(f"an interrupted run to {output} goes on")
    try:
        with progress.bar("scoring", sum(preview.total for preview in previews)) as advance:
            records = _complete(_records(plan, inputs, advance), len(inputs))
        written.commit(records)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the same command goes on behind the parts that are written") from None
    counts = sum((one.counts for one in records), Counts())
    resumed = sum(one.counts.rows for one in records if one.run != plan.run)
    return ScoredTable.of(counts, resumed, output, BAD, begun, parts=sum(one.file is not None for one in records))


def _previews(inputs: Sequence[Input], names: Sequence[str]) -> list[Preview]:
    """Look at inputs, each in a task of its own; an image is looked at when it is read."""
    import ray

    if all(isinstance(one, Images) for one in inputs):
        return [one.preview(names) for one in inputs]
    preview = ray.remote(num_cpus=_READING)(lambda one: one.preview(names))
    previews: list[Preview] = ray.get([preview.remote(one) for one in inputs])
    return previews


def _columns_of(previews: Sequence[Preview]) -> list[str]:
    """Return the columns of all inputs; those of JSON Lines together, all others have to be the same.

    Raises:
        DataError: they are not.
    """
    first = previews[0]
    for preview in previews[1:]:
        if preview.columns != first.columns and not (preview.may_differ and first.may_differ):
            raise different_columns(
                Path(preview.sample.source), preview.columns, Path(first.sample.source), first.columns
            )
        if preview.schema and first.schema and preview.schema.types != first.schema.types:
            raise DataError(f"{preview.sample.source} has other types of columns than {first.sample.source}")
    names = dict.fromkeys(name for preview in previews for name in preview.columns)
    if len(previews) > 1 and FILE_COLUMN in names:  # it is the last one, whatever others come up late
        names[FILE_COLUMN] = names.pop(FILE_COLUMN)
    return list(names)


def _records(plan: _Plan, inputs: Sequence[Input], advance: Callable[[int], None]) -> Iterator[Record]:
    """Score all parts, and yield what is known of each once it is written."""
    import ray
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    cluster = ray.cluster_resources()
    n_devices = int(cluster.get("GPU", 0))
    resources: dict[str, Any] = {"num_gpus": 1} if n_devices else {"num_cpus": _SCORING}
    n_actors = n_devices or max(1, int(cluster.get("CPU", 1)))
    actors = data.ActorPoolStrategy(min_size=1, max_size=n_actors)
    numbered = [{"number": number} for number in range(len(inputs))]
    scored = (
        data.from_items(numbered, override_num_blocks=len(inputs))
        .map_batches(_Reading(plan, ray.put(list(inputs))), batch_size=1, num_cpus=_READING)
        .map_batches(_Scoring, fn_constructor_args=(plan,), batch_size=1, compute=actors, **resources)
    )
    for row in scored.iter_rows():
        advance(row["record"].done)
        yield row["record"]


def _complete(records: Iterator[Record], n_inputs: int) -> list[Record]:
    """Return them in order, each once; there must be all parts of all inputs."""
    known = {(one.source, one.number): one for one in records}
    found = [known[place] for place in sorted(known)]
    last = {one.source: one.number for one in found if one.is_last}
    wanted = [(source, number) for source in range(n_inputs) for number in range(last.get(source, 0) + 1)]
    if sorted(known) != wanted or len(last) != n_inputs:
        raise RuntimeError(f"{len(known):,} of {len(wanted):,} parts or more were written; run the command again")
    return found


@dataclass(frozen=True)
class _Reading:
    """A task that reads an input, in parts."""

    plan: _Plan
    inputs: Any  # where Ray keeps them

    def __call__(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        import ray

        plan, (number,) = self.plan, batch["number"]
        one = ray.get(self.inputs)[number]
        for part in parts_of(int(number), one, plan.text_column, plan.names, plan.columns, plan.part_rows):
            yield {"part": _column([part])}


class _Scoring:
    """An actor that holds the classifier."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        if hardware.device().type == "cpu":
            torch.set_num_threads(1)  # there is an actor for each core

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        (part,) = batch["part"]
        return {"record": _column([self._plan.output.record(part.source, part.number) or self._scored(part)])}

    @cached_property
    def _model(self) -> tuple[Artifact, answers.TextScorer]:
        """The classifier; loaded with the first part, so that what is wrong with it is an error of that."""
        with here(self._plan.model, is_folder=True) as folder:
            loaded = load_artifact(folder)
            return loaded, loaded.predictor(steady=True, label=None)

    def _scored(self, part: Part) -> Record:
        """Score and write a part."""
        plan, (loaded, predictor) = self._plan, self._model
        name = plan.output.part(part.source, part.number)
        sink = sink_for(Path(name), plan.columns, plan.schema, plan.added, plan.escape_formulas)
        results, bad, counts = b"", b"", Counts()
        for portion in part.portions:
            scored, unreadable, counted = score_portion(loaded, predictor, sink, portion)
            results, bad, counts = results + scored, bad + unreadable, counts + counted
        file = name if counts.rows else None
        record = Record(part.source, part.number, part.is_last, part.done, file, counts, plan.run)
        plan.output.keep(record, _whole(sink, results), bad)
        return record


def _whole(sink: Sink, results: bytes) -> bytes:
    """Return a complete file of what a sink has made of the portions."""
    if sink.assemble is None:
        return sink.beginning + results
    with TemporaryDirectory(prefix="rehead-") as folder:
        portions, whole = Path(folder) / "portions", Path(folder) / "whole"
        portions.write_bytes(results)
        sink.assemble(portions, whole)
        return whole.read_bytes()


def _column(values: list[Any]) -> np.ndarray[Any, Any]:
    """Return objects as a column of one of Ray Data's batches."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
