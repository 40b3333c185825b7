"""`rehead cache`: show or clear the features that fits have computed and kept."""

from __future__ import annotations

import argparse
import time

from rehead.cli.terminal import print_aligned, print_json
from rehead.runtime.wording import counted

EXAMPLE = "rehead cache --clear"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cache`."""
    parser.add_argument("--clear", action="store_true", help="remove them; fetched and converted models stay")


def run(options: argparse.Namespace) -> None:
    """Print a line for the features of each model and arithmetic, then the sums; or clear the cache."""
    from rehead.training import cache_overview
    from rehead.training.feature_cache import megabytes

    if options.clear:
        cleared = cache_overview.ClearedCache(cache_overview.clear())
        print_json(cleared.to_json()) if options.json else print(f"{megabytes(cleared.freed_bytes)} freed")
        return
    result = cache_overview.overview()
    if options.json:
        print_json(result.to_json())
        return
    if result.entries:
        print_aligned(
            [
                (
                    *(str(entry.about.get(name, "unknown")) for name in ("base", "arithmetic")),
                    counted(entry.texts, "text"),
                    megabytes(entry.bytes),
                    time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_used)),
                )
                for entry in result.entries
            ]
        )
        print()
    size = f"{megabytes(result.bytes)} of at most {megabytes(result.limit_bytes)} in {result.folder}"
    print_aligned(
        [
            ("features", size),
            ("fetched", megabytes(result.fetched_bytes)),
            ("converted", megabytes(result.converted_bytes)),
        ]
    )
