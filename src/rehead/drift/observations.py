"""What is kept of inputs that a classifier has scored: a few numbers for each, from which no input can be read."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Observations:
    """Numbers of n inputs.

    Attributes:
        labels: (n, n_classes) bool, which labels are predicted.
        confidence: (n,) float32, the highest probability of any label.
        features: (n, DIRECTIONS) float32, what the head saw, reduced; not a number where that is not known.
        length: (n,) float32, characters of the text; None for images.
        unknown: (n,) float32, the share of words that the training texts do not have; None for images.
    """

    labels: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    length: npt.NDArray[np.float32] | None = None
    unknown: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.confidence)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return those that there are, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in named.items() if array is not None}
