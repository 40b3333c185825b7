"""The command, and a classifier that it has fitted once for all of its tests."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.running import FIT, Finished, Place, in_child
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages


@pytest.fixture
def rehead(in_process: Callable[..., tuple[int, str, str]]) -> Callable[..., Finished]:
    """The command in this process."""
    return lambda *arguments: Finished(*in_process(*arguments))


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="package")
def data(folder: Path) -> Path:
    return write_messages(folder / "messages.csv")


@pytest.fixture(scope="package")
def unseen(folder: Path) -> Path:
    return write_messages(folder / "unseen.csv", n=20, start=60)


@pytest.fixture(scope="package")
def decoder(folder: Path) -> Path:
    return save_tiny_model(folder / "llama", "llama")


@pytest.fixture(scope="package")
def encoder(folder: Path) -> Path:
    return save_tiny_model(folder / "bert", "bert")


@pytest.fixture(scope="package")
def fitted(folder: Path, data: Path, decoder: Path) -> Finished:
    # A cache with nothing in it, whichever tests ran before: what was computed is asserted.
    return in_child(
        *FIT, data, "--model", decoder, "--json", "-o", folder / "model", REHEAD_CACHE=str(folder / "cache")
    )


@pytest.fixture(scope="package")
def model(folder: Path, fitted: Finished) -> Path:
    assert fitted.code == 0, fitted.err
    return folder / "model"


@pytest.fixture
def place(tmp_path: Path, data: Path, decoder: Path) -> Place:
    (tmp_path / "out").mkdir()
    return Place(
        Path(shutil.copy(data, tmp_path / "data.csv")),
        shutil.copytree(decoder, tmp_path / "base"),
        tmp_path / "out" / "model",
    )
