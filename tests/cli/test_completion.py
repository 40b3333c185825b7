"""`rehead completion`: what a shell completes with it."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rehead.cli.command_line import COMMANDS
from tests.cli.running import Finished, assert_refused


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["f"], {"fit"}),
        ([""], set(COMMANDS)),
        (["fit", "--pre"], {"--preset", "--precision"}),
        (["fit", "data.csv", "--preset", ""], {"quick", "balanced", "best"}),
        (["predict", "mod"], {"model"}),
        (["fit", "--tu"], set()),  # an older name
    ],
)
def test_bash_completes(rehead: Callable[..., Finished], tmp_path: Path, typed: list[str], expected: set[str]) -> None:
    pytest.importorskip("shtab", reason="shtab is not installed; pip install 'rehead[completion]'")
    (tmp_path / "model").mkdir()
    script = rehead("completion", "bash").out
    asked = f"COMP_WORDS=(rehead {shlex.join(typed)}); COMP_CWORD={len(typed)}; _shtab_rehead; echo ${{COMPREPLY[@]}}"
    command = ["bash", "-c", f"{script}\n{asked}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(finished.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_every_command_and_option(rehead: Callable[..., Finished], shell: str) -> None:
    pytest.importorskip("shtab", reason="shtab is not installed; pip install 'rehead[completion]'")
    script = rehead("completion", shell, "--json").json["script"]
    for word in (*COMMANDS, "save-recipe", "full-report"):
        assert word in script


def test_without_shtab_it_is_said_how_to_install_it(
    rehead: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert_refused(rehead("completion", "bash"), r"pip install 'rehead\[completion\]'")
