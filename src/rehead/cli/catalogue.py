"""Print what rehead knows by name: pretrained models and data sets that packages carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rehead.cli.terminal import print_aligned, print_json
from rehead.runtime.downloads import Package, is_fetched
from rehead.runtime.results import Result

if TYPE_CHECKING:
    from rehead.data.samples import Sample
    from rehead.models.registry import Entry


@dataclass(frozen=True)
class CatalogueEntry:
    """A pretrained model or a data set that a package carries.

    Attributes:
        name: as commands take it.
        about: what it is, in a few words.
        licence: under which it may be used.
        package: name and version on the package index.
        megabytes: to fetch.
        fetched: whether it is on this machine.
    """

    name: str
    about: str
    licence: str
    package: str
    megabytes: float
    fetched: bool


@dataclass(frozen=True)
class Catalogue(Result):
    """What `rehead bases` and `rehead samples` list.

    Attributes:
        entries: in the order of the catalogue.
    """

    entries: list[CatalogueEntry]


def print_catalogue(
    entries: Mapping[str, Entry | Sample], others: Mapping[str, tuple[str, str]], as_json: bool
) -> None:
    """Print a table of what there is, or the entries as JSON.

    Args:
        others: what comes without a package of its own, for the table: where it is from, and what it is.
    """
    if as_json:
        print_json(Catalogue([_described(name, entry) for name, entry in entries.items()]).to_json())
        return
    shown = [(name, _state(entry.package), f"{entry.about}; {entry.licence}") for name, entry in entries.items()]
    print_aligned([*shown, *((name, *columns) for name, columns in others.items())])


def _described(name: str, entry: Entry | Sample) -> CatalogueEntry:
    package = entry.package
    return CatalogueEntry(name, entry.about, entry.licence, package.title, package.megabytes, is_fetched(package))


def _state(package: Package) -> str:
    return "on this machine" if is_fetched(package) else f"{package.megabytes:g} MB to fetch"
