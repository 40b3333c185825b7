"""Complete the documentation site: a page that lists the decisions, and no links that lead out of the docs."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_DATED = re.compile(r"# (\d{4}-\d{2}-\d{2}): (.+)")
_INTRODUCTION = (
    "# Decisions\n\nWhat the design rests on, the latest first: context, decision, and what was considered instead.\n\n"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the list of decisions, made of the first line of each."""
    pages = sorted(Path(config["docs_dir"], "decisions").glob("*.md"), reverse=True)
    lines = [
        f"- {date}: [{title[0].upper()}{title[1:]}]({page.name})\n" for page in pages for date, title in [dated(page)]
    ]
    files.append(File.generated(config, "decisions/index.md", content=_INTRODUCTION + "".join(lines)))
    return files


def dated(page: Path) -> tuple[str, str]:
    """Return the date and the title of a decision."""
    with page.open(encoding="utf-8") as file:
        match = _DATED.match(file.readline())
    assert match, f"{page}: the first line must be '# DATE: TITLE'"
    return match[1], match[2]
