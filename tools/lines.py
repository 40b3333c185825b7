"""Count the lines of each room, of the core and of the whole, and compare them with main and with the budget.

    python tools/lines.py            the table; exit code 1 where a budget is exceeded
    python tools/lines.py --lower    lower the budgets to the present counts

The core is what `rehead.classifier` imports, itself included, directly or through others, but for types.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
SOURCE = "src/rehead"
BUDGET = ROOT / "tools" / "budget.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lower", action="store_true", help="lower the budgets to the present counts")
    options = parser.parse_args()
    files = lines_of_files()
    rooms = by_room(files)
    before = by_room(lines_on_main())
    counts = {"core": sum(files[file] for file in core_files()), "whole": sum(files.values())}
    budgets = json.loads(BUDGET.read_text(encoding="utf-8"))
    for room in sorted(rooms | before):
        print(row(room, rooms[room], rooms[room] - before[room] if before else None))
    print(row("core", counts["core"], None, budgets["lines"]["core"]))
    print(
        row("whole", counts["whole"], counts["whole"] - before.total() if before else None, budgets["lines"]["whole"])
    )
    if options.lower:
        budgets["lines"] = {name: min(count, budgets["lines"][name]) for name, count in counts.items()}
        BUDGET.write_text(json.dumps(budgets, indent=2) + "\n", encoding="utf-8")
    above = [name for name, count in counts.items() if count > budgets["lines"][name]]
    if above:
        sys.exit(f"{' and '.join(above)}: more lines than {BUDGET.relative_to(ROOT)} allows; remove some")


def lines_of_files() -> dict[str, int]:
    """Return the lines of each Python file of the source, by its path from the root."""
    return {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted((ROOT / SOURCE).rglob("*.py"))
    }


def by_room(files: dict[str, int]) -> Counter[str]:
    """Add up lines by the folder or file directly under the source's root."""
    rooms: Counter[str] = Counter()
    for file, lines in files.items():
        rooms[file.removeprefix(f"{SOURCE}/").partition("/")[0]] += lines
    return rooms


def lines_on_main() -> dict[str, int]:
    """Return the lines of each file where this branch left main; nothing where there is no such branch."""
    commit = git("merge-base", "HEAD", "main").strip()
    counted = git("grep", "--count", "", commit, "--", f"{SOURCE}/*.py").splitlines() if commit else []
    return {file.partition(":")[2]: int(lines) for file, _, lines in (line.rpartition(":") for line in counted)}


def git(*arguments: str) -> str:
    """Return what a git command prints; nothing where it fails."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout


def core_files() -> list[str]:
    """Return the files of the core."""
    sys.path.insert(0, str(ROOT / "src"))
    graph = grimp.build_graph("rehead", exclude_type_checking_imports=True, cache_dir=None)
    modules = graph.find_upstream_modules("rehead.classifier") | {"rehead.classifier"}
    bases = [f"src/{module.replace('.', '/')}" for module in sorted(modules)]
    return [f"{base}.py" if (ROOT / f"{base}.py").is_file() else f"{base}/__init__.py" for base in bases]


def row(name: str, lines: int, change: int | None, budget: int | None = None) -> str:
    """Return a line of the table."""
    shown = "" if change is None else f"{change:+,} against main"
    return f"{name:<14} {lines:>7,}  {shown:<22}{'' if budget is None else f'budget {budget:,}'}".rstrip()


if __name__ == "__main__":
    main()
