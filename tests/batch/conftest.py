"""A tiny classifier, trained once for all tests of batches."""

from pathlib import Path

import pytest

from rehead import Classifier
from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.predictor import Predictor
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages


@pytest.fixture(scope="package")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    base = save_tiny_model(folder / "base", "llama")
    data = write_messages(folder / "messages.csv", n=120)
    fit(str(data), Classifier(str(base), tune="head", depth=2, pool="mean"), folder / "model")
    return folder / "model"


@pytest.fixture(scope="package")
def model(model_folder: Path) -> Artifact:
    return load_artifact(model_folder)


@pytest.fixture(scope="package")
def predictor(model: Artifact) -> Predictor:
    return model.predictor(steady=True, label=None)
