"""Print what rehead knows by name: pretrained models and data sets that packages carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from rehead.cli.terminal import print_aligned, print_json
from rehead.runtime.downloads import Package, is_fetched


class Listed(Protocol):
    """An entry of a catalogue; see `rehead.models.registry.Entry` and `rehead.data.samples.Sample`."""

    @property
    def package(self) -> Package: ...
    @property
    def about(self) -> str: ...
    @property
    def licence(self) -> str: ...


def print_catalogue(entries: Mapping[str, Listed], others: Mapping[str, tuple[str, str]], as_json: bool) -> None:
    """Print a table of what there is, or the entries as JSON.

    Args:
        others: what comes without a package of its own, for the table: where it is from, and what it is.
    """
    if as_json:
        rows = [
            {
                "name": name,
                "about": entry.about,
                "licence": entry.licence,
                "package": entry.package.title,
                "megabytes": entry.package.megabytes,
                "fetched": is_fetched(entry.package),
            }
            for name, entry in entries.items()
        ]
        print_json({"entries": rows})
        return
    shown = [(name, _state(entry.package), f"{entry.about}; {entry.licence}") for name, entry in entries.items()]
    print_aligned([*shown, *((name, *columns) for name, columns in others.items())])


def _state(package: Package) -> str:
    return "on this machine" if is_fetched(package) else f"{package.megabytes:g} MB to fetch"
