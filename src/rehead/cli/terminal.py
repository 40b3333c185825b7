"""Write results on the terminal: one console, tables without lines, texts of others made short and harmless."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rehead.runtime.wording import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Longer texts are cut off.
_LONGEST = 100


def print_json(value: Mapping[str, object]) -> None:
    """Print one JSON object on a line of its own; in ASCII where stdout has another encoding than JSON's, UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf")))


def print_next(command: str, options: argparse.Namespace, *more: str, before: str = "") -> None:
    """Print the command that comes next on the same data, as it can be copied.

    Args:
        command: its name.
        options: that the data were read with.
        more: of its arguments.
        before: what is to be done first, in words.
    """
    columns = {"--text-column": options.text_column, "--label-column": options.label_column, "--test": options.test}
    chosen = [part for option, value in columns.items() if value is not None for part in (option, value)]
    print(f"\nnext    {escaped(before + shlex.join(['rehead', command, options.data, *chosen, *more]))}")


def console() -> Console:
    """Return what prints to stdout; long lines are wrapped by the terminal alone."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without lines; the columns in `right` come last and hold numbers."""
    from rich.table import Table

    result = Table(*columns, box=None, pad_edge=False)
    for name in right:
        result.add_column(name, justify="right")
    return result


def cell(text: str) -> str:
    """Return a text for a table or a line of the console: shortened, and nothing in it is markup."""
    from rich.markup import escape

    return escape(shortened(text))


def shortened(text: str) -> str:
    """Return a text on one line, cut off where it is long, with control characters escaped."""
    line = on_one_line(text)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def on_one_line(text: str) -> str:
    """Return a text with single spaces for all white space, and with control characters escaped."""
    return escaped(" ".join(text.split()))


def capitalised(line: str) -> str:
    """Return a sentence with its first letter in upper case, the rest as it is."""
    return line[:1].upper() + line[1:]


def print_aligned(rows: Sequence[Sequence[str]]) -> None:
    """Print a line a row, each column as wide as its widest cell; what is long belongs into the last one."""
    from rich.cells import cell_len

    shown = [[on_one_line(text) for text in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
