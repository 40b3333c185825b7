"""What `rehead predict` does: classifies, and prints or writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rehead.cli.inputs import is_of_images, read_input
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError

if TYPE_CHECKING:
    from rehead.artifact.artifact import Artifact


def predict(options: argparse.Namespace) -> None:
    from rehead.batch import databases, sources
    from rehead.data import writing

    output = Path(options.output) if options.output else None
    if output:
        writing.require_writable(output)
    elif databases.is_database(options.input):
        raise SettingError("the rows of a database are written to a file; give one with -o")
    elif options.query is not None:
        raise SettingError("--query is for databases; leave it out")
    if output is None or not sources.is_table(options.input):
        _predict_at_once(options, output)
        return
    if not databases.is_database(options.input):
        sources.files_of(options.input, output)  # before torch is imported, which takes seconds
    from rehead.artifact.loading import load_artifact

    loaded = load_artifact(Path(options.model))
    if loaded.takes == "images" and is_of_images(options.input, options.text_column):
        _predict_at_once(options, output, loaded)
    else:
        _predict_table(options, output, loaded)


def _predict_table(options: argparse.Namespace, output: Path, loaded: Artifact) -> None:
    from rehead.batch.scoring import score_table

    predictor = loaded.predictor(steady=True, label=None)
    facts = score_table(loaded, predictor, options.input, output, text_column=options.text_column, query=options.query)
    rows = facts["rows"]
    if facts["empty"]:
        progress.warn(f"{facts['empty']:,} rows have no text and are classified as empty ({facts['first_empty']}, ...)")
    _say_what_is_missing(rows, facts["abstained"], facts["cut"])
    if facts["bad_rows"]:
        progress.warn(f"{facts['bad_rows']:,} rows cannot be read; they are in {facts['bad_rows_file']}, with reasons")
    progress.say(f"{rows:,} predictions written to {output}, {facts['rows_a_second']:,.0f} rows a second")
    if options.json:
        print(json.dumps(facts, ensure_ascii=False))


def _predict_at_once(options: argparse.Namespace, output: Path | None, loaded: Artifact | None = None) -> None:
    """A text, lines of stdin, images, or a table that is printed."""
    from rehead.artifact.loading import load_artifact
    from rehead.batch import answers
    from rehead.data import writing

    rows, inputs, column = read_input(options.input, options.text_column, Path(options.model))
    if not inputs:
        raise DataError("no text on stdin; write one text a line")
    loaded = loaded or load_artifact(Path(options.model))
    scores = loaded.scores(inputs)
    predictions = answers.answers_of(loaded, scores)
    _say_what_is_missing(len(inputs), sum(map(answers.is_abstention, predictions)), int((scores.tokens_cut > 0).sum()))
    if output:
        answers.require_free(list(rows[0]), answers.names_of(loaded), options.input)
        results = [row | answers.as_columns(each) for row, each in zip(rows, predictions, strict=True)]
        writing.write(output, results)
        progress.say(f"{len(rows):,} predictions written to {output}")
    elif options.json:
        for prediction in predictions:
            print(json.dumps(prediction, ensure_ascii=False))
    else:
        _print(rows, predictions, column)


def _print(rows: list[dict[str, Any]], predictions: list[dict[str, Any]], column: str) -> None:
    from rehead.cli import printing

    for row, prediction in zip(rows, predictions, strict=True):
        print(f"{printing.answer(prediction)}\t{printing.shortened(row[column] or '')}")


def _say_what_is_missing(n: int, abstained: int, cut: int) -> None:
    """Of n texts, how many have no label, and how many were not read to their end."""
    if abstained:
        progress.say(f"no label for {abstained:,} of {n:,} texts: none is as probable as was asked for")
    if cut:
        progress.warn(f"{cut:,} of {n:,} texts are longer than the model takes and lost some of them")
