"""`rehead instruct`: fine-tune a language model on requests and answers."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.terminal import print_json, shortened
from rehead.runtime.wording import counted, escaped

if TYPE_CHECKING:
    from rehead.instruction.results import InstructionResult

EXAMPLE = "rehead instruct answers.jsonl --model smollm2 -o rehead-writer"

_SAMPLES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `instruct`."""
    parser.add_argument(
        "data",
        metavar="DATA",
        help="JSON or JSON Lines with instruction and output, messages, or prompt and completion",
    )
    arguments.add_backbone(parser, "pretrained decoder to fine-tune (%(default)s)", default="smollm2")
    arguments.add_option(
        parser,
        "--strategy",
        "--tune",
        dest="tune",
        metavar="HOW",
        default="lora",
        help="what is trained: last-K (the last K layers), lora or full (%(default)s)",
    )
    parser.add_argument(
        "--style",
        choices=("auto", "chat", "alpaca", "phi"),
        default="auto",
        help="how requests are written down: auto is the model's chat template, or Alpaca's (%(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="epochs at most (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="conversations a step (%(default)s)")
    parser.add_argument(
        "--learning-rate", type=float, metavar="X", help="highest learning rate (what suits the strategy)"
    )
    parser.add_argument(
        "--max-length", type=int, default=1024, metavar="N", help="tokens kept of a conversation (%(default)s)"
    )
    arguments.add_seed(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run to the same folder")
    arguments.add_output(parser, "rehead-writer")


def run(options: argparse.Namespace) -> None:
    """Fine-tune, and print what came of it."""
    from rehead.instruction.instruct import instruct

    result = instruct(
        options.data,
        options.base,
        tune=options.tune,
        style=options.style,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        max_length=options.max_length,
        random_state=options.seed,
        output=options.output,
        resume=options.resume,
    )
    print_json(result.to_json()) if options.json else _print_instruction(result, options.output)


def _print_instruction(result: InstructionResult, output: str) -> None:
    """Print losses and answers before and after."""
    from rich.console import Console

    terminal = Console(highlight=False)
    before, after, seconds = result.before, result.test, result.seconds.training
    answers = counted(result.rows.test, "test answer")
    terminal.print(
        f"[bold]loss {before.loss:.3f} → {after.loss:.3f}[/bold] a token of {answers}, "
        f"perplexity {before.perplexity:.2f} → {after.perplexity:.2f}"
    )
    if after.n:
        exact, alike = (
            [100 * (share or 0.0) for share in shares]
            for shares in ((before.exact_match, after.exact_match), (before.rouge_l, after.rouge_l))
        )
        terminal.print(
            f"of {counted(after.n, 'answer')} {exact[0]:.1f} → {exact[1]:.1f} % are exactly as wanted, ROUGE-L "
            f"{alike[0]:.1f} → {alike[1]:.1f}"
        )
    if after.outside is not None:
        terminal.print(f"{100 * after.outside:.1f} % of the answers are none of the labels")
    for sample in result.samples[:_SAMPLES]:
        terminal.print(f"\n  request  {shortened(sample.request)}", markup=False)
        for name in ("wanted", "before", "after"):
            terminal.print(f"  {name:<8} {shortened(getattr(sample, name))}", markup=False)
    terminal.print(
        f"\ntrained in {seconds:.0f} s ({result.tokens_a_second:,.0f} tokens a second), epoch {result.best_epoch} kept"
    )
    if result.report:
        terminal.print(escaped(f"report: {result.report}"), markup=False)
    terminal.print(escaped(f'next: rehead generate {shlex.quote(output)} "a request"'), markup=False)
