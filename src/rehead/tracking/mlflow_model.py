"""Answer for a saved classifier of texts in MLflow, which loads this module by its name: no pickle, no copied code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import load_artifact
from rehead.batch.answers import answers_of, as_columns
from rehead.data.containers import inputs_of
from rehead.runtime.errors import DataError


class ServedClassifier:
    """What MLflow asks for predictions."""

    def __init__(self, classifier: Artifact) -> None:
        self._classifier = classifier

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return a data frame with the columns that `rehead predict -o` adds, a row a text.

        Args:
            model_input: n texts, or a table with one column of them.
        """
        import pandas as pd

        texts: Sequence[Any] = inputs_of(model_input)
        if not all(isinstance(text, str) for text in texts):
            raise DataError("the model takes texts; give a list or a column of them")
        return pd.DataFrame(map(as_columns, answers_of(self._classifier, self._classifier.scores(texts))))


def _load_pyfunc(data_path: str) -> ServedClassifier:
    """Return the classifier in a folder; MLflow calls this by its name."""
    return ServedClassifier(load_artifact(Path(data_path)))
