"""The command line: parses and calls.

Results go to stdout (one JSON object with --json, and nothing else), everything else to stderr. Exit codes: 0
success, 2 a mistake of the user's, 1 a fault of rehead's own, 130 interrupted.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from rehead.cli import (
    commands,
    comparison_commands,
    drift_commands,
    export_commands,
    predict_commands,
    serving_commands,
)
from rehead.runtime import progress
from rehead.runtime.errors import RheadError
from rehead.serving.settings import MEGABYTE, Limits, ServerSettings

# What the libraries beneath read from the environment when they are loaded; what the user has set stays.
_ENVIRONMENT = {
    # Threads that wait for each other must not spin for long: on a machine that does anything else besides, a trunk
    # pass took up to eight times as long with them. GNU's OpenMP may do so some microseconds: asleep at once, threads
    # made a step of the tail take 25 instead of 16 ms.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "3000",
    # oneDNN keeps the code that it made for each shape of a product, 1,024 of them if not told otherwise. Those of
    # attention hardly ever come again; the others do, since batches are filled to multiples of 16 tokens: with 64 of
    # them a server answered 216 requests a second instead of 245, and with 1,024 no more but in another 70 MB.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "512",
}
# Python looks for garbage after every 700 new objects, and imports make millions of them, none of which is garbage:
# a second of each command. See gc.set_threshold; it stays so for the whole command.
_GARBAGE = (10_000, 10, 10)
_DATA = "a file (CSV, TSV, JSON Lines, Parquet), a folder or zip of images, or sample:NAME"


def main(arguments: list[str] | None = None) -> NoReturn:
    """The `rehead` command."""
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    gc.set_threshold(*_GARBAGE)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not be able to show every character
    options = _parser().parse_args(arguments)
    progress.show(True)
    try:
        options.run(options)
        sys.stdout.flush()
    except RheadError as error:
        _fail(options, error, f"rehead: {error}", 2)
    except KeyboardInterrupt as error:
        _fail(options, error, f"rehead: {str(error) or 'interrupted; nothing was written'}", 130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; stop the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        _fail(
            options,
            error,
            f"rehead: a fault of rehead's own: {type(error).__name__}: {first} (run with --debug)",
            1,
        )
    sys.exit(0)


def _fail(options: argparse.Namespace, error: BaseException, message: str, code: int) -> NoReturn:
    if options.debug:
        traceback.print_exception(error)
    print(message.replace("\n", " "), file=sys.stderr)
    sys.exit(code)


class _Parser(argparse.ArgumentParser):
    """One line and exit code 2 for a mistake on the command line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        print(f"rehead: {message}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="rehead",
        description="Put a classification head on a pretrained model and fine-tune it, in seconds.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    known = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    fit = _command(
        known, "fit", commands.fit, "fine-tune a classifier on labelled texts or images, evaluate and save it"
    )
    fit.add_argument("data", metavar="DATA", help=f"labelled texts or images: {_DATA}")
    fit.add_argument(
        "--base",
        metavar="NAME",
        default="auto",
        help="see rehead bases; a folder; a hub name; tfidf for n-grams without a pretrained model (auto chooses by "
        "language, a few hundred examples and budget)",
    )
    fit.add_argument(
        "--tune",
        metavar="HOW",
        default="auto",
        help="head; last-K for the last K layers too; lora; full; auto tries what the preset says (%(default)s)",
    )
    fit.add_argument(
        "--preset",
        default="balanced",
        choices=("quick", "balanced", "best"),
        help="quick: the head alone, in seconds; balanced: the last layers too; best: all of them (%(default)s)",
    )
    fit.add_argument(
        "--no-ngrams", action="store_true", help="nothing beside the head, so that the folder is a Transformers model"
    )
    fit.add_argument("--depth", metavar="N", default="auto", help="blocks to keep: auto measures it (%(default)s)")
    poolings = ("auto", "last", "mean", "both", "cls", "layers")
    fit.add_argument("--pool", default="auto", choices=poolings, help="(%(default)s)")
    _add_columns(fit)
    _add_separator(fit)
    fit.add_argument("--group-column", metavar="C", help="rows with the same value there are never parted")
    fit.add_argument("--time-column", metavar="C", help="split by time: train on the oldest, test on the newest")
    fit.add_argument("--validation", metavar="DATA", help="validation set of your own; else divided off DATA")
    fit.add_argument("--test", metavar="DATA", help="test set of your own; else divided off DATA")
    fit.add_argument("--max-length", type=int, default=512, metavar="N", help="tokens kept of a text (%(default)s)")
    fit.add_argument(
        "--long",
        choices=("truncate", "head-tail", "chunks"),
        default="truncate",
        help="use the beginning of longer texts; beginning and end; or all, in windows (%(default)s)",
    )
    fit.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="of each training image, turned, cut (1; auto averages 4 if there is time)",
    )
    fit.add_argument("--average-views", action="store_true", help="in prediction too; more accurate, N times as slow")
    fit.add_argument("--budget", metavar="T", help="for auto: 90s, 10m, 2h in all (by preset 2m, 10m, 1h)")
    fit.add_argument("--epochs", type=int, metavar="N", help="for training layers (what suits the strategy)")
    fit.add_argument("--batch-size", type=int, metavar="N", help="for training layers (likewise)")
    fit.add_argument("--learning-rate", type=float, metavar="X", help="for training layers (likewise)")
    fit.add_argument("--label-smoothing", type=float, default=0.0, metavar="X", help="likewise (%(default)s)")
    fit.add_argument("--class-weight", choices=("balanced",), help="each class weighs the same, however few it has")
    fit.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same one gives the same result (%(default)s)"
    )
    fit.add_argument("--cv", type=int, metavar="K", help="test by cross-validation with K folds; learn from all")
    fit.add_argument(
        "--precision",
        metavar="LABEL=X",
        help="call a text LABEL only where that is right X of the time; with several labels a text, LABEL may be all",
    )
    fit.add_argument("--recall", metavar="LABEL=X", help="call texts LABEL so readily that X of those are found")
    fit.add_argument("--f1", metavar="LABEL", help="call texts LABEL where that gives it the best F1; likewise")
    fit.add_argument("--costs", metavar="FILE", help="JSON: what it costs to take one label for another")
    fit.add_argument("--abstain-below", type=float, default=0.0, metavar="P", help="no label where none is so probable")
    fit.add_argument("--coverage", type=float, metavar="X", help="sets of labels, X of which hold the true one")
    fit.add_argument(
        "--full-report", action="store_true", help="and labels that may be wrong, a learning curve, mistakes explained"
    )
    fit.add_argument("--resume", action="store_true", help="go on with an interrupted fit to the same folder")
    fit.add_argument("--dry-run", action="store_true", help="say what it would take, and stop")
    fit.add_argument("-o", "--output", default="rehead-model", metavar="DIR", help="where to save it (%(default)s)")

    predict = _command(
        known, "predict", predict_commands.predict, "classify a text, tables of any length, lines of stdin, or images"
    )
    predict.add_argument("model", metavar="MODEL", help="a folder that rehead fit has written")
    predict.add_argument(
        "input",
        metavar="INPUT",
        help="a text; a table, a folder of them, or a pattern such as 'logs/*.csv'; sqlite:FILE, duckdb:FILE or "
        "postgresql://...; an image or a folder of images; - for one text a line from stdin",
    )
    predict.add_argument("--text-column", metavar="C", help="column of the texts")
    predict.add_argument("--query", metavar="SQL", help="of a database: which rows; ORDER BY lets a run go on")
    predict.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write a .csv, .tsv, .jsonl or .parquet file; the same command goes on where it was cut off",
    )

    evaluate = _command(known, "evaluate", commands.evaluate, "measure a saved classifier on labelled texts")
    evaluate.add_argument("model", metavar="MODEL", help="a folder that rehead fit has written")
    evaluate.add_argument("data", metavar="DATA", help=f"labelled texts or images: {_DATA}")
    _add_columns(evaluate)
    evaluate.add_argument("--report", metavar="FILE", help="write an HTML report")

    inspect = _command(known, "inspect", commands.inspect, "find what is wrong with labelled texts, without training")
    inspect.add_argument(
        "given",
        metavar="[MODEL] DATA",
        nargs="+",
        help=f"labelled texts or images: {_DATA}; and a saved classifier before them",
    )
    inspect.add_argument(
        "--label-errors", metavar="FILE", nargs="?", const="", help="with MODEL: rank labels that may be wrong"
    )
    inspect.add_argument("--learning-curve", action="store_true", help="with MODEL: what more labels would bring")
    _add_columns(inspect)
    _add_separator(inspect)
    inspect.add_argument("--test", metavar="DATA", help="test set of your own: is any of it in DATA?")
    inspect.add_argument("--base", metavar="NAME", help="count this base's tokens, and what of them is cut off")
    inspect.add_argument("--max-length", type=int, default=512, metavar="N", help="tokens of a text (%(default)s)")

    explain = _command(known, "explain", commands.explain, "say which words, or parts of an image, an answer rests on")
    explain.add_argument("model", metavar="MODEL", help="a folder that rehead fit has written")
    explain.add_argument("text", metavar="INPUT", help="a text, or an image's file")
    explain.add_argument("-o", "--output", metavar="FILE", help="of an image: the heat map (NAME.explained.png)")
    explain.add_argument("--data", metavar="DATA", help="show the most similar of these labelled texts, too")
    _add_columns(explain)

    drift = _command(known, "drift", drift_commands.drift, "do new texts look like those the model was tested on?")
    drift.add_argument("model", metavar="MODEL", help="a folder that rehead fit has written")
    drift.add_argument("data", metavar="DATA", help=f"labelled or not: {_DATA}")
    drift.add_argument("--text-column", metavar="C", help="column of the texts")

    export = _command(known, "export", export_commands.export, "write a model for other programs, and check it")
    export.add_argument("model", metavar="MODEL", help="a folder that rehead fit has written")
    export.add_argument("--format", required=True, choices=("onnx", "transformers"), help="for whom")
    export.add_argument("--int8", action="store_true", help="ONNX with weights of 8 bits, if the labels stay")
    export.add_argument("--data", metavar="DATA", help="texts to check it on (those it was fitted on, if still there)")
    export.add_argument("--text-column", metavar="C", help="column of the texts")
    export.add_argument("-o", "--output", default="rehead-export", metavar="DIR", help="(%(default)s)")

    serve = _command(known, "serve", serving_commands.serve, "answer over HTTP: an API, a page, and jobs on files")
    serve.add_argument(
        "models",
        metavar="MODEL",
        nargs="+",
        help="[NAME=]FOLDER[@WEIGHT]: folders of one name share its requests; @shadow is asked and not heard",
    )
    settings, limits = ServerSettings(), Limits()
    serve.add_argument("--host", default=settings.host, metavar="H", help="0.0.0.0 for all the network (%(default)s)")
    serve.add_argument("--port", type=int, default=settings.port, metavar="N", help="0 takes a free one (%(default)s)")
    serve.add_argument(
        "--insecure", action="store_true", help="let other machines ask without a key ($REHEAD_API_KEYS)"
    )
    serve.add_argument(
        "--jobs", default=settings.jobs, type=Path, metavar="DIR", help="of files to score (%(default)s)"
    )
    serve.add_argument(
        "--max-body", type=float, default=limits.body_bytes // MEGABYTE, metavar="MB", help="of a request (%(default)s)"
    )
    serve.add_argument(
        "--max-upload",
        type=float,
        default=limits.upload_bytes // MEGABYTE,
        metavar="MB",
        help="of a file (%(default)s)",
    )
    serve.add_argument("--max-texts", type=int, default=limits.texts, metavar="N", help="of a request (%(default)s)")
    serve.add_argument(
        "--max-characters", type=int, default=limits.characters, metavar="N", help="of a text (%(default)s)"
    )
    serve.add_argument(
        "--batch-tokens",
        type=int,
        default=limits.batch_tokens,
        metavar="N",
        help="scored together, of several requests (%(default)s)",
    )
    serve.add_argument(
        "--batch-wait",
        type=float,
        default=limits.batch_milliseconds,
        metavar="MS",
        help="that a request waits for others (%(default)s)",
    )
    serve.add_argument(
        "--queue-tokens", type=int, default=limits.queue_tokens, metavar="N", help="that wait, before 429 (%(default)s)"
    )
    serve.add_argument("--log-texts", action="store_true", help="write texts into the log, too")

    compare = _command(
        known, "compare", comparison_commands.compare, "measure which approach your own labelled texts call for"
    )
    compare.add_argument("data", metavar="DATA", help="labelled texts: a file or sample:NAME")
    compare.add_argument(
        "--approaches", metavar="A,B", help="majority, tfidf, zero-shot, few-shot, probe, last-1, lora, full, ... (all)"
    )
    compare.add_argument(
        "--base",
        metavar="A,B",
        default="smollm2,minilm",
        help="probes on each; the first is tuned, the first decoder asked (%(default)s)",
    )
    compare.add_argument("--examples", type=int, metavar="N", help="learn from so many training texts at most (all)")
    compare.add_argument("--budget", default="10m", metavar="T", help="90s, 10m, 2h in all (%(default)s)")
    _add_columns(compare)
    compare.add_argument("--test", metavar="DATA", help="test set of your own; else divided off DATA")
    compare.add_argument("--max-length", type=int, default=512, metavar="N", help="tokens kept of a text (%(default)s)")
    compare.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    compare.add_argument("--resume", action="store_true", help="go on with an interrupted comparison")
    compare.add_argument("-o", "--output", default="rehead-comparison", metavar="DIR", help="(%(default)s)")

    search = _command(known, "search", comparison_commands.search, "look for good settings, then fit with the best")
    search.add_argument("data", metavar="DATA", help=f"labelled texts or images: {_DATA}")
    search.add_argument("--trials", type=int, default=20, metavar="N", help="in all, earlier ones too (%(default)s)")
    search.add_argument("--base", metavar="NAME", default="auto", help="as for fit (%(default)s)")
    search.add_argument("--budget", metavar="T", help="no trial begins after 90s, 10m, 2h")
    search.add_argument("--max-length", type=int, default=512, metavar="N", help="tokens kept of a text (%(default)s)")
    search.add_argument("--storage", metavar="FILE", default="rehead-search.sqlite", help="of the trials (%(default)s)")
    _add_columns(search)
    search.add_argument("--test", metavar="DATA", help="test set of your own; else divided off DATA")
    search.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    search.add_argument("-o", "--output", default="rehead-model", metavar="DIR", help="(%(default)s)")

    instruct = _command(known, "instruct", commands.instruct, "fine-tune a language model on requests and answers")
    instruct.add_argument(
        "data", metavar="DATA", help="JSON or JSON Lines: instruction and output; messages; prompt and completion"
    )
    instruct.add_argument("--base", metavar="NAME", default="smollm2", help="a decoder (%(default)s)")
    instruct.add_argument("--tune", metavar="HOW", default="lora", help="last-K, lora or full (%(default)s)")
    instruct.add_argument(
        "--style",
        choices=("auto", "chat", "alpaca", "phi"),
        default="auto",
        help="how requests are written down: auto is the base's chat template, or Alpaca's (%(default)s)",
    )
    instruct.add_argument("--epochs", type=int, default=3, metavar="N", help="at most (%(default)s)")
    instruct.add_argument("--batch-size", type=int, default=8, metavar="N", help="(%(default)s)")
    instruct.add_argument("--learning-rate", type=float, metavar="X", help="what suits --tune if not given")
    instruct.add_argument(
        "--max-length", type=int, default=1024, metavar="N", help="tokens of a conversation (%(default)s)"
    )
    instruct.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")
    instruct.add_argument("--resume", action="store_true", help="go on with an interrupted run to the same folder")
    instruct.add_argument("-o", "--output", default="rehead-writer", metavar="DIR", help="(%(default)s)")

    generate = _command(known, "generate", commands.generate, "let a language model answer a request")
    generate.add_argument("model", metavar="MODEL", help="a folder that rehead instruct has written")
    generate.add_argument("prompt", metavar="PROMPT", help="the request, or - to read it from stdin")
    generate.add_argument("--max-tokens", type=int, default=256, metavar="N", help="of the answer (%(default)s)")
    generate.add_argument(
        "--temperature", type=float, default=0.0, metavar="T", help="0 takes the most probable (%(default)s)"
    )
    generate.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="of the most probable tokens only (%(default)s)"
    )
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="(%(default)s)")

    _command(known, "bases", commands.bases, "list the pretrained models that rehead knows by name")
    _command(known, "samples", commands.samples, "list the data sets that rehead knows by name")
    cache = _command(known, "cache", commands.cache, "show or clear the features that fits have computed and kept")
    cache.add_argument("--clear", action="store_true", help="remove them; fetched and converted models stay")
    return parser


def _command(known: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = known.add_parser(name, help=about, description=about)
    command.add_argument("--json", action="store_true", help="print JSON on stdout and nothing else there")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(run=run)
    return command


def _add_columns(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--text-column", metavar="C", help="column of the texts; found by name and content if not given"
    )
    command.add_argument("--label-column", metavar="C", help="column of the labels; likewise")


def _add_separator(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--label-separator",
        metavar="S",
        help='between the labels of a text that may have several ("" if each has one; arrays and ; are noticed)',
    )


class _Version(argparse.Action):
    def __call__(self, *_: Any) -> None:
        from importlib.metadata import version

        print(f"rehead {version('rehead')}")
        sys.exit(0)
