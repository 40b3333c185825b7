"""`rehead doctor`: versions, device and its speed, cache, and whether models can be fetched."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rehead.cli.terminal import print_aligned, print_json
from rehead.runtime.wording import counted

if TYPE_CHECKING:
    from rehead.runtime.diagnosis import Diagnosis, Reach

EXAMPLE = "rehead doctor --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `doctor`: none."""


def run(options: argparse.Namespace) -> None:
    """Look at everything, and print a line for each."""
    from rehead.runtime.diagnosis import diagnose

    result = diagnose()
    print_json(result.to_json()) if options.json else print_aligned(_lines(result))


def _lines(result: Diagnosis) -> list[tuple[str, str]]:
    cache = result.cache
    cannot = "" if cache.writable else "; it cannot be written to: set REHEAD_CACHE to a folder that can be"
    lines = [(name, number or "not installed: install rehead with pip") for name, number in result.versions.items()]
    lines += [(extra, _extra(extra, packages)) for extra, packages in result.extras.items()]
    lines += [
        ("system", result.system),
        ("device", f"{result.device}, {counted(result.threads, 'thread')} on the CPU"),
        ("memory", f"{result.free_memory_bytes / 1e9:.1f} GB free"),
    ]
    in_int8 = any(kind.used for kind in result.number_types if kind.name == "int8")
    layers = "an encoder's frozen layers" if in_int8 else "frozen layers"
    for kind in result.number_types:
        use = f"what {layers} are computed in" if kind.used else f"not used for {layers}"
        lines.append((kind.name, f"{kind.gflops:,.0f} GFLOP/s in a matrix product, {use}"))
    held, free = f"{cache.bytes / 1e6:,.0f} MB", f"{cache.free_bytes / 1e9:,.0f} GB"
    return [
        *lines,
        ("cache", f"{held} in {cache.folder}, {free} free on its disk{cannot}"),
        ("package index", _reach(result.package_index, "models that rehead bases lists are fetched from it")),
        ("model hub", _reach(result.hub, "models by a hub name are fetched from it")),
    ]


def _extra(extra: str, packages: dict[str, str | None]) -> str:
    if None in packages.values():
        return f"not installed; pip install 'rehead[{extra}]'"
    return ", ".join(f"{name} {number}" for name, number in packages.items())


def _reach(reach: Reach, use: str) -> str:
    return f"reachable; {use}" if reach.reachable else f"not reachable ({reach.reason}); {use}"
