"""Watches what a classifier is asked: keeps numbers of the latest inputs, and compares them when it is asked itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.artifact.predictor import Scores
from rehead.data.images import ImageInput
from rehead.drift.detector import LEAST, Detector, drifted
from rehead.drift.fingerprint import Fingerprint
from rehead.drift.observations import Observations
from rehead.runtime.errors import SettingError


class Monitor:
    """The latest inputs in a window, compared with a fingerprint. Any number of threads may use it at once.

    Args:
        fingerprint: of the classifier that scores the inputs.
        window: so many of the latest inputs are compared; memory does not grow beyond them. No text is kept.

    Raises:
        SettingError: the window is too small to tell anything.
    """

    def __init__(self, fingerprint: Fingerprint, window: int = 2000) -> None:
        if window < LEAST:
            raise SettingError(f"the window must hold {LEAST} inputs or more, not {window}")
        self._fingerprint, self._window = fingerprint, window
        self._detector = Detector(fingerprint)
        self._lock = threading.Lock()
        self._kept: dict[str, npt.NDArray[Any]] = {}
        self._seen = 0

    def observe(self, texts: Sequence[str] | Sequence[ImageInput], scores: Scores) -> None:
        """Takes note of inputs and of what the classifier made of them.

        Args:
            scores: of `Predictor.scores`, with `keep_features=True` if the features are to be compared too.
        """
        if not len(texts):
            return
        arrays = self._fingerprint.observed(texts, scores).arrays()
        with self._lock:
            latest = np.arange(max(0, len(texts) - self._window), len(texts))
            for name, array in arrays.items():
                if name not in self._kept:
                    self._kept[name] = np.zeros((self._window, *array.shape[1:]), dtype=array.dtype)
                self._kept[name][(self._seen + latest) % self._window] = array[latest]
            self._seen += len(texts)

    def report(self) -> dict[str, Any]:
        """How far the inputs in the window are from the fingerprint.

        The first report on a number of inputs finds its thresholds, which takes a few tenths of a second.

        Returns:
            `n`: inputs in the window; `drifted`: whether any measure has, None where there are too few inputs to tell;
            `measures`: by name (see `Detector.measures`), `value`, `threshold` and `drifted`.
        """
        with self._lock:
            n = min(self._seen, self._window)
            kept = {name: array[:n].copy() for name, array in self._kept.items()}
        measures = self._detector.measures(Observations(**kept)) if kept else {}
        told = {
            name: {"value": measure.value, "threshold": measure.threshold, "drifted": measure.drifted}
            for name, measure in measures.items()
        }
        return {"n": n, "drifted": drifted(measures), "measures": told}
