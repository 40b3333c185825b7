"""From probabilities to decisions: thresholds, costs, abstention, sets of labels that hold the true one.

All of them are chosen on validation examples. What they come to is told of the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Index
from rehead.data.labels import Labels, of_class
from rehead.runtime.errors import SettingError

# A share of nine tenths asks for nine examples, whatever the ninth digit of 0.9 / (1 - 0.9) is.
_ROUNDING = 1e-9
# So near to 0 and 1 log odds are taken.
_NEAREST = 1e-12

Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How a label is chosen; by default the most probable one.

    Attributes:
        threshold: a class and the probability from which on it is chosen, whatever the others have; below, the most
            probable of the others is.
        costs: (n_classes, n_classes) what it costs to answer j where i is true: the answer with the least expected
            cost is chosen (Elkan, IJCAI 2001, §1). None where all errors cost the same.
        abstain_below: no label is chosen where the most probable one has less.
        set_above: a label belongs to the set of possible ones from this probability on; None where no sets are given.
        coverage: how many of the sets are to hold the true label.
    """

    threshold: tuple[int, float] | None = None
    costs: npt.NDArray[np.float64] | None = None
    abstain_below: float = 0.0
    set_above: float | None = None
    coverage: float | None = None

    def choose(self, probabilities: Probabilities) -> Index:
        """(n,) class ids for probabilities (n, n_classes); -1 where it abstains."""
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
        """(n, n_classes): the possible labels of each; the most probable one always is."""
        assert self.set_above is not None
        result = probabilities >= self.set_above
        result[np.arange(len(result)), probabilities.argmax(1)] = True
        return result

    def tell(self, probabilities: Probabilities, labels: Index, label_names: tuple[str, ...]) -> dict[str, Any]:
        """What the rule comes to on test examples, as JSON can hold it.

        Returns:
            `answered`: share that it does not abstain from; `accuracy`: among these, None if there are none; with a
            threshold `label`, `precision`, `recall` (sensitivity) and `specificity`; with sets `coverage`: share of
            them that hold the true label, and `set_size`: how many labels they hold on average; with costs `cost`: the
            mean.
        """
        chosen = self.choose(probabilities)
        answered = chosen >= 0
        told: dict[str, Any] = {
            "answered": float(answered.mean()),
            "accuracy": float((chosen == labels)[answered].mean()) if answered.any() else None,
        }
        if self.threshold is not None:
            label = self.threshold[0]
            hits = int(((chosen == label) & (labels == label)).sum())
            said, there = int((chosen == label).sum()), int((labels == label).sum())
            others = labels != label
            told |= {
                "label": label_names[label],
                "precision": hits / said if said else None,
                "recall": hits / there if there else None,
                "specificity": float((chosen[others] != label).mean()) if others.any() else None,
            }
        if self.set_above is not None:
            sets = self.sets(probabilities)
            told |= {
                "coverage": float(sets[np.arange(len(labels)), labels].mean()),
                "set_size": float(sets.sum(1).mean()),
            }
        if self.costs is not None and answered.any():
            told["cost"] = float(self.costs[labels[answered], chosen[answered]].mean())
        return told

    def answers(self, probabilities: Probabilities, label_names: tuple[str, ...]) -> list[dict[str, Any]]:
        """For each text `label`, None where the rule abstains, and with sets `possible`, all that may be true."""
        answers: list[dict[str, Any]] = [
            {"label": label_names[label] if label >= 0 else None} for label in self.choose(probabilities).tolist()
        ]
        if self.set_above is not None:
            for answer, belongs in zip(answers, self.sets(probabilities), strict=True):
                answer["possible"] = [label_names[label] for label in belongs.nonzero()[0]]
        return answers

    def to_json(self, label_names: tuple[str, ...]) -> dict[str, Any]:
        threshold = self.threshold and {"label": label_names[self.threshold[0]], "at": self.threshold[1]}
        return {
            "threshold": threshold,
            "costs": None if self.costs is None else self.costs.tolist(),
            "abstain_below": self.abstain_below,
            "set_above": self.set_above,
            "coverage": self.coverage,
        }

    @classmethod
    def from_json(cls, told: dict[str, Any], label_names: tuple[str, ...]) -> Rule:
        """What `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        threshold, costs = told["threshold"], told["costs"]
        rule = cls(
            threshold and (label_names.index(threshold["label"]), float(threshold["at"])),
            None if costs is None else np.array(costs, dtype=np.float64),
            float(told["abstain_below"]),
            *(None if told[name] is None else float(told[name]) for name in ("set_above", "coverage")),
        )
        if rule.costs is not None and rule.costs.shape != (len(label_names), len(label_names)):
            raise ValueError("the costs are not of these labels")
        return rule


@dataclass(frozen=True)
class Wanted:
    """What decisions are to reach; by default nothing but the most probable label.

    Attributes:
        measure, label, least: `precision` or `recall` of a class, at least so much; or the best `f1` that it can have.
            Where a text may have several labels, `all` is every class.
        costs: what it costs to answer one label where another is true, by the true one; 1 where nothing is said.
        abstain_below: see `Rule`.
        coverage: share of the sets of possible labels that are to hold the true one; None for no sets.
    """

    measure: str | None = None
    label: str | None = None
    least: float = 0.0
    costs: Mapping[str, Mapping[str, float]] | None = None
    abstain_below: float = 0.0
    coverage: float | None = None


def require_possible(wanted: Wanted, label_names: tuple[str, ...], n_validation: int) -> None:
    """Checks what can be checked before anything is trained.

    Raises:
        SettingError: it makes no sense, or there are too few validation examples for it.
    """
    if not 0 <= wanted.abstain_below < 1:
        raise SettingError(f"--abstain-below must be from 0 to below 1, not {wanted.abstain_below:g}")
    if wanted.measure is not None and wanted.label not in label_names:
        known = ", ".join(label_names[:8])
        raise SettingError(f"--{wanted.measure}: there is no class {wanted.label!r}; the classes are {known}")
    if wanted.measure is not None and wanted.costs is not None:
        raise SettingError(f"--{wanted.measure} and --costs are two ways to decide; give one of them")
    if wanted.costs is not None:
        _cost_matrix(wanted.costs, label_names)
    if wanted.coverage is not None:
        if not 0 < wanted.coverage < 1:
            raise SettingError(f"--coverage must be between 0 and 1, not {wanted.coverage:g}")
        least = math.ceil(wanted.coverage / (1 - wanted.coverage) - _ROUNDING)
        if n_validation < least:
            raise SettingError(
                f"--coverage {wanted.coverage:g} needs {least:,} validation examples or more, there are "
                f"{n_validation:,}; ask for less, or give more with --validation"
            )


def rule_for(wanted: Wanted, probabilities: Probabilities, labels: Index, label_names: tuple[str, ...]) -> Rule:
    """The rule that reaches what is wanted on validation examples, (n, n_classes) and (n,).

    Raises:
        SettingError: it cannot be reached, or makes no sense.
    """
    require_possible(wanted, label_names, len(labels))
    threshold = None
    if wanted.measure is not None and wanted.label is not None:
        label = label_names.index(wanted.label)
        threshold = label, threshold_for(probabilities, labels, label, wanted.measure, wanted.least)
    return Rule(
        threshold=threshold,
        costs=None if wanted.costs is None else _cost_matrix(wanted.costs, label_names),
        abstain_below=wanted.abstain_below,
        set_above=None if wanted.coverage is None else set_threshold(probabilities, labels, wanted.coverage),
        coverage=wanted.coverage,
    )


def _cost_matrix(told: Mapping[str, Mapping[str, float]], label_names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    matrix = 1.0 - np.eye(len(label_names))
    for truth, answers in told.items():
        for answer, cost in answers.items():
            for name in (truth, answer):
                if name not in label_names:
                    known = ", ".join(label_names[:8])
                    raise SettingError(f"--costs: there is no class {name!r}; the classes are {known}")
            if not cost >= 0 or not np.isfinite(cost):
                raise SettingError(f"--costs: {truth!r} taken for {answer!r} costs {cost!r}; give a number from 0")
            matrix[label_names.index(truth), label_names.index(answer)] = cost
    return matrix


def threshold_for(probabilities: Probabilities, labels: Labels, label: int, measure: str, least: float) -> float:
    """The probability from which on a class is to be chosen, so that its precision or recall is as wanted.

    Of the thresholds that reach it, the one with the best value of the other measure is taken.

    Args:
        probabilities, labels: of the validation examples, (n, n_classes), and (n,) or (n, n_classes).
        measure: `precision`, `recall` or `f1`.
        least: what it is to be at least; the best there is, for F1.

    Raises:
        SettingError: no threshold reaches it, or no example has the label.
    """
    from sklearn.metrics import precision_recall_curve

    is_label = of_class(labels, label)
    if not is_label.any():
        raise SettingError(f"no validation example is of the class that a {measure} of {least} is wanted of")
    precision, recall, thresholds = precision_recall_curve(is_label, probabilities[:, label])
    if measure == "f1":
        f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
        return _lowered(float(thresholds[f1[:-1].argmax()]), probabilities[:, label])
    wanted, other = (precision, recall) if measure == "precision" else (recall, precision)
    reached = np.flatnonzero(wanted[:-1] >= least)
    if not len(reached):
        raise SettingError(
            f"a {measure} of {least} is not reached on the {len(labels)} validation examples: {wanted[:-1].max():.4f} "
            "at most; ask for less"
        )
    best = reached[np.lexsort((thresholds[reached], other[reached]))[-1]]
    return _lowered(float(thresholds[best]), probabilities[:, label])


def _lowered(threshold: float, probabilities: npt.NDArray[np.float64]) -> float:
    """A threshold that lets the same of these examples through, halfway in log odds between the nearest two."""
    below = probabilities[probabilities < threshold]
    if not len(below):
        return threshold
    from scipy.special import expit, logit

    ends = np.clip([below.max(), threshold], _NEAREST, 1 - _NEAREST)
    middle = float(expit(logit(ends).mean()))
    return middle if below.max() < middle <= threshold else threshold


def set_threshold(probabilities: Probabilities, labels: Index, coverage: float) -> float:
    """From what probability on a label is to belong to a set, so that `coverage` of the sets hold the true label.

    Split conformal prediction with the least ambiguous sets (Sadinle et al., JASA 114, 2019, §3).

    Args:
        probabilities, labels: of the validation examples, (n, n_classes) and (n,).
    """
    of_label = np.sort(probabilities[np.arange(len(labels)), labels])[::-1]
    kept = math.ceil((len(labels) + 1) * coverage - _ROUNDING)
    return float(of_label[min(kept, len(labels)) - 1])
