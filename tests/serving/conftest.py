"""Tiny classifiers that are served, trained once for all tests of the server."""

from pathlib import Path

import pytest

from rehead import Classifier
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"), "llama")


def saved(folder: Path, base: Path, depth: int) -> Path:
    """A classifier of so many blocks, fitted on the same messages each time."""
    data = write_messages(folder / "messages.csv", n=120)
    fit(str(data), Classifier(str(base), tune="head", depth=depth, pool="mean"), folder / "spam")
    return folder / "spam"


@pytest.fixture(scope="package")
def spam(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    return saved(tmp_path_factory.mktemp("served"), base, depth=2)


@pytest.fixture(scope="package")
def spam_of_another_depth(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """Of the same data, and another version."""
    return saved(tmp_path_factory.mktemp("served-too"), base, depth=1)
