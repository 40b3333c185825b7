"""From probabilities to labels where a text may have several: a threshold for each class, which validation chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.labels import EVEN, Labels, are_right, class_counts
from rehead.evaluation.decisions import Probabilities, Wanted, threshold_for
from rehead.runtime.errors import SettingError

# In the place of a class: every one of them.
ALL = "all"


@dataclass(frozen=True)
class MultilabelRule:
    """Which labels are chosen.

    Attributes:
        thresholds: (n_classes,) the probability from which on each is.
    """

    thresholds: npt.NDArray[np.float64]

    @classmethod
    def even(cls, n_classes: int) -> MultilabelRule:
        """What is as probable as not is chosen."""
        return cls(np.full(n_classes, EVEN))

    def choose(self, probabilities: Probabilities) -> Labels:
        """(n, n_classes) of 0 and 1 for probabilities of that shape."""
        return (probabilities >= self.thresholds).astype(np.int64)

    def answers(self, probabilities: Probabilities, label_names: tuple[str, ...]) -> list[dict[str, Any]]:
        """For each text `labels`, those that are chosen."""
        return [{"labels": [label_names[label] for label in row.nonzero()[0]]} for row in self.choose(probabilities)]

    def to_json(self, label_names: tuple[str, ...]) -> dict[str, Any]:
        return {"thresholds": dict(zip(label_names, self.thresholds.tolist(), strict=True))}

    @classmethod
    def from_json(cls, told: dict[str, Any], label_names: tuple[str, ...]) -> MultilabelRule:
        return cls(np.array([told["thresholds"][name] for name in label_names], dtype=np.float64))

    def tell(self, probabilities: Probabilities, labels: Labels, label_names: tuple[str, ...]) -> dict[str, Any]:
        """What the rule comes to on test examples, as JSON can hold it."""
        from sklearn.metrics import f1_score

        from rehead.evaluation.metrics import macro_f1

        chosen = self.choose(probabilities)
        return {
            "accuracy": float(are_right(labels, chosen).mean()),
            "micro_f1": float(f1_score(labels, chosen, average="micro", zero_division=0)),
            "macro_f1": macro_f1(labels, chosen),
        }


def require_possible(wanted: Wanted, label_names: tuple[str, ...]) -> None:
    """Checks what can be checked before anything is trained.

    Raises:
        SettingError: it makes no sense where a text may have several labels.
    """
    for option, given in (
        ("costs", wanted.costs is not None),
        ("abstain_below", wanted.abstain_below > 0),
        ("coverage", wanted.coverage is not None),
    ):
        if given:
            raise SettingError(
                f"`{option}` is for texts with one label each, these may have several; choose thresholds with `f1`, "
                "`precision` or `recall`"
            )
    if wanted.measure is not None and wanted.label not in (*label_names, ALL):
        known = ", ".join(label_names[:8])
        raise SettingError(
            f"`{wanted.measure}`: there is no class {wanted.label!r}; the classes are {known}; {ALL} stands for all"
        )


def rule_for(
    wanted: Wanted, probabilities: Probabilities, labels: Labels, label_names: tuple[str, ...]
) -> MultilabelRule:
    """The rule that reaches what is wanted on validation examples, both (n, n_classes).

    A class without a validation example keeps even odds where all classes are meant.

    Raises:
        SettingError: it cannot be reached, or makes no sense.
    """
    require_possible(wanted, label_names)
    rule = MultilabelRule.even(len(label_names))
    if wanted.measure is None:
        return rule
    if wanted.label in label_names:
        chosen = [label_names.index(wanted.label)]
    else:
        chosen = np.flatnonzero(class_counts(labels, len(label_names))).tolist()
    for label in chosen:
        rule.thresholds[label] = threshold_for(probabilities, labels, label, wanted.measure, wanted.least)
    return rule
