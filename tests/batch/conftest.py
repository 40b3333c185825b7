"""The tiny classifier that tables are scored with."""

from pathlib import Path

import pytest

from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.predictor import Predictor
from tests.tiny_texts import messages


@pytest.fixture(scope="package")
def model(spam: Path) -> Artifact:
    return load_artifact(spam)


@pytest.fixture(scope="package")
def predictor(model: Artifact) -> Predictor:
    """One that has seen enough texts to round all others in the same way, whichever test asks it first."""
    asked = model.predictor(steady=True, label=None)
    asked.scores(messages(40)[0])
    return asked
