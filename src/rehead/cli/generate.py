"""`rehead generate`: let a language model answer a request."""

from __future__ import annotations

import argparse
import sys
import time

from rehead.cli import arguments
from rehead.cli.terminal import print_json
from rehead.runtime.errors import SettingError
from rehead.runtime.wording import escaped

EXAMPLE = 'rehead generate rehead-writer "Write a polite answer: my card was charged twice"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `generate`."""
    parser.add_argument("model", metavar="MODEL", help="a folder that rehead instruct has written")
    parser.add_argument("prompt", metavar="PROMPT", help="the request, or - to read it from stdin")
    parser.add_argument(
        "--max-tokens", type=int, default=256, metavar="N", help="longest answer, in tokens (%(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        metavar="T",
        help="0 always takes the most probable token, higher ones vary more (%(default)s)",
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="draw only from the most probable tokens that make up this share (%(default)s)",
    )
    arguments.add_seed(parser)


def run(options: argparse.Namespace) -> None:
    """Print an answer while it is written, or all of it as JSON."""
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not prompt.strip():
        raise SettingError("the prompt is empty; give a request")
    from dataclasses import asdict

    from transformers import TextStreamer

    from rehead.instruction.generation import Sampling
    from rehead.instruction.results import GeneratedAnswer
    from rehead.instruction.writer import Writer

    class Streamer(TextStreamer):  # type: ignore[misc]
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            super().on_finalized_text(escaped(text, keep="\n\t"), stream_end)

    sampling = Sampling(options.max_tokens, options.temperature, options.top_p, options.seed)
    writer = Writer.load(options.model)
    shown = None if options.json else Streamer(writer.base.tokenizer, skip_prompt=True, skip_special_tokens=True)
    begun = time.perf_counter()
    answer = writer.generate(prompt, **asdict(sampling), streamer=shown)
    if options.json:
        print_json(GeneratedAnswer(answer, {"generate": time.perf_counter() - begun}).to_json())
