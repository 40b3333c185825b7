"""`rehead predict`: classify a text, lines of stdin, images or tables, and print or write the labels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.inputs import is_of_images, read_input
from rehead.cli.terminal import print_json, shortened
from rehead.runtime import progress
from rehead.runtime.errors import DataError, SettingError
from rehead.runtime.wording import counted, escaped

if TYPE_CHECKING:
    from rehead.artifact.artifact import Artifact
    from rehead.batch.scoring import ScoredTable
    from rehead.evaluation.decisions import Answer

# Of the first label's probability, from which on the second is shown beside it on a terminal.
_CLOSE = 0.5

EXAMPLE = "rehead predict rehead-model new-tickets.csv -o labelled.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `predict`."""
    arguments.add_model_folder(parser)
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a text; a table, a folder of them, or a pattern such as 'logs/*.csv'; sqlite:FILE, duckdb:FILE or "
        "postgresql://...; an image or a folder of images; - for one text a line from stdin",
    )
    parser.add_argument("--text-column", metavar="C", help="column of the texts")
    parser.add_argument("--query", metavar="SQL", help="of a database: which rows; ORDER BY lets a run go on")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write a .csv, .tsv, .jsonl or .parquet file, on a cluster a folder of them; the same command goes on "
        "where it was cut off",
    )
    arguments.add_on(parser)


def run(options: argparse.Namespace) -> None:
    """Classify; a table that is written passes in portions, everything else at once."""
    from rehead.batch import databases, sources
    from rehead.data import tables

    if options.on:
        _predict_on_cluster(options)
        return
    output = Path(options.output) if options.output else None
    if output:
        tables.require_writable(output)
    elif databases.is_database(options.input):
        raise SettingError("the rows of a database are written to a file; give one with -o")
    elif options.query is not None:
        raise SettingError("`query` is for databases; leave it out")
    if output is None or not sources.is_table(options.input):
        _predict_at_once(options, output)
        return
    if not databases.is_database(options.input):
        sources.files_of(options.input, output)  # before torch is imported, which takes seconds
    from rehead.artifact.loading import load_artifact

    loaded = load_artifact(Path(options.model))
    if loaded.takes == "images" and is_of_images(options.input, options.text_column):
        _predict_at_once(options, output, loaded)
        return
    from rehead.batch.scoring import score_table

    predictor = loaded.predictor(steady=True, label=None)
    result = score_table(loaded, predictor, options.input, output, text_column=options.text_column, query=options.query)
    _say_what_was_written(options, result)


def _predict_on_cluster(options: argparse.Namespace) -> None:
    if not options.output:
        raise SettingError("a cluster writes a folder of files; give its name with -o")
    if options.query is not None:
        raise SettingError("`query` is for databases, which one machine reads; leave `on` out")
    from rehead.cluster.connection import require_ray

    require_ray(options.on)  # before torch is imported, which takes seconds
    from rehead.cluster.prediction import score_on_ray

    source, output = options.input, options.output
    result = score_on_ray(options.model, source, output, on=options.on, text_column=options.text_column)
    _say_what_was_written(options, result)


def _say_what_was_written(options: argparse.Namespace, result: ScoredTable) -> None:
    """Say what became of the rows; with --json, print it."""
    rows, empty, bad = result.rows, result.empty, result.bad_rows
    if empty:
        are = "row has no text and is" if empty == 1 else "rows have no text and are"
        progress.warn(f"{empty:,} {are} classified as empty ({result.first_empty}, ...)")
    _say_what_is_missing(rows, result.abstained, result.cut)
    if bad:
        they_are = "it is" if bad == 1 else "they are"
        progress.warn(f"{counted(bad, 'row')} cannot be read; {they_are} in {result.bad_rows_file}, with reasons")
    speed = f"{result.rows_a_second:,.0f} rows a second"
    progress.say(f"{counted(rows, 'prediction')} written to {options.output}, {speed}")
    if options.json:
        print_json(result.to_json())


def _predict_at_once(options: argparse.Namespace, output: Path | None, loaded: Artifact | None = None) -> None:
    """Classify a text, lines of stdin, images, or a table that is printed."""
    from rehead.artifact.loading import load_artifact
    from rehead.batch import answers
    from rehead.data import tables

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
        tables.write(output, results)
        progress.say(f"{counted(len(rows), 'prediction')} written to {output}")
    elif options.json:
        for prediction in predictions:
            print_json(prediction)
    else:
        for row, prediction in zip(rows, predictions, strict=True):
            second = _close_second(prediction) if sys.stdout.isatty() else ""
            print(f"{_answer(prediction)}{second}\t{shortened(row[column] or '')}")


def _answer(prediction: Answer) -> str:
    """Return a prediction in a line: label and probability; of several labels each its own."""
    probabilities = prediction["probabilities"]
    if "labels" in prediction:
        labels = prediction["labels"]
        shown = ";".join(escaped(label) for label in labels)
        return f"{shown or '-'}\t{';'.join(f'{probabilities[label]:.4f}' for label in labels) or '-'}"
    label = prediction["label"]
    certainty = probabilities[label] if label is not None else max(probabilities.values())
    return f"{'-' if label is None else escaped(label)}\t{certainty:.4f}"


def _close_second(prediction: Answer) -> str:
    """Return, for a person, the second label where it is at least half as probable as the first."""
    if "labels" in prediction:
        return ""
    (first, certainty), (second, near) = sorted(prediction["probabilities"].items(), key=lambda one: -one[1])[:2]
    if prediction["label"] == second:  # a threshold has chosen it
        first, second, certainty, near = second, first, near, certainty
    unnamed = f" ({escaped(first)})" if prediction["label"] is None else ""
    return f"{unnamed}, or {escaped(second)} {near:.4f}" if near >= _CLOSE * certainty else unnamed


def _say_what_is_missing(n: int, abstained: int, cut: int) -> None:
    """Say, of n texts, how many have no label, and how many were not read to their end."""
    texts = counted(n, "text")
    if abstained:
        progress.say(f"no label for {abstained:,} of {texts}: none is as probable as was asked for")
    if cut:
        are, lost = ("is", "lost some of it") if cut == 1 else ("are", "lost some of them")
        progress.warn(f"{cut:,} of {texts} {are} longer than the model takes and {lost}")
