"""Scores a table of any length: reads, scores and keeps a portion at a time; goes on with a run that was cut off."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rehead.batch import answers, sources
from rehead.batch.journal import Counts, Journal, identity_of
from rehead.batch.portions import PORTION_ROWS, Portion, read_ahead, rows_at_once
from rehead.batch.sinks import Sink, sink_for
from rehead.batch.sources import RowSource
from rehead.data import tables
from rehead.data.columns import text_column_of
from rehead.runtime import progress
from rehead.runtime.results import Result, entry

# Texts after which a predictor rounds as it does ever after: it measures that on the first 16 that differ, or 64.
_SETTLING_TEXTS = 128


@dataclass(frozen=True)
class ScoredTable(Result):
    """What has become of the rows of a table.

    Attributes:
        rows: how many were scored.
        bad_rows: how many could not be read.
        bad_rows_file: where these are, with reasons; None if there are none.
        empty: how many of the rows scored have no text.
        first_empty: where the first of these stands.
        cut: how many texts are longer than the model takes and lost some of it.
        abstained: how many rows got no label.
        output: the file.
        resumed_rows: how many an earlier run had scored.
        seconds: of this run.
        rows_a_second: of this run.
        parts: how many files a cluster has written; None where it is one.
    """

    rows: int
    bad_rows: int
    bad_rows_file: str | None
    empty: int
    first_empty: str | None
    cut: int
    abstained: int
    output: str
    resumed_rows: int
    seconds: float
    rows_a_second: float
    parts: int | None = entry(optional=True)

    @classmethod
    def of(
        cls, counts: Counts, resumed_rows: int, output: str, bad_rows_file: str, begun: float, parts: int | None = None
    ) -> ScoredTable:
        """Return the result of a run that began at a time of `time.perf_counter`."""
        seconds = time.perf_counter() - begun
        return cls(
            rows=counts.rows,
            bad_rows=counts.bad,
            bad_rows_file=bad_rows_file if counts.bad else None,
            empty=counts.empty,
            first_empty=counts.first_empty,
            cut=counts.cut,
            abstained=counts.abstained,
            output=output,
            resumed_rows=resumed_rows,
            seconds=seconds,
            rows_a_second=(counts.rows - resumed_rows) / seconds,
            parts=parts,
        )


def score_table(
    model: answers.Deciding,
    predictor: answers.TextScorer,
    source: str,
    output: Path,
    *,
    text_column: str | None = None,
    query: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    portion_rows: int = PORTION_ROWS,
    escape_formulas: bool = False,
) -> ScoredTable:
    """Write the rows of a table with what the model predicts of each.

    Memory does not grow with the number of rows. A run that was interrupted, or killed, goes on where it was, if model,
    source and settings are the same; what it writes is what an undisturbed run would have written.

    Args:
        model: its labels and its rule.
        predictor: its `scores` is called once for each portion, by one thread.
        source: a file (CSV, TSV, JSON Lines, Parquet, a text a line), a folder of tables, a pattern of names, or a
            database (`sqlite:FILE`, `duckdb:FILE`, `postgresql://...`).
        output: .csv, .tsv, .jsonl or .parquet; replaced when all is done. Rows that cannot be read are written beside
            it, to a file with `.bad.jsonl` in the place of that.
        text_column: found by its name, or its content, if None.
        query: of a database: which rows.
        on_progress: called with what is done and the total, of rows or bytes, after each portion; a bar is drawn if
            None.
        portion_rows: rows that are scored together, at most.
        escape_formulas: whether cells of CSV and TSV that a spreadsheet would run get an apostrophe before them.

    Raises:
        DataError: the source cannot be read, or the output not be written.
        SettingError: another run to the same output is going on.
        Interrupted: Ctrl-C was pressed; what is done is kept.
    """
    begun = time.perf_counter()
    tables.require_writable(output)
    trained_on = model.entries.get("text_column")
    names = [name for name in (text_column, trained_on, model.entries.get("label_column")) if name]
    with sources.opened(source, query, output, names) as opened:
        column = text_column_of(opened.sample, text_column, trained_on)
        portion_rows = rows_at_once(portion_rows, len(opened.columns))
        added = answers.names_of(model)
        answers.require_free(opened.columns, added, source)
        identity = identity_of(
            {
                "model": json.dumps(model.entries, sort_keys=True, default=str),
                "input": opened.identity,
                "text column": column,
                "number of rows in a portion": str(portion_rows),
                "version of rehead": version("rehead"),
                **({"escaping of formulas": "apostrophes"} if escape_formulas else {}),
            }
        )
        sink = sink_for(output, opened.columns, opened.schema, added, escape_formulas)
        with Journal.beside(output, identity, sink) as journal:
            if journal.state.complete:
                resumed = journal.state.counts.rows
            else:
                run = _Run(model, predictor, opened, journal, sink)
                with _reporting(on_progress, opened.total) as report:
                    resumed = run.score(column, portion_rows, report)
                    report(opened.total)
            journal.finish()
            counts = journal.state.counts
    return ScoredTable.of(counts, resumed, str(output), str(sources.bad_rows_file(output)), begun)


def score_portion(
    model: answers.Deciding, predictor: answers.TextScorer, sink: Sink, portion: Portion
) -> tuple[bytes, bytes, Counts]:
    """Return the rows of a portion as a sink writes them, as JSON Lines those that cannot be read, and their counts."""
    bad = "".join(row.to_json() for row in portion.bad).encode()
    if not portion.texts:
        return b"", bad, Counts(bad=len(portion.bad))
    scores = predictor.scores(portion.texts)
    answered = answers.answers_of(model, scores)
    counts = Counts(
        rows=len(portion.texts),
        bad=len(portion.bad),
        empty=portion.empty,
        first_empty=portion.first_empty,
        cut=int((scores.tokens_cut > 0).sum()),
        abstained=sum(map(answers.is_abstention, answered)),
    )
    return sink.encode(portion, [answers.as_columns(answer) for answer in answered]), bad, counts


@dataclass(frozen=True)
class _Run:
    """The loop, and what it works with."""

    model: answers.Deciding
    predictor: answers.TextScorer
    source: RowSource
    journal: Journal
    sink: Sink

    def score(self, text_column: str, portion_rows: int, report: Callable[[int], None]) -> int:
        """Score all that is not kept yet; how many rows were."""
        digest = hashlib.sha256()
        with closing(read_ahead(self.source.portions(text_column, portion_rows))) as portions:
            if self._are_kept(portions, digest, report):
                resumed = self.journal.state.counts.rows
                self._score(portions, digest, report)
                return resumed
        self.journal.begin_anew("the query has other rows now, or in another order; ORDER BY a unique column keeps it")
        return self.score(text_column, portion_rows, report)

    def _are_kept(self, portions: Iterator[Portion], digest: hashlib._Hash, report: Callable[[int], None]) -> bool:
        """Pass by what an earlier run has kept; whether that is what comes now."""
        n_kept = self.journal.state.portions
        if not n_kept:
            return True
        scored: set[str] = set()
        for _, portion in zip(range(n_kept), portions, strict=False):
            if self.source.changeable:
                portion.add_to(digest)
            if portion.texts and len(scored) < _SETTLING_TEXTS:
                # What a predictor sees first decides how it rounds: it shall do as it did in the earlier run.
                self.predictor.scores(portion.texts)
                scored.update(portion.texts)
            report(portion.done)
        return self._kept_digest(digest) == self.journal.state.digest

    def _score(self, portions: Iterator[Portion], digest: hashlib._Hash, report: Callable[[int], None]) -> None:
        for portion in portions:
            if self.source.changeable:
                portion.add_to(digest)
            results, bad, counts = score_portion(self.model, self.predictor, self.sink, portion)
            self.journal.keep(results, bad, counts, self._kept_digest(digest))
            report(portion.done)

    def _kept_digest(self, digest: hashlib._Hash) -> str:
        """Return it as the journal keeps it: nothing where rows do not change."""
        return digest.hexdigest() if self.source.changeable else ""


@contextmanager
def _reporting(on_progress: Callable[[int, int], None] | None, total: int) -> Iterator[Callable[[int], None]]:
    """Yield what is called with how much is done."""
    if on_progress is not None:
        yield lambda done: on_progress(done, total)
        return
    with progress.bar("scoring", total) as advance:
        before = 0

        def report(done: int) -> None:
            nonlocal before
            advance(done - before)
            before = done

        yield report
