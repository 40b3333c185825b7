"""A small part of `make faults`, which tries them all."""

import subprocess
import sys
from pathlib import Path

import pytest

_COUNTS = ["--kills", "2", "--disks", "0", "--limits", "1", "--clocks", "0", "--flips", "1"]
_PARTS = ["--commands", "fit full,predict to CSV", "--flipped", "checkpoint of fit,cached features"]


@pytest.mark.slow
def test_kills_limits_and_flipped_bits_are_survived() -> None:
    command = [sys.executable, "-m", "tests.faults", *_COUNTS, *_PARTS]
    finished = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "checkpoint of fit: bit flip" in finished.stdout
    assert "fit full: kill" in finished.stdout
