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
from rehead.cluster.connection import _errors_of_ours
from rehead.runtime.errors import DataError
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
    kept = folder / "alone.json"
    if not kept.exists():
        code, out, err = in_process(*arguments(folder, "alone"))
        assert code == 0, err
        kept.write_text(out)
    ours, theirs = json.loads(printed), json.loads(kept.read_text())
    assert ours["stages"][1]["validation_log_loss"] == pytest.approx(
        theirs["stages"][1]["validation_log_loss"], abs=2e-3
    )
    assert ours["model"] == str(folder / name)
    text = ["free prize call now"]
    scores = [Classifier.load(folder / one).predict_proba(text).tolist()[0] for one in (name, "alone")]
    assert scores[0] == pytest.approx(scores[1], abs=2e-2)


@pytest.mark.slow
def test_torchrun_fits_as_one_process_does(folder: Path, in_process: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    alone = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *torchrun, "--master-port", str(port), "-m", "rehead.cli", *arguments(folder, "both")]
    finished = subprocess.run(command, capture_output=True, text=True, env=os.environ | alone)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("training last-2") == 1, "one process says what is done"
    assert_as_one_process(finished.stdout, folder, "both", in_process)


@pytest.mark.slow
def test_ray_fits_as_one_process_does(cluster: None, folder: Path, in_process: Run) -> None:
    code, out, err = in_process(*arguments(folder, "ray"), "--on", "ray", "--workers", 2)
    assert code == 0, err
    assert_as_one_process(out, folder, "ray", in_process)
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_what_a_worker_raises_for_the_user_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray.exceptions import RayTaskError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
    from ray.train.v2.api.exceptions import WorkerGroupError

    ours = DataError("data.csv is empty")
    of_train = WorkerGroupError("all of the traceback", {1: UserExceptionWithTraceback(ours, "the traceback")})
    of_a_task = RayTaskError("look", "the traceback", ours).as_instanceof_cause()
    assert isinstance(of_a_task, DataError)
    for error in (of_train, of_a_task):
        with pytest.raises(DataError) as raised, _errors_of_ours():
            raise error
        assert raised.value is ours
    with pytest.raises(ValueError, match="another"), _errors_of_ours():
        raise ValueError("another")


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
