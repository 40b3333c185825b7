"""Turn probabilities into decisions: thresholds, costs, abstention, sets of labels that hold the true one.

All of them are chosen on validation examples, and measured on the test's; in a cross-validation on its predictions.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Index
from rehead.data.labels import EVEN, Labels, are_right, class_counts, is_multilabel, of_class
from rehead.runtime.errors import SettingError
from rehead.runtime.results import Result, entry

# In the place of a class, where a text may have several labels: every one of them.
ALL = "all"
# A share of nine tenths asks for nine examples, whatever the ninth digit of 0.9 / (1 - 0.9) is.
_ROUNDING = 1e-9
# Log odds are taken of probabilities that are at least this far from 0 and 1.
_NEAREST = 1e-12

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DecisionConfig:
    """Decisions as they are asked for; by default the most probable label.

    Attributes:
        measure, label, least: `precision` or `recall` of a class, at least so high; or the best `f1` that it can have.
            Where a text may have several labels, `all` is every class.
        costs: what it costs to answer one label where another is true, by the true one; 1 where nothing is said.
        abstain_below: see `SingleLabelRule`.
        coverage: share of the sets of possible labels that are to hold the true one; None for no sets.
    """

    measure: str | None = None
    label: str | None = None
    least: float = 0.0
    costs: Mapping[str, Mapping[str, float]] | None = None
    abstain_below: float = 0.0
    coverage: float | None = None

    def require_possible(self, label_names: tuple[str, ...], n_validation: int, *, multilabel: bool) -> None:
        """Check what can be checked before anything is trained.

        Raises:
            SettingError: it makes no sense, or there are too few validation examples for it.
        """
        for option in ("costs", "abstain_below", "coverage") if multilabel else ():
            if getattr(self, option) not in (None, 0.0):
                raise SettingError(
                    f"`{option}` is for texts with one label each, these may have several; choose thresholds with "
                    "`f1`, `precision` or `recall`"
                )
        if not 0 <= self.abstain_below < 1:
            raise SettingError(f"`abstain_below` must be from 0 to below 1, not {self.abstain_below:g}")
        if self.measure is not None and self.label not in ((*label_names, ALL) if multilabel else label_names):
            known = ", ".join(label_names[:8]) + (f"; {ALL} stands for all" if multilabel else "")
            raise SettingError(f"`{self.measure}`: there is no class {self.label!r}; the classes are {known}")
        if self.measure is not None and self.costs is not None:
            raise SettingError(f"`{self.measure}` and `costs` both decide on labels; give one of them")
        if self.costs is not None:
            _cost_matrix(self.costs, label_names)
        if self.coverage is not None:
            if not 0 < self.coverage < 1:
                raise SettingError(f"`coverage` must be between 0 and 1, not {self.coverage:g}")
            least = math.ceil(self.coverage / (1 - self.coverage) - _ROUNDING)
            if n_validation < least:
                raise SettingError(
                    f"`coverage={self.coverage:g}` needs {least:,} validation examples or more, there are "
                    f"{n_validation:,}; ask for less, or give more with `validation`"
                )


def choose_rule(
    config: DecisionConfig, probabilities: Probabilities, labels: Labels, label_names: tuple[str, ...]
) -> DecisionRule:
    """Return the rule that reaches what is asked for on validation examples.

    Where a text may have several labels and all classes are meant, one without a validation example keeps even odds.

    Args:
        config: what is asked for.
        probabilities, labels: of the validation examples, (n, n_classes), and (n,) or (n, n_classes).
        label_names: the classes.

    Raises:
        SettingError: it cannot be reached, or makes no sense.
    """
    multilabel = is_multilabel(labels)
    config.require_possible(label_names, len(labels), multilabel=multilabel)
    thresholds: dict[int, float] = {}
    if config.measure is not None:
        counts = class_counts(labels, len(label_names))
        meant = [label_names.index(config.label)] if config.label in label_names else np.flatnonzero(counts).tolist()
        thresholds = {
            label: threshold_for(probabilities, labels, label, config.measure, config.least) for label in meant
        }
    if multilabel:
        return MultilabelRule(np.array([thresholds.get(label, EVEN) for label in range(len(label_names))]))
    return SingleLabelRule(
        threshold=next(iter(thresholds.items()), None),
        costs=None if config.costs is None else _cost_matrix(config.costs, label_names),
        abstain_below=config.abstain_below,
        set_above=None if config.coverage is None else set_threshold(probabilities, labels, config.coverage),
        coverage=config.coverage,
    )


def saved_rule(saved: Mapping[str, Any] | None, label_names: tuple[str, ...], *, multilabel: bool) -> DecisionRule:
    """Return the rule that rehead.json holds; the most probable labels where it holds none.

    Raises:
        KeyError, TypeError, ValueError: it holds something else.
    """
    if not saved:
        return MultilabelRule(np.full(len(label_names), EVEN)) if multilabel else SingleLabelRule()
    if multilabel:
        return MultilabelRule(np.array([saved["thresholds"][name] for name in label_names], dtype=np.float64))
    return SingleLabelRule.from_json(saved, label_names)


class Answer(TypedDict, total=False):
    """What is answered to a text or an image, as JSON has it: `label`, None for none, or of several labels `labels`."""

    label: str | None
    labels: list[str]
    possible: list[str]
    probabilities: dict[str, float]
    tokens_cut: int


class DecisionRule(ABC):
    """A rule that chooses labels by their probabilities."""

    @abstractmethod
    def choose(self, probabilities: Probabilities) -> Labels:
        """Return labels for probabilities (n, n_classes): (n,) class ids, -1 where it abstains, or (n, n_classes)."""

    @abstractmethod
    def answers(self, probabilities: Probabilities, label_names: tuple[str, ...]) -> list[Answer]:
        """Return what is answered to each text."""

    @abstractmethod
    def measured(
        self, probabilities: Probabilities, labels: Labels, label_names: tuple[str, ...]
    ) -> SingleLabelDecisions | MultilabelDecisions:
        """Return the rule by the names of the classes, and what it comes to on test examples."""

    def without_abstention(self) -> DecisionRule:
        """Return the rule that has a label for every text."""
        return self


@dataclass(frozen=True)
class SingleLabelRule(DecisionRule):
    """A rule that chooses one label; by default the most probable one.

    Attributes:
        threshold: a class and the probability from which on it is chosen, whatever the others have; below, the most
            probable of the others is.
        costs: (n_classes, n_classes) what it costs to answer j where i is true: the answer with the least expected
            cost is chosen (Elkan, IJCAI 2001, §1). None where all errors cost the same.
        abstain_below: no label is chosen where the most probable one has less.
        set_above: a label belongs to the set of possible ones from this probability on; None for no sets.
        coverage: how many of the sets are to hold the true label.
    """

    threshold: tuple[int, float] | None = None
    costs: npt.NDArray[np.float64] | None = None
    abstain_below: float = 0.0
    set_above: float | None = None
    coverage: float | None = None

    def choose(self, probabilities: Probabilities) -> Index:
        if self.costs is not None:
            chosen = (probabilities @ self.costs).argmin(1)
        elif self.threshold is not None:
            label, at = self.threshold
            others = probabilities.copy()
            others[:, label] = -1.0
            chosen = np.where(probabilities[:, label] >= at, label, others.argmax(1))
        else:
            chosen = probabilities.argmax(1)
        return np.where(probabilities.max(1) < self.abstain_below, -1, chosen).astype(np.int64)

    def sets(self, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
        """Return (n, n_classes): the possible labels of each; the most probable one always is."""
        assert self.set_above is not None
        result = probabilities >= self.set_above
        result[np.arange(len(result)), probabilities.argmax(1)] = True
        return result

    def answers(self, probabilities: Probabilities, label_names: tuple[str, ...]) -> list[Answer]:
        """Return `label` of each text, None where it abstains, and with sets `possible`, all that may be true."""
        answers: list[Answer] = [
            {"label": label_names[label] if label >= 0 else None} for label in self.choose(probabilities).tolist()
        ]
        if self.set_above is not None:
            for answer, belongs in zip(answers, self.sets(probabilities), strict=True):
                answer["possible"] = [label_names[label] for label in belongs.nonzero()[0]]
        return answers

    def without_abstention(self) -> SingleLabelRule:
        return SingleLabelRule(self.threshold, self.costs, 0.0, self.set_above, self.coverage)

    def measured(
        self, probabilities: Probabilities, labels: Index, label_names: tuple[str, ...]
    ) -> SingleLabelDecisions:
        chosen = self.choose(probabilities)
        answered = chosen >= 0
        return SingleLabelDecisions(
            threshold=None if self.threshold is None else Threshold(label_names[self.threshold[0]], self.threshold[1]),
            costs=None if self.costs is None else self.costs.tolist(),
            abstain_below=self.abstain_below,
            set_above=self.set_above,
            coverage=self.coverage,
            test=SingleLabelOutcome(
                answered=float(answered.mean()),
                accuracy=float((chosen == labels)[answered].mean()) if answered.any() else None,
                threshold=None
                if self.threshold is None
                else _threshold_outcome(chosen, labels, self.threshold[0], label_names),
                sets=None if self.set_above is None else SetOutcome.of(self.sets(probabilities), labels),
                cost=None
                if self.costs is None or not answered.any()
                else float(self.costs[labels[answered], chosen[answered]].mean()),
            ),
        )

    @classmethod
    def from_json(cls, saved: Mapping[str, Any], label_names: tuple[str, ...]) -> SingleLabelRule:
        """Return the rule that `measured` has described.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        threshold, costs = saved["threshold"], saved["costs"]
        rule = cls(
            threshold and (label_names.index(threshold["label"]), float(threshold["at"])),
            None if costs is None else np.array(costs, dtype=np.float64),
            float(saved["abstain_below"]),
            *(None if saved[name] is None else float(saved[name]) for name in ("set_above", "coverage")),
        )
        if rule.costs is not None and rule.costs.shape != (len(label_names), len(label_names)):
            raise ValueError("the costs are not of these labels")
        return rule


@dataclass(frozen=True)
class MultilabelRule(DecisionRule):
    """A rule that chooses any number of labels, each from a probability on.

    Attributes:
        thresholds: (n_classes,) the probability from which on each is.
    """

    thresholds: npt.NDArray[np.float64]

    def choose(self, probabilities: Probabilities) -> Labels:
        return (probabilities >= self.thresholds).astype(np.int64)

    def answers(self, probabilities: Probabilities, label_names: tuple[str, ...]) -> list[Answer]:
        """Return `labels` of each text, those that are chosen."""
        return [{"labels": [label_names[label] for label in row.nonzero()[0]]} for row in self.choose(probabilities)]

    def measured(
        self, probabilities: Probabilities, labels: Labels, label_names: tuple[str, ...]
    ) -> MultilabelDecisions:
        from sklearn.metrics import f1_score

        from rehead.evaluation.metrics import macro_f1

        chosen = self.choose(probabilities)
        outcome = MultilabelOutcome(
            accuracy=float(are_right(labels, chosen).mean()),
            micro_f1=float(f1_score(labels, chosen, average="micro", zero_division=0)),
            macro_f1=macro_f1(labels, chosen),
        )
        return MultilabelDecisions(dict(zip(label_names, self.thresholds.tolist(), strict=True)), outcome)


@dataclass(frozen=True)
class Threshold:
    """A class, and the probability from which on it is chosen."""

    label: str
    at: float


@dataclass(frozen=True)
class ThresholdOutcome:
    """The outcome of the threshold of a class on test examples; None where there is nothing to measure it on.

    Attributes:
        precision: share of the examples called so that are of the class.
        recall: share of those of the class that are called so (sensitivity).
        specificity: share of the others that are not called so.
    """

    label: str
    precision: float | None
    recall: float | None
    specificity: float | None


def _threshold_outcome(chosen: Index, labels: Index, label: int, label_names: tuple[str, ...]) -> ThresholdOutcome:
    called, there = chosen == label, labels == label
    return ThresholdOutcome(
        label_names[label],
        precision=float(there[called].mean()) if called.any() else None,
        recall=float(called[there].mean()) if there.any() else None,
        specificity=float((~called)[~there].mean()) if not there.all() else None,
    )


@dataclass(frozen=True)
class SetOutcome:
    """The outcome of sets of possible labels on test examples.

    Attributes:
        coverage: share of them that hold the true label.
        set_size: how many labels they hold on average.
    """

    coverage: float
    set_size: float

    @classmethod
    def of(cls, sets: npt.NDArray[np.bool_], labels: Index) -> SetOutcome:
        return cls(float(sets[np.arange(len(labels)), labels].mean()), float(sets.sum(1).mean()))


@dataclass(frozen=True)
class SingleLabelOutcome:
    """The outcome of a rule on test examples.

    Attributes:
        answered: share that it does not abstain from.
        accuracy: among these; None if there are none.
        cost: the mean of those that are answered; only with costs.
    """

    answered: float
    accuracy: float | None
    threshold: ThresholdOutcome | None = entry(merged=True)
    sets: SetOutcome | None = entry(merged=True)
    cost: float | None = entry(optional=True)


@dataclass(frozen=True)
class SingleLabelDecisions(Result):
    """The rule that chooses a label, and its outcome on test examples.

    Attributes:
        threshold: of the class that is chosen from a probability on, whatever the others have.
        costs: what it costs to answer the class of the column where that of the row is true.
        abstain_below: no label is chosen where the most probable one has less.
        set_above: a label belongs to the set of possible ones from this probability on.
        coverage: how many of the sets are to hold the true label.
    """

    threshold: Threshold | None
    costs: list[list[float]] | None
    abstain_below: float
    set_above: float | None
    coverage: float | None
    test: SingleLabelOutcome


@dataclass(frozen=True)
class MultilabelOutcome:
    """The outcome of thresholds on test examples; `accuracy` is the share with all labels right and none missing."""

    accuracy: float
    micro_f1: float
    macro_f1: float


@dataclass(frozen=True)
class MultilabelDecisions(Result):
    """The probability from which on each label is chosen, and the outcome on test examples."""

    thresholds: dict[str, float]
    test: MultilabelOutcome


def _cost_matrix(costs: Mapping[str, Mapping[str, float]], label_names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    matrix = 1.0 - np.eye(len(label_names))
    for truth, answers in costs.items():
        for answer, cost in answers.items():
            for name in (truth, answer):
                if name not in label_names:
                    known = ", ".join(label_names[:8])
                    raise SettingError(f"`costs`: there is no class {name!r}; the classes are {known}")
            if not cost >= 0 or not np.isfinite(cost):
                raise SettingError(f"`costs`: {truth!r} taken for {answer!r} costs {cost!r}; give a number from 0")
            matrix[label_names.index(truth), label_names.index(answer)] = cost
    return matrix


def threshold_for(probabilities: Probabilities, labels: Labels, label: int, measure: str, least: float) -> float:
    """Return the probability from which on a class is to be chosen for the precision or recall that is asked for.

    Of the thresholds that reach it, the one with the best value of the other measure is taken.

    Args:
        probabilities, labels: of the validation examples, (n, n_classes), and (n,) or (n, n_classes).
        label: the class id.
        measure: `precision`, `recall` or `f1`.
        least: what it is to be at least; the best there is, for F1.

    Raises:
        SettingError: no threshold reaches it, or no example has the label.
    """
    from sklearn.metrics import precision_recall_curve

    is_label = of_class(labels, label)
    if not is_label.any():
        raise SettingError(f"no validation example is of the class that is to have a {measure} of {least}")
    precision, recall, thresholds = precision_recall_curve(is_label, probabilities[:, label])
    if measure == "f1":
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
        return _lowered(float(thresholds[f1[:-1].argmax()]), probabilities[:, label])
    asked, other = (precision, recall) if measure == "precision" else (recall, precision)
    reached = np.flatnonzero(asked[:-1] >= least)
    if not len(reached):
        raise SettingError(
            f"a {measure} of {least} is not reached on the {len(labels)} validation examples: {asked[:-1].max():.4f} "
            "at most; ask for less"
        )
    best = reached[np.lexsort((thresholds[reached], other[reached]))[-1]]
    return _lowered(float(thresholds[best]), probabilities[:, label])


def _lowered(threshold: float, probabilities: npt.NDArray[np.float64]) -> float:
    """Return a threshold that lets the same of these examples through, halfway in log odds between the nearest two."""
    from scipy.special import expit, logit  # here, since a prediction does without SciPy

    below = probabilities[probabilities < threshold]
    if not len(below):
        return threshold
    ends = np.clip([below.max(), threshold], _NEAREST, 1 - _NEAREST)
    middle = float(expit(logit(ends).mean()))
    return middle if below.max() < middle <= threshold else threshold


def set_threshold(probabilities: Probabilities, labels: Index, coverage: float) -> float:
    """Return from what probability on a label belongs to a set, so that `coverage` of the sets hold the true label.

    Split conformal prediction with the least ambiguous sets (Sadinle et al., JASA 114, 2019, §3).

    Args:
        probabilities, labels: of the validation examples, (n, n_classes) and (n,).
        coverage: share of the sets that are to hold the true label.
    """
    of_label = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    kept = math.ceil((len(labels) + 1) * coverage - _ROUNDING)
    return float(of_label[min(kept, len(labels)) - 1])
