"""Write the tree of the source, a line a file, into CONTRIBUTING.md.

    python tools/tree.py            write it
    python tools/tree.py --check    exit code 1 where it is stale

A line is the first one of the file's docstring, so that is the place to correct it.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "rehead"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- tree: written by `make tree` -->\n```text\n", "```\n<!-- end of the tree -->\n"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    current = f"{before}{BEGIN}{tree()}{END}{after}"
    if sys.argv[1:] == ["--check"]:
        if current != page:
            sys.exit(f"the tree in {PAGE.name} is stale; run make tree")
    else:
        PAGE.write_text(current, encoding="utf-8")


def tree() -> str:
    """Return a line for each folder with Python files and for each such file, under its folder."""
    folders = [SOURCE, *sorted(path.parent for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE)]
    lines = []
    for folder in folders:
        depth = len(folder.relative_to(SOURCE).parts)
        lines.append(line(f"{'  ' * depth}{folder.name}/", folder / "__init__.py"))
        files = (path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")
        lines += [line(f"{'  ' * (depth + 1)}{path.name}", path) for path in files]
    return "".join(lines)


def line(name: str, file: Path) -> str:
    """Return a name with the first line of a file's docstring."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return f"{name:<26} {docstring.partition(chr(10))[0]}\n"


if __name__ == "__main__":
    main()
