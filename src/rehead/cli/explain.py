"""`rehead explain`: the weight of each word, or of each part of an image, for the label."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rehead.cli import arguments
from rehead.cli.inputs import is_file, is_of_images, sources_of
from rehead.cli.terminal import cell, console, print_json, table
from rehead.runtime.errors import DataError, SettingError
from rehead.runtime.wording import escaped

if TYPE_CHECKING:
    from rehead.artifact.explanation import Explanation

EXAMPLE = 'rehead explain rehead-model "my card was charged twice" --data tickets.csv'

_LISTED_WORDS = 8
# Changes of the log odds from which a word is coloured, and from which it is bold.
_FAINT, _STRONG = 0.2, 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `explain`."""
    arguments.add_model_folder(parser)
    parser.add_argument("text", metavar="INPUT", help="a text, or an image's file")
    parser.add_argument("-o", "--output", metavar="FILE", help="of an image: the heat map (NAME.explained.png)")
    parser.add_argument("--data", metavar="DATA", help="show the most similar of these labelled texts, too")
    arguments.add_columns(parser)


def run(options: argparse.Namespace) -> None:
    """Explain a text or an image."""
    sources = sources_of(options) if options.data else None  # before torch is imported, which takes seconds
    if is_of_images(options.text):
        _explain_image(options)
        return
    if is_file(options.text):
        raise DataError(f"{options.text}: a file, and one text is explained; give a text that stands in it")
    from rehead.analysis.explanation import explain

    result = explain(options.model, options.text, sources)
    print_json(result.to_json()) if options.json else _print_explanation(result)


def _explain_image(options: argparse.Namespace) -> None:
    if not Path(options.text).is_file():
        cure = "a folder or sample; give one image" if Path(options.text).is_dir() else "no such file; check the path"
        raise DataError(f"{options.text}: {cure}")
    if options.data:
        raise SettingError("`data` is for texts; for an image leave it out")
    from rehead.analysis.image_explanation import explain_image

    output = options.output or f"{Path(options.text).stem}.explained.png"
    result = explain_image(options.model, options.text, output)
    if options.json:
        print_json(result.to_json())
    else:
        print(f"{escaped(result.label)} {result.probabilities[result.label]:.4f}\nheat map  {escaped(output)}")


def _print_explanation(result: Explanation) -> None:
    """Print the text with what speaks for the label in green and what against it in red, then similar examples."""
    from rich.text import Text

    terminal = console()
    label = result.label
    terminal.print(f"\n[bold]{cell(label)}[/bold] {result.probabilities[label]:.4f}\n")
    coloured, at = Text(), 0
    for piece in result.pieces:
        coloured.append(_passage(result.text, at, piece.start))
        coloured.append(_passage(result.text, piece.start, piece.end), _shade(piece.weight))
        at = piece.end
    terminal.print(coloured)
    has_ngrams = bool(result.baseline_factor)
    words = table(*(["weight", "n-grams", "word"] if has_ngrams else ["weight", "word"]))
    words.show_header = has_ngrams
    for piece in sorted(result.pieces, key=lambda piece: -abs(piece.weight))[:_LISTED_WORDS]:
        of_ngrams = [f"{piece.ngrams:+.2f}"] if has_ngrams else []
        words.add_row(f"{piece.weight:+.2f}", *of_ngrams, cell(piece.text))
    terminal.print("", words)
    if result.neighbours:
        similar = table("similarity", "row", "label", "text")
        for neighbour in result.neighbours:
            row = f"{neighbour.similarity:.2f}", str(neighbour.row)
            similar.add_row(*row, cell(neighbour.label), cell(neighbour.text))
        terminal.print("", similar)


def _passage(text: str, start: int, end: int) -> str:
    return escaped(text[start:end], keep="\n\t")


def _shade(weight: float) -> str:
    """Return a colour: the more the log odds change, the stronger."""
    size = abs(weight)
    if size < _FAINT:
        return ""
    colour = "green" if weight > 0 else "red"
    return f"bold {colour}" if size >= _STRONG else colour
