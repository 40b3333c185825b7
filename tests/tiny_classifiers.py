"""Tiny classifiers of messages, fitted and saved in a moment."""

from pathlib import Path

from rehead import Classifier
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages


def save_tiny_classifier(folder: Path, depth: int = 2) -> Path:
    """A head on the first layers of a tiny decoder, the same one each time, fitted on 120 messages."""
    base = save_tiny_model(folder / "base", "llama")
    data = write_messages(folder / "messages.csv", n=120)
    fit(str(data), Classifier(str(base), tune="head", depth=depth, pool="mean"), folder / "spam")
    return folder / "spam"
