"""Compares observations with a reference: five measures, each with a threshold that depends on how many there are.

A measure's threshold is what it exceeds by chance once in a thousand samples of that size (`rehead.drift.distances`),
and never less than its floor: of many inputs even a trifle is no chance, but it need not matter either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rehead.drift import distances
from rehead.drift.distances import Distance
from rehead.drift.distribution import Distribution
from rehead.drift.observations import Observations
from rehead.drift.reference import ReferenceProfile

# Fewer inputs are not measured.
LEAST = 100
# A tenth of the inputs get another label; distribution functions are a tenth apart.
_LABEL_FLOOR = _SHAPE_FLOOR = 0.1
# A twentieth of the words more are unknown.
_VOCABULARY_FLOOR = 0.05
# Half of what it comes to where a quarter of text messages are news articles (docs/concepts/drift.md).
_EMBEDDING_FLOOR = 0.01
# Of more features, as many as this are compared: all pairs of them are looked at.
_MOST_COMPARED = 2000


@dataclass(frozen=True)
class Measure:
    """One way in which inputs may differ from the reference.

    Attributes:
        value: the distance, 0 where there is none and at most 1.
        threshold: more than that is drift.
        reference, now: the mean there and here, of what has one.
        drifted: whether the value is above the threshold.
    """

    value: float
    threshold: float
    reference: float | None = None
    now: float | None = None
    drifted: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "drifted", self.value > self.threshold)


class Detector:
    """Measures how far observations are from a reference. It remembers thresholds, which take longest to find."""

    def __init__(self, reference: ReferenceProfile) -> None:
        self.reference = reference
        self._features = reference.features.astype(np.float32)
        self._chances: dict[tuple[str, int], float] = {}

    def measures(self, observed: Observations) -> dict[str, Measure]:
        """Return the measures that apply, by name; none at all for fewer than `LEAST` inputs.

        Names: `label` (what is predicted), `confidence` (how surely), `length` and `vocabulary` (of texts),
        `embedding` (what the head sees).
        """
        if len(observed) < LEAST:
            return {}
        reference = self.reference
        result = {
            "label": self._label(observed.labels),
            "confidence": self._shape("confidence", reference.confidence, observed.confidence),
        }
        if reference.length is not None and observed.length is not None:
            result["length"] = self._shape("length", reference.length, observed.length)
        if reference.unknown is not None and observed.unknown is not None:
            result["vocabulary"] = self._vocabulary(reference.unknown, observed.unknown)
        features = observed.features[~np.isnan(observed.features[:, 0])]
        if len(features) >= LEAST:
            result["embedding"] = self._embedding(features)
        return result

    def _label(self, labels: npt.NDArray[np.bool_]) -> Measure:
        """Compare the shares of the predicted labels.

        Source: Lipton et al., "Detecting and correcting for label shift with black box predictors", ICML 2018.
        """
        reference = self.reference
        now = labels.mean(axis=0, dtype=np.float64)
        several, k = reference.multilabel, len(now)
        distance = distances.largest_difference if several else distances.total_variation

        def chance(n: int) -> float:
            # As if each label had come up half a time more: one that never did need not be impossible.
            smooth = (reference.label_shares * reference.n + 0.5) / (reference.n + (1 if several else k / 2))
            if several:
                return distances.chance_of_labels(smooth, reference.n, n, [n, 0])
            return distances.chance_of_shares(distance, smooth, reference.n, n, [n, 0])

        value = float(distance(reference.label_shares, now))
        return Measure(value, max(_LABEL_FLOOR, self._chance("label", len(labels), chance)))

    def _shape(self, name: str, reference: Distribution, values: npt.NDArray[np.float32]) -> Measure:
        """Compare two distributions of a number.

        Source: Rabanser et al., "Failing loudly", NeurIPS 2019: of all that they tried, this test of a classifier's
        answers detected most shifts.
        """
        distance = distances.kolmogorov_smirnov
        chance = self._chance_of_shape(name, reference, len(values), distance)
        value = float(distance(reference.shares, reference.shares_of(values)))
        return Measure(value, max(_SHAPE_FLOOR, chance), reference.mean, _mean(values))

    def _vocabulary(self, reference: Distribution, values: npt.NDArray[np.float32]) -> Measure:
        """Compare the mean share of unknown words, and not its distribution, which is another one in longer texts.

        That more words are known than before, as of texts that were learned from, does no harm.
        """
        chance = self._chance_of_shape("vocabulary", reference, len(values), distances.rise(reference.centers))
        now = _mean(values)
        return Measure(max(0.0, now - reference.mean), max(_VOCABULARY_FLOOR, chance), reference.mean, now)

    def _chance_of_shape(self, name: str, reference: Distribution, n: int, distance: Distance) -> float:
        def chance(n: int) -> float:
            return distances.chance_of_shares(distance, reference.shares, reference.n, n, [n, *name.encode()])

        return self._chance(name, n, chance)

    def _chance(self, name: str, n: int, find: Callable[[int], float]) -> float:
        """Return what a measure comes to by chance for about n inputs, found once.

        It is found for n rounded down to two digits, which hardly changes it, and is on the safe side.
        """
        unit = 10 ** max(len(str(n)) - 2, 0)
        n = n // unit * unit
        if (name, n) not in self._chances:
            self._chances[name, n] = find(n)
        return self._chances[name, n]

    def _embedding(self, features: npt.NDArray[np.float32]) -> Measure:
        if len(features) > _MOST_COMPARED:
            features = features[np.linspace(0, len(features) - 1, _MOST_COMPARED).astype(np.int64)]
        chance = self._chance(
            "embedding", len(features), lambda n: distances.chance_of_energy(self._features, n, [n, 1])
        )
        return Measure(distances.energy(self._features, features), max(_EMBEDDING_FLOOR, chance))


def _mean(values: npt.NDArray[np.float32]) -> float:
    return float(values.mean(dtype=np.float64))


def drifted(measures: Mapping[str, Measure]) -> bool | None:
    """Return whether any of them has drifted; None where nothing was measured."""
    return any(measure.drifted for measure in measures.values()) if measures else None


def advice(measures: Mapping[str, Measure]) -> str:
    """Return what to do about it, in a sentence."""
    if not measures:
        return f"These are too few to say anything; come back with {LEAST} or more."
    moved = [name for name, measure in measures.items() if measure.drifted]
    if not moved:
        return "The inputs are like those that the classifier was tested on; nothing needs to be done."
    kinds = [name for name in moved if name in _KINDS]
    if kinds:
        return (
            f"The inputs are of another kind than those that the classifier was tested on ({', '.join(kinds)}): label "
            "a few hundred of them, see with rehead evaluate whether it is still good enough, and train again with "
            "them if not."
        )
    if moved == ["label"]:
        return (
            "The inputs are of the same kind, but other labels are predicted than before: look at some of the label "
            "that is predicted more often, and if they are right, only the mix has changed, for which thresholds "
            "need to be chosen anew; if not, train again with new labels."
        )
    confidence = measures["confidence"]
    assert confidence.now is not None
    assert confidence.reference is not None
    surer = "surer" if confidence.now > confidence.reference else "less sure"
    return (
        f"The classifier is {surer} than it was of its test examples: label a few hundred of the new inputs and see "
        "with rehead evaluate whether it is still good enough."
    )


_KINDS = ("length", "vocabulary", "embedding")
