"""Every example of README and the docs runs, and prints what the page shows."""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.examples import STAND_INS, Example, examples_of, is_shown, name, pages

# Servers, databases, installations, hours of training. Fewer is better.
_NOT_RUN_AT_MOST = 25

EXAMPLES = {name(page): examples_of(page) for page in pages()}
RUN = {page: [example for example in found if example.is_run] for page, found in EXAMPLES.items()}
InProcess = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a page's commands run: an empty folder, in a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.mark.parametrize("page", [page for page, run in RUN.items() if any(not example.is_slow for example in run)])
def test_examples_of_a_page_run(
    page: str, folder: Path, in_process: InProcess, fit_once: InProcess, pytestconfig: pytest.Config
) -> None:
    if not pytestconfig.option.markexpr and any(example.is_slow for example in RUN[page]):
        pytest.skip("the test below runs them, too, and the slow ones")
    run_page([example for example in EXAMPLES[page] if not example.is_slow], folder, in_process, fit_once)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, run in RUN.items() if any(example.is_slow for example in run)])
def test_examples_of_a_page_run_with_the_slow_ones(
    page: str, folder: Path, in_process: InProcess, fit_once: InProcess
) -> None:
    run_page(EXAMPLES[page], folder, in_process, fit_once)


def test_what_is_not_run_says_why() -> None:
    not_run = [example for found in EXAMPLES.values() for example in found if "not run" in example.marks]
    assert [example.place for example in not_run if not example.marks["not run"]] == []
    written = [example for example in not_run if not example.place.startswith("docs/reference/cli.md")]
    assert len(written) <= _NOT_RUN_AT_MOST, [example.place for example in written]


def test_a_line_that_is_not_printed_is_noticed() -> None:
    printed = ["99.45% accuracy on 906 test texts, 95 % interval 98.71% to 99.76%", "ham   0.99  1.00"]
    assert is_shown("98.00% accuracy on 12 test texts, ...", printed)
    assert is_shown("ham 0.98  0.97", printed)
    assert not is_shown("spam 0.98  0.97", printed)
    assert not is_shown("98.00% accuracy on 12 test texts", printed)


def run_page(examples: list[Example], folder: Path, in_process: InProcess, fit_once: InProcess) -> None:
    """Run the blocks of a page in order, in one folder and one Python session."""
    provide(examples, folder)
    session: dict[str, Any] = {"__name__": "page"}
    printed: list[str] | None = None
    for example in examples:
        if example.language == "text" and printed is not None:
            assert_shown(example, example.lines, printed)
        printed = None
        if not example.is_run:
            continue
        if example.language == "python":
            printed = run_python(example, session)
        else:
            run_commands(example, in_process, fit_once)


def provide(examples: list[Example], folder: Path) -> None:
    """Make the files that the examples name and no example before writes."""
    text = "\n".join(line for example in examples if example.is_run for line in example.lines)
    for file, make in STAND_INS.items():
        this = rf"{re.escape(file)}(?![\w.-])"
        is_named = re.search(rf"(?<![\w./-]){this}", text)
        is_written = re.search(rf'-o {this}|Path\("{this}"\)\.write|fit\(.*, "{this}', text)
        if is_named and not is_written:
            make(folder / file)


def run_python(example: Example, session: dict[str, Any]) -> list[str]:
    """Run a block in the page's session, and return the lines that it prints."""
    source = "\n" * int(example.place.rpartition(":")[2]) + "\n".join(example.lines)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(source, example.place.rpartition(":")[0], "exec"), session)  # noqa: S102
    return output.getvalue().splitlines()


def run_commands(example: Example, in_process: InProcess, fit_once: InProcess) -> None:
    for arguments, shown in example.commands():
        is_of_a_sample = arguments[0] == "fit" and arguments[1].startswith("sample:") and arguments[-2] == "-o"
        needs_files = any(
            Path(argument).exists() for argument in arguments
        )  # the page's own, which others may have too
        run = fit_once if is_of_a_sample and not needs_files else in_process
        code, out, err = run(*arguments)
        assert code == 0, f"{example.place}: rehead {' '.join(arguments)}: {err}"
        assert_shown(example, shown, [*out.splitlines(), *err.splitlines()])


def assert_shown(example: Example, shown: list[str], printed: list[str]) -> None:
    lines = [line for line in shown if line.strip() and line.strip() != "..."]
    missing = [line for line in lines if not is_shown(line, printed)]
    assert missing == [], f"{example.place}: not printed; printed was {printed}"
