"""Count the words that the house avoids, in the source, the docs and README, and compare with the ceilings.

python tools/words.py            the counts; exit code 1 where one is above its ceiling
python tools/words.py --lower    lower the ceilings to the present counts
python tools/words.py WORD       where a word still is
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUDGET = ROOT / "tools" / "budget.json"
# A word also counts as a part of a name, as in `given_by`; names of classes are matched as they are written.
PATTERNS = {
    "told": r"(?<![a-z])told(?![a-z])",
    "tell": r"(?<![a-z])tells?(?![a-z])",
    "room": r"(?<![a-z])rooms?(?![a-z])",
    "so many": r"[Ss]o many\b",
    "narration": r"narration",
    "facts": r"(?<![a-z])facts(?![a-z])",
    "given": r"(?<![a-z])given(?![a-z])",
    "ways": r"(?<![a-z])ways(?![a-z])",
    "Wanted": r"\bWanted\b",
    "Seen": r"\bSeen\b",
    "Found": r"\bFound\b",
    "Shelf": r"[Ss]helf",
    "climb": r"climb",
    "plausibility": r"plausibility",
    "galleries": r"galler(?:y|ies)",
}
SUFFIXES = {".py", ".jinja", ".js", ".html", ".md"}


def main() -> None:
    arguments = sys.argv[1:]
    if arguments and arguments[0] in PATTERNS:
        print(*places(arguments[0]), sep="\n")
        return
    counts = {word: len(places(word)) for word in PATTERNS}
    budgets = json.loads(BUDGET.read_text(encoding="utf-8"))
    ceilings: dict[str, int] = budgets["words"]
    for word, count in counts.items():
        print(f"{word:<14} {count:>5}  at most {ceilings[word]}")
    if arguments == ["--lower"]:
        budgets["words"] = {word: min(count, ceilings[word]) for word, count in counts.items()}
        BUDGET.write_text(json.dumps(budgets, indent=2) + "\n", encoding="utf-8")
    above = [word for word, count in counts.items() if count > ceilings[word]]
    if above:
        sys.exit(f"more than there were of: {', '.join(above)}; say it otherwise")


def places(word: str) -> list[str]:
    """Return file and line of each place where a word is."""
    files = [ROOT / "README.md", *(path for folder in ("src", "docs") for path in sorted((ROOT / folder).rglob("*")))]
    return [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in files
        if file.suffix in SUFFIXES
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        for _ in re.finditer(PATTERNS[word], line)
    ]


if __name__ == "__main__":
    main()
