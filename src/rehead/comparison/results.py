"""The results of a comparison: one for each approach, and one for all of them, which become JSON, a page, a table."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from rehead.comparison.recommendation import Outcome
from rehead.runtime.results import Json, Result, entry
from rehead.workflows.results import Rows

# Held as arrays of the test examples, which stand as lists in the state of an interrupted comparison.
_ARRAYS = ("right", "tested")


@dataclass(frozen=True, kw_only=True)
class ApproachResult(Outcome, Result):
    """An approach on the test examples, with what it cost.

    Attributes:
        accuracy_ci, macro_f1_ci: 95 % intervals.
        macro_f1: mean F1 of the classes.
        n_learned: labelled examples that it learned from.
        tflops: of learning, those of cached features included.
        megabytes: of what has to be kept to answer.
        takes_new_labels: whether a new label is no more than a new word in the prompt.
        outside: share of free answers that are none of the labels; None where there are no free answers.
        new_label_recall: of the rarest class where no example of it was shown; None where that was not tested.
        lost_by: accuracy lost by each kind of noise; None where that was not measured.
        notices_other_subjects: see `rehead.comparison.robustness.noticed`; None where that was not measured.
        curve: validation accuracy by number of labelled examples; None for what takes too long to learn again.
        p_value: of McNemar's test against the cheap approach; None for that one itself.
        enough: labelled examples with which 95 % of the best accuracy is reached; None where that is not known.
    """

    accuracy_ci: tuple[float, float]
    macro_f1: float
    macro_f1_ci: tuple[float, float]
    n_learned: int
    tflops: float
    megabytes: float
    outside: float | None
    takes_new_labels: bool
    new_label_recall: float | None
    lost_by: dict[str, float] | None
    notices_other_subjects: float | None
    curve: list[float] | None
    p_value: float | None = None
    enough: int | None = None

    def to_state(self) -> Json:
        """Return what `from_state` makes the result of again."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        return values | {name: values[name].tolist() for name in _ARRAYS}

    @classmethod
    def from_state(cls, state: Json) -> ApproachResult:
        """Make a result of the JSON of its `to_state`."""
        pairs = {name: tuple(state[name]) for name in ("accuracy_ci", "macro_f1_ci")}
        return cls(**state | pairs | {name: np.array(state[name], dtype=np.bool_) for name in _ARRAYS})


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Result):
    """Approaches on the same training, validation and test examples, and which of them to use.

    Attributes:
        data: where the examples came from.
        labels: names of the classes.
        rows: read, used and dropped, as `rehead fit` counts them.
        n_train: examples that all approaches could learn from.
        bases: probes were tried on each.
        budget: seconds.
        seed: of the split and of everything random.
        approaches: those that were tried, in that order.
        cheap: name of the approach that the others have to beat.
        curve_sizes: numbers of labelled examples that the curves of `approaches` belong to.
        recommended: name of the approach to use.
        reasons: why, in sentences; the first is the recommendation.
        not_tried: by name, why an approach was not tried.
        versions: of the packages that took part.
        seconds: that the comparison took, in all.
        peak_rss_bytes: the most memory that the process has held.
        report: path of the HTML page; None where nothing was written.
    """

    data: str
    labels: tuple[str, ...]
    rows: Rows
    n_train: int
    bases: tuple[str, ...]
    budget: float
    seed: int
    approaches: tuple[ApproachResult, ...]
    cheap: str
    curve_sizes: list[int]
    recommended: str
    reasons: list[str]
    not_tried: dict[str, str]
    versions: dict[str, str]
    seconds: dict[str, float]
    peak_rss_bytes: int
    report: str | None = entry(optional=True)
