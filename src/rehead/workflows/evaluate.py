"""Evaluate a saved classifier on labelled data, beside the baselines that were saved with it."""

from __future__ import annotations

import time
from pathlib import Path

from rehead.artifact.loading import load_artifact
from rehead.data.containers import Source
from rehead.data.preparation import Columns, DataConfig, read_examples
from rehead.evaluation.evaluation import evaluate_predictions
from rehead.runtime import hardware
from rehead.workflows import messages
from rehead.workflows.results import ClassifierSettings, EvaluateResult, Rows


def evaluate(
    folder: str | Path, data: DataConfig | Source, report_file: str | Path | None = None, **columns: Source
) -> EvaluateResult:
    """Measure a saved classifier on labelled data, beside the baselines that were saved with it.

    Args:
        folder: of the classifier.
        data: a file, `sample:NAME` or a table in memory, as of `rehead.fit`; or the source with its columns.
        report_file: a file that an HTML report is written to.
        columns: `text_column` and `label_column` of `data`.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    begun = time.perf_counter()
    sources = DataConfig.of(data, **columns)
    loaded = load_artifact(Path(folder))
    load_seconds = time.perf_counter() - begun
    manifest = loaded.manifest
    test, dropped, _, rows_read = read_examples(sources.data, sources, loaded.labels, Columns.of(manifest.to_json()))
    messages.say_dropped(dropped)

    test_begun = time.perf_counter()
    scores = loaded.scores(test.inputs)
    test_seconds = time.perf_counter() - test_begun
    predictions = loaded.predictions(test, scores)
    evaluation = evaluate_predictions(predictions, loaded.rule)
    messages.say_evaluation(predictions, evaluation, "the training data")

    seconds = {"load": load_seconds, "trunk": test_seconds, "tail": 0.0, "test": test_seconds}
    result = EvaluateResult(
        folder=str(Path(folder).resolve()),
        settings=ClassifierSettings.of(manifest.to_json()),
        data=sources.name,
        rows=Rows.of(rows_read, dropped, test=test),
        truncated={"test": int((scores.tokens_cut > 0).sum())},
        profile={},
        epochs=None,
        validation=(manifest.metrics or {}).get("validation"),
        evaluation=evaluation,
        seconds={**seconds, "total": time.perf_counter() - begun},
        flops=scores.flops,
        peak_rss_bytes=hardware.peak_rss_bytes(),
        report_file=None if report_file is None else str(Path(report_file).resolve()),
        predictions=predictions,
    )
    if report_file is not None:
        result.report(report_file)
    return result
