"""Watches what a classifier is asked: keeps numbers of the latest inputs, and compares them when it is asked itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.artifact.predictor import Scores
from rehead.data.pictures import Picture
from rehead.drift.detector import LEAST, Detector, Measure, drifted
from rehead.drift.observations import Observations
from rehead.drift.reference import ReferenceProfile
from rehead.runtime.errors import SettingError


@dataclass(frozen=True)
class MonitorReport:
    """How far the latest inputs are from the reference.

    Attributes:
        n: inputs in the window.
        measures: by name; see `Detector.measures`.
    """

    n: int
    measures: dict[str, Measure]

    @property
    def drifted(self) -> bool | None:
        """Return whether any measure has; None where there are too few inputs."""
        return drifted(self.measures)

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        measures = {
            name: {"value": measure.value, "threshold": measure.threshold, "drifted": measure.drifted}
            for name, measure in self.measures.items()
        }
        return {"n": self.n, "drifted": self.drifted, "measures": measures}


class Monitor:
    """The latest inputs in a window, compared with a reference. Any number of threads may use it at once.

    Args:
        reference: of the classifier that scores the inputs.
        window: how many of the latest inputs are compared; memory does not grow beyond them. No text is kept.

    Raises:
        SettingError: the window is too small to measure anything.
    """

    def __init__(self, reference: ReferenceProfile, window: int = 2000) -> None:
        if window < LEAST:
            raise SettingError(f"the window must hold {LEAST} inputs or more, not {window}")
        self._reference, self._window = reference, window
        self._detector = Detector(reference)
        self._lock = threading.Lock()
        self._kept: dict[str, npt.NDArray[Any]] = {}
        self._n_observed = 0

    def observe(self, texts: Sequence[str] | Sequence[Picture], scores: Scores) -> None:
        """Take note of inputs and of what the classifier made of them.

        Args:
            scores: of `Predictor.scores`, with `keep_features=True` if the features are to be compared too.
        """
        if not len(texts):
            return
        arrays = self._reference.observed(texts, scores).arrays()
        with self._lock:
            latest = np.arange(max(0, len(texts) - self._window), len(texts))
            for name, array in arrays.items():
                if name not in self._kept:
                    self._kept[name] = np.zeros((self._window, *array.shape[1:]), dtype=array.dtype)
                self._kept[name][(self._n_observed + latest) % self._window] = array[latest]
            self._n_observed += len(texts)

    def report(self) -> MonitorReport:
        """Measure how far the inputs in the window are from the reference.

        The first report on a number of inputs computes its thresholds, which takes a few tenths of a second.
        """
        with self._lock:
            n = min(self._n_observed, self._window)
            kept = {name: array[:n].copy() for name, array in self._kept.items()}
        return MonitorReport(n, self._detector.measures(Observations(**kept)) if kept else {})
