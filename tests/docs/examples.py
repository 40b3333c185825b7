"""The examples of README and the docs: the blocks of code of a page, in order, and how a test runs them.

A comment on the line before a block says what is special about it: `<!-- not run: REASON -->`, `<!-- slow -->`, or
`<!-- run with: OPTIONS -->`, which each `rehead fit` in the block then has, too.
"""

import json
import re
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rehead import Classifier
from rehead.workflows.fit import fit
from tests.test_multilabel import LABELS, TEXTS
from tests.tiny_images import save_folders
from tests.tiny_texts import messages, write_csv, write_messages

ROOT = Path(__file__).resolve().parents[2]
# These are records: what they say was run then.
_RECORDS = ("docs/decisions", "docs/results", "docs/LOG.md", "docs/LEADERBOARD.md")
_RUN = ("python", "sh", "console")
_COMMENT = re.compile(r"<!-- (not run|slow|run with)(?:: (.+))? -->")
_NUMBER = re.compile(r"[-+]?\d[\d.,]*")


@dataclass(frozen=True)
class Example:
    """A block of code.

    Attributes:
        place: page and line.
        language: what stands behind the opening fence.
        lines: of the block.
        marks: what the comments before it say, by their first words.
    """

    place: str
    language: str
    lines: list[str]
    marks: dict[str, str | None]

    @property
    def is_slow(self) -> bool:
        return "slow" in self.marks

    @property
    def is_run(self) -> bool:
        return self.language in _RUN and "not run" not in self.marks

    def commands(self) -> Iterator[tuple[list[str], list[str]]]:
        """Give each command's arguments and the lines that are shown of what it prints."""
        if self.language == "sh":
            for line in "\n".join(self.lines).replace("\\\n", " ").splitlines():
                if line.split("#")[0].strip():
                    yield self._arguments(line), []
            return
        starts = [i for i, line in enumerate(self.lines) if line.startswith("$ ")]
        assert starts, f"{self.place}: a console block begins its commands with $"
        for start, end in zip(starts, [*starts[1:], len(self.lines)], strict=True):
            yield self._arguments(self.lines[start][2:]), self.lines[start + 1 : end]

    def _arguments(self, line: str) -> list[str]:
        program, *arguments = shlex.split(line, comments=True)
        assert program == "rehead", f"{self.place}: {line!r} is no command of rehead's; mark the block as not run"
        if arguments[0] == "fit" and (more := self.marks.get("run with")):
            return [*arguments, *shlex.split(more)]
        return arguments


def pages() -> list[Path]:
    """Return README and the pages of the docs."""
    docs = (page for page in sorted((ROOT / "docs").rglob("*.md")) if not name(page).startswith(_RECORDS))
    return [ROOT / "README.md", *docs]


def name(page: Path) -> str:
    """Return a page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def examples_of(page: Path) -> list[Example]:
    """Return the blocks of code of a page."""
    found: list[Example] = []
    marks: dict[str, str | None] = {}
    block: Example | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if block is not None:
            if line.startswith("```"):
                found.append(block)
                block = None
            else:
                block.lines.append(line)
        elif line.startswith("```"):
            block, marks = Example(f"{name(page)}:{number}", line[3:].strip(), [], marks), {}
        elif comment := _COMMENT.fullmatch(line):
            marks[comment[1]] = comment[2]
        else:
            marks = {}
    return found


def is_shown(line: str, printed: list[str]) -> bool:
    """Return whether a line of a page is among those that were printed, whatever its numbers; `...` ends it early."""
    wanted = _plain(line)
    if wanted.endswith("..."):
        return any(_plain(real).startswith(wanted[:-3].rstrip()) for real in printed)
    return wanted in map(_plain, printed)


def _plain(line: str) -> str:
    return _NUMBER.sub("#", " ".join(line.split()))


def _save_mails(path: Path) -> None:
    with sqlite3.connect(path) as mails:
        mails.execute("CREATE TABLE mails (id INTEGER PRIMARY KEY, body TEXT)")
        mails.executemany("INSERT INTO mails (body) VALUES (?)", [(text,) for text in messages(40)[0]])
    mails.close()


def _save_lines(folder: Path) -> None:
    folder.mkdir()
    lines = [json.dumps({"text": text}) for text in messages(40)[0]]
    (folder / "2026-11-01.jsonl").write_text("\n".join(lines))


def _save_inbox(folder: Path) -> None:
    folder.mkdir()
    write_messages(folder / "monday.csv")


def _save_parquet(path: Path) -> None:
    pq.write_table(pa.table({"text": messages(40)[0]}), path)


def _save_scans(folder: Path) -> None:
    save_folders(folder)
    (folder / "lying").rename(folder / "benign")
    (folder / "upright").rename(folder / "malignant")


def _save_tagged(path: Path) -> None:
    lists = [";".join(labels) for labels in LABELS]
    write_csv(path, ["text", "labels"], [row for row in zip(TEXTS, lists, strict=True) if row[1]])


def _save_model(path: Path) -> None:
    fit(str(write_messages(path.with_name("learned.csv"))), Classifier("tfidf"), path)


# What stands in for the files that a page calls the reader's own.
STAND_INS: dict[str, Callable[[Path], object]] = {
    "articles.csv": write_messages,
    "few.csv": lambda path: write_messages(path, 32),
    "filter": _save_model,
    "flowers": save_folders,
    "inbox": _save_inbox,
    "intents.csv": write_messages,
    "labelled.csv": lambda path: write_messages(path, 40, 400),
    "logs": _save_lines,
    "mail.db": _save_mails,
    "messages.parquet": _save_parquet,
    "messages.csv": lambda path: write_messages(path, 40, 400),
    "reviews.csv": write_messages,
    "scans": _save_scans,
    "spam-model": _save_model,
    "tagged.csv": _save_tagged,
    "tickets.csv": write_messages,
    "tweets.csv": write_messages,
    "tweets-test.csv": lambda path: write_messages(path, 40, 400),
}
