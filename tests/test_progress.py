"""Messages are log records, which the command line shows; one bar at a time, gone when it is done."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rehead.runtime import progress


class Terminal(io.StringIO):
    """What a terminal is sent."""

    def isatty(self) -> bool:
        return True


@contextmanager
def a_terminal(monkeypatch: pytest.MonkeyPatch, *, shown: bool = True) -> Iterator[Terminal]:
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", terminal)
        progress._console.cache_clear()
        progress.show(shown)
        yield terminal
        progress.show(False)
    progress._console.cache_clear()


def test_library_logs_warnings_and_messages_only_where_asked(caplog: pytest.LogCaptureFixture) -> None:
    progress.show(False)  # whatever ran before in this process
    progress.say("training")
    progress.warn("3 rows not used")
    assert caplog.record_tuples == [("rehead", logging.WARNING, "3 rows not used")]
    with caplog.at_level(logging.INFO, "rehead"):
        progress.say("training")
    assert caplog.messages[1:] == ["training"]


def test_python_sees_warnings_and_nothing_else_unless_asked() -> None:
    lines = "from rehead.runtime import progress as p; p.say('training'); p.warn('3 rows'); p.show(True); p.say('now')"
    finished = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("", "3 rows\nnow\n")


def test_shown_lines_come_once_and_stop(capsys: pytest.CaptureFixture[str]) -> None:
    progress.show(True)
    progress.show(True)
    progress.say("[bold] stays as it is, " + "however long the line " * 9)
    progress.warn("3 rows not used")
    progress.show(False)
    progress.warn("unseen")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "[bold] stays as it is, " + "however long the line " * 9,
        "warning: 3 rows not used",
    ]


def test_shown_lines_are_not_said_again_by_a_handler_of_another_library(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        progress.show(True)
        progress.warn("3 rows not used")
    finally:
        progress.show(False)
        logging.getLogger().removeHandler(handler)
    assert capsys.readouterr().err == "warning: 3 rows not used\n"


def test_no_bar_is_drawn_where_stderr_is_no_terminal(shown: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar("trunk pass", 2) as advance:
        advance(2)
    assert capsys.readouterr().err == ""


def test_one_bar_is_drawn_at_a_time_and_goes_when_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_terminal(monkeypatch) as terminal:
        with progress.bar("trunk pass", 2) as advance, progress.bar("inner", 1) as inner:
            advance(1)
            inner(1)
            progress.say("a line above the bar")
        drawn = terminal.getvalue()
    assert "trunk pass" in drawn
    assert "inner" not in drawn
    assert "a line above the bar\n" in drawn
    # The cursor goes back up to the bar's line, and erases it.
    assert drawn.endswith("\x1b[1A\x1b[2K")


def test_bar_of_a_stage_that_fails_leaves_room_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_terminal(monkeypatch) as terminal:
        with pytest.raises(ValueError, match="torn"), progress.bar("trunk pass", 1):
            raise ValueError("torn")
        assert terminal.getvalue().endswith("\x1b[1A\x1b[2K")
        with progress.bar("training", 1):
            pass
        assert "training" in terminal.getvalue()


@pytest.mark.parametrize("label", [None, "trunk pass"])
def test_nothing_is_drawn_unless_it_is_shown(label: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_terminal(monkeypatch, shown=label is None) as terminal, progress.bar(label, 1) as advance:
        advance(1)
    assert terminal.getvalue() == ""


def test_server_logs_warnings_of_the_library_as_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rehead.serving import logs

    for name in ("rehead", "rehead.serving", "uvicorn.error"):
        log = logging.getLogger(name)
        for attribute in ("handlers", "propagate", "level"):
            monkeypatch.setattr(log, attribute, getattr(log, attribute))
    progress.show(False)
    logs.start()
    progress.warn("3 rows not used")
    progress.say("training")
    logs.event("ready", port=1)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [("warning", "3 rows not used"), ("info", "ready")]


def test_inside_a_block_as_much_is_shown_as_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drawn = {}
    for verbose in (0, 1, 2):
        with a_terminal(monkeypatch, shown=False) as terminal:
            with progress.shown(verbose):
                progress.say("chosen")
                progress.warn("lost")
                with progress.bar("trunk pass", 1) as advance:
                    advance(1)
            progress.say("after")
        drawn[verbose] = terminal.getvalue()
    assert drawn[0] == ""
    assert ("trunk pass" in drawn[1], "warning: lost" in drawn[1], "chosen" in drawn[1]) == (True, True, False)
    assert ("trunk pass" in drawn[2], "warning: lost" in drawn[2], "chosen" in drawn[2]) == (True, True, True)
    assert "after" not in drawn[2]
    assert caplog.messages == ["lost"]


def test_what_is_shown_already_stays_shown(shown: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(1):
        progress.say("inside")
    progress.say("after")
    assert capsys.readouterr().err == "inside\nafter\n"


def test_a_classifier_shows_what_its_parameter_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from rehead import Classifier
    from rehead.runtime.errors import SettingError
    from tests.tiny_texts import messages

    texts, labels = messages(40)
    with a_terminal(monkeypatch, shown=False) as terminal:
        model = Classifier("tfidf", verbose=2).fit(texts, labels)
        Classifier("tfidf").fit(texts, labels)
    assert terminal.getvalue().count("n-grams") == 1
    assert "verbose" not in model.artifact_.manifest.recipe
    with pytest.raises(SettingError, match="`verbose` must be 0, 1 or 2"):
        Classifier("tfidf", verbose=3).fit(texts, labels)
