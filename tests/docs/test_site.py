"""The docs as a whole: links that lead somewhere, messages and options that exist, and a site that builds."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from rehead.cli.command_line import _parse
from rehead.cli.flags import as_flags
from tests.docs.examples import ROOT, examples_of, name, pages
from tools.cli_reference import PAGE, reference

_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
_PICTURE_BYTES = 200_000
_README_WORDS = 900
# Whose options the messages of a folder name, where it is not `fit`.
_CALLS = {"serving": ["serve", "model"], "export": ["export", "model", "--format", "onnx"]}
_TROUBLES = ROOT / "docs" / "troubleshooting.md"


def test_readme_is_short_and_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= _README_WORDS
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("page", [*pages(), *sorted((ROOT / "docs" / "decisions").glob("*.md"))], ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [first or second for first, second in _LINK.findall(text)]
    assert [target for target in targets if not leads_somewhere(page, target)] == []


def test_a_link_to_nowhere_is_noticed() -> None:
    page = ROOT / "docs" / "index.md"
    assert leads_somewhere(page, "index.md#install")
    assert not leads_somewhere(page, "index.md#nothing")
    assert not leads_somewhere(page, "nothing.md")


def leads_somewhere(page: Path, target: str) -> bool:
    """Return whether a relative link's file is there, with the heading that it names; others are not followed."""
    if re.match(r"https?:|mailto:", target):
        return True
    path, _, heading = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return file == ROOT / "docs" / "decisions" / "index.md"  # which the site makes
    return not heading or file.suffix != ".md" or heading in headings_of(file)


def headings_of(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


def test_pictures_are_small() -> None:
    pictures = [*(ROOT / "docs").rglob("*.png")]
    assert pictures
    assert [picture for picture in pictures if picture.stat().st_size > _PICTURE_BYTES] == []


def test_reference_of_commands_is_what_the_parsers_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run python tools/cli_reference.py"


@pytest.mark.parametrize(
    "message", re.findall(r"^\*\*`(.+)`\*\*$", _TROUBLES.read_text(encoding="utf-8"), re.MULTILINE)
)
def test_a_message_that_is_explained_is_one_of_the_source(message: str) -> None:
    assert any(message in real.replace("'…'", "…") for real in messages())


@pytest.mark.parametrize("page", pages(), ids=name)
def test_commands_that_are_only_named_are_understood(page: Path) -> None:
    for command in commands_named(page):
        _, *arguments = shlex.split(command, comments=True)
        assert callable(_parse(arguments).run), command


def commands_named(page: Path) -> list[str]:
    """Return the commands within sentences, and those in blocks that are not run, with at least an argument."""
    blocks = [line for example in examples_of(page) if not example.is_run for line in example.lines]
    sentences = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    inline = re.findall(r"`(rehead [a-z]+ [^`]+)`", sentences)
    return [
        *(line for line in blocks if re.match(r"rehead [a-z]+ [^\[]+$", line)),
        *(" ".join(line.split()) for line in inline),
    ]


@cache
def messages() -> list[str]:
    """Return every text of the source, with … in the place of what is filled in, and options as they are typed."""
    texts: list[str] = []
    for file in sorted((ROOT / "src" / "rehead").rglob("*.py")):
        command = _parse(_CALLS.get(file.parent.name, ["fit", "data.csv"])).command
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append(as_flags("".join(parts), command))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(as_flags(node.value, command))
    return texts


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("material") is None, reason="no MkDocs Material: pip install '.[docs]'")
def test_site_builds_without_a_warning_and_asks_no_other_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]+src=\"?https?://|<link[^>]+rel=\"?stylesheet[^>]+href=\"?https?://"
    )
    pages_ = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages_) > 30
    assert [page for page in pages_ if loaded.search(page.read_text(encoding="utf-8"))] == []
