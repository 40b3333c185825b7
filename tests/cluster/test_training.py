"""`rehead fit` by several processes: torchrun's, and those of Ray Train."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rehead import Classifier
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages

Run = Callable[..., tuple[int, str, str]]
OPTIONS = ("--strategy", "last-2", "--depth", 3, "--pool", "mean", "--epochs", 2, "--learning-rate", "3e-3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data, and the classifier that one process makes of them."""
    folder = tmp_path_factory.mktemp("training")
    save_tiny_model(folder / "base", "llama")
    write_messages(folder / "data.csv")
    return folder


def arguments(folder: Path, name: str) -> list[str]:
    options = ("fit", folder / "data.csv", "--model", folder / "base", *OPTIONS, "--json", "-o", folder / name)
    return [str(option) for option in options]


def assert_as_one_process(printed: str, folder: Path, name: str, in_process: Run) -> None:
    """The same losses after each epoch, and a folder that answers the same."""
    code, out, err = in_process(*arguments(folder, "alone"))
    assert code == 0, err
    ours, theirs = json.loads(printed), json.loads(out)
    assert ours["stages"][1]["validation_losses"] == pytest.approx(theirs["stages"][1]["validation_losses"], abs=2e-3)
    assert ours["model"] == str(folder / name)
    text = ["free prize call now"]
    scores = [Classifier.load(folder / one).predict_proba(text).tolist()[0] for one in (name, "alone")]
    assert scores[0] == pytest.approx(scores[1], abs=2e-2)


@pytest.mark.slow
def test_torchrun_fits_as_one_process_does(folder: Path, in_process: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command = [sys.executable, *torchrun, "--master-port", str(port), "-m", "rehead.cli", *arguments(folder, "both")]
    finished = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("training last-2") == 1, "one process says what is done"
    assert_as_one_process(finished.stdout, folder, "both", in_process)


@pytest.mark.slow
def test_ray_fits_as_one_process_does(cluster: None, folder: Path, in_process: Run) -> None:
    code, out, err = in_process(*arguments(folder, "ray"), "--on", "ray", "--workers", 2)
    assert code == 0, err
    assert_as_one_process(out, folder, "ray", in_process)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
    # What is wrong with the data is the user's to mend, wherever it is found.
    (folder / "data.csv").rename(folder / "gone.csv")
    code, out, err = in_process(*arguments(folder, "other"), "--on", "ray")
    assert (code, out) == (2, "")
    (folder / "gone.csv").rename(folder / "data.csv")
    (folder / "bad.csv").write_text("text,label\na,b\n")
    code, out, err = in_process("fit", folder / "bad.csv", "--on", "ray", "--workers", 2, "--strategy", "full")
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1


def test_strategies_that_cannot_be_shared_are_refused(folder: Path, in_process: Run) -> None:
    pytest.importorskip("ray")
    for options, problem in (
        (["--strategy", "head"], "several processes train last-K, lora or full together, not --strategy head"),
        (["--strategy", "contrastive"], "not --strategy contrastive"),
        (["--strategy", "full", "--cv", 3], "several processes train one classifier; leave --cv out"),
    ):
        code, out, err = in_process("fit", folder / "data.csv", "--on", "ray", *options)
        assert (code, out) == (2, "")
        assert problem in err
