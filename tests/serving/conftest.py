"""Tiny classifiers that are served, trained once for all tests of the server."""

from pathlib import Path

import pytest

from tests.tiny_classifiers import save_tiny_classifier
from tests.tiny_models import save_tiny_model


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="package")
def spam_of_another_depth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same data, and another version."""
    return save_tiny_classifier(tmp_path_factory.mktemp("served-too"), depth=1)
