"""The command line itself: help, names, exit codes, and what is imported."""

import errno
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import FIT, Finished, Place, assert_nothing_written, assert_refused, in_child


def test_a_mistake_of_the_users_is_one_line_in_the_real_command(decoder: Path, tmp_path: Path) -> None:
    finished = in_child(*FIT, tmp_path / "nowhere.csv", "--model", decoder, "-o", tmp_path / "model")
    assert (finished.code, finished.out) == (2, "")
    assert re.fullmatch(r"rehead: .*nowhere\.csv: no such file.*\n", finished.err)


def test_help_comes_at_once() -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        assert in_child("--help").code == 0
        seconds.append(time.perf_counter() - start)
    assert statistics.median(seconds) < 0.5


def test_version_is_the_packages(rehead: Callable[..., Finished]) -> None:
    import rehead as package

    assert rehead("--version").out == f"rehead {package.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["fit"], ["predict"], ["predict", "model"], ["evaluate", "model"], ["--nonsense"]]
)
def test_a_command_line_that_makes_no_sense_is_refused(rehead: Callable[..., Finished], arguments: list[str]) -> None:
    assert_refused(rehead(*arguments), "--help")


def test_a_fault_of_reheads_own_is_told_apart(
    rehead: Callable[..., Finished], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero\nand more")

    monkeypatch.setattr("rehead.workflows.fit.fit", fail)
    finished = rehead(*FIT, place.data, "--model", place.base, "-o", place.output)
    assert finished.code == 1
    assert finished.said == ["rehead: a fault of rehead's own: ZeroDivisionError: by zero (run with --debug)"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "rehead: out of memory; close other programs, or use a smaller model"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you"),
            "out of m",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "model"), "cannot write model .No space left on device.; "),
        (OSError(errno.EFBIG, "File too large"), "cannot write .File too large.; free some space, raise the limit"),
    ],
    ids=["memory", "memory of torch", "full disk", "limit of a file's size"],
)
def test_what_the_machine_has_too_little_of_is_one_line(
    rehead: Callable[..., Finished], place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("rehead.workflows.fit.fit", fail)
    assert_refused(rehead(*FIT, place.data, "--model", place.base, "-o", place.output), line)


def test_debug_shows_where_an_error_came_from(place: Place) -> None:
    finished = in_child(*FIT, "nowhere.csv", "--model", place.base, "-o", place.output, "--debug")
    assert finished.code != 0
    assert "Traceback" in finished.err
    assert "DataError" in finished.err
    assert_nothing_written(place.output)
