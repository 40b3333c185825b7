"""`rehead doctor`: what it says, on a machine that is well and on one that is not."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rehead.runtime import diagnosis, hardware
from tests.cli.running import Finished


def refuse(*_: object, **__: object) -> None:
    raise OSError("no network here\nand more of it")


@pytest.fixture
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_ask_index", refuse)
    monkeypatch.setattr(diagnosis, "_ask_hub", refuse)


@pytest.mark.usefixtures("_offline")
def test_doctor_says_what_is_here_and_that_it_is_offline(rehead: Callable[..., Finished], empty_cache: Path) -> None:
    (empty_cache / "packages").mkdir(parents=True)
    (empty_cache / "packages" / "weights").write_bytes(bytes(3_000_000))
    finished = rehead("doctor", "--json")
    assert finished.code == 0, finished.err
    found = finished.json
    assert found["versions"]["torch"] == pytest.importorskip("torch").__version__
    assert None not in found["versions"].values()
    assert sum(kind["used"] for kind in found["number_types"]) == 1
    assert all(kind["gflops"] > 0 for kind in found["number_types"])
    assert found["cache"]["bytes"] >= 3_000_000
    assert found["cache"]["writable"]
    assert found["hub"] == found["package_index"] == {"reachable": False, "reason": "no network here"}


@pytest.mark.usefixtures("_offline")
def test_doctor_prints_a_line_for_each_with_the_cure(
    rehead: Callable[..., Finished], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_version", lambda name: None if name == "fastapi" else "1.0")
    monkeypatch.setattr(diagnosis.os, "access", lambda *_: False)
    lines = rehead("doctor").out.splitlines()
    for expected in (
        "not installed; pip install 'rehead[serve]'",
        "frozen layers are computed in",
        "it cannot be written to: set REHEAD_CACHE",
        "not reachable (no network here); models by a hub name",
    ):
        assert sum(expected in line for line in lines) == 1, expected


def test_index_is_asked_through_pip_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def fail(command: list[str], **settings: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: it is away")

    monkeypatch.setattr(diagnosis.subprocess, "run", fail)
    reach = diagnosis._reach(diagnosis._ask_index)
    assert not reach.reachable
    assert "pip config list" in str(reach.reason)
    assert {"--retries", "--timeout"} < set(asked[0])


def test_hub_that_is_switched_off_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert diagnosis._reach(diagnosis._ask_hub).reason == "HF_HUB_OFFLINE is set"


@pytest.mark.parametrize(
    ("used", "of"), [(torch.bfloat16, "frozen layers"), (torch.int8, "an encoder's frozen layers")]
)
def test_doctor_says_what_is_computed_in_the_fastest_type(
    used: torch.dtype, of: str, rehead: Callable[..., Finished], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "frozen_dtype", lambda: used)
    monkeypatch.setattr(hardware, "product_speed", lambda dtype: 2e9)
    lines = rehead("doctor").out.splitlines()
    name = str(used).removeprefix("torch.")
    assert [line for line in lines if f"what {of} are computed in" in line and line.startswith(name)]
    assert sum(f"not used for {of}" in line for line in lines) == 2
