"""What an audit says, one thing at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rehead.data.examples import Examples, Index

# Examples that are shown of each finding, and characters of each.
SHOWN, SHOWN_CHARACTERS = 5, 120


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        grade: `error`: the numbers would lie; `warning`: the classifier will likely be worse for it; `note`: good to
            know.
        kind: what it is, in two or three words.
        count: how many rows, or classes, it concerns.
        examples: some of them, each with `row` and `text`, or what else is to be said of it.
        advice: what to do about it.
    """

    grade: str
    kind: str
    count: int
    examples: list[dict[str, Any]]
    advice: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


GRADES = ("error", "warning", "note")


def in_order(findings: list[Finding]) -> list[Finding]:
    """Return the gravest first."""
    return sorted(findings, key=lambda finding: GRADES.index(finding.grade))


def shown(examples: Examples, rows: Index) -> list[dict[str, Any]]:
    """Return the first few of these rows."""
    return [
        {
            "row": int(examples.lines[i]),
            "label": examples.named(i),
            "text": shortened(examples.texts[i]),
        }
        for i in rows[:SHOWN]
    ]


def shortened(text: str) -> str:
    """Return the beginning of a text, in one line."""
    line = " ".join(text[: 4 * SHOWN_CHARACTERS].split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 3]}..."
