"""`rehead export`: write a classifier for other programs, once its labels are the same there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.terminal import print_json
from rehead.runtime.wording import escaped

if TYPE_CHECKING:
    from rehead.export.results import ExportResult

EXAMPLE = "rehead export rehead-model --format onnx -o rehead-onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    arguments.add_model_folder(parser)
    parser.add_argument(
        "--format",
        required=True,
        choices=("onnx", "transformers", "peft", "static"),
        help="what reads the export: onnxruntime, Transformers, or peft (adapters and head alone); static: another "
        "classifier that is distilled of it, without a network",
    )
    parser.add_argument(
        "--int8", action="store_true", help="with onnx: weights of 8 bits, kept only if the labels stay the same"
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="texts to check it on (those it was fitted on, if still there); with static, labelled ones",
    )
    parser.add_argument("--text-column", metavar="C", help="column of the texts in --data")
    arguments.add_output(parser, "rehead-export")


def run(options: argparse.Namespace) -> None:
    """Export, and print how it compares."""
    from rehead.data.samples import require_source

    if options.data:
        require_source(options.data)  # before torch is imported, which takes seconds
    from rehead.export.workflow import export

    result = export(
        options.model,
        options.format,
        options.output,
        int8=options.int8,
        data=options.data,
        text_column=options.text_column,
    )
    print_json(result.to_json()) if options.json else _print_export(result)


def _print_export(result: ExportResult) -> None:
    found, what = result.comparison, result.what
    numbers = "8-bit integers" if result.int8 else "float32"
    runtime = {"onnx": "onnxruntime", "transformers": "Transformers", "peft": "peft", "static": "Model2Vec"}[
        result.format
    ]
    if result.accuracy:
        right = result.accuracy
        print(f"{right.export:.2%} of {found.compared:,} test texts are right, {right.rehead:.2%} with the classifier")
    print(
        f"{found.same:,} of {found.compared:,} {what} keep their labels ({found.agreement:.2%}); "
        f"probabilities differ by {found.largest_difference.probability:.1e} at most"
    )
    speed = result.a_second
    print(f"{speed.export:,.0f} {what} a second in {runtime}, {speed.rehead:,.0f} in rehead (float32)")
    print(f"model   {escaped(result.output)} ({result.format}, {numbers}, {result.bytes / 1e6:,.1f} MB)")
