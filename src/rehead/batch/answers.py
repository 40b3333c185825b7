"""What is written beside the original columns of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from rehead.runtime.errors import DataError

if TYPE_CHECKING:
    from rehead.evaluation.decisions import Answer, DecisionRule

# What is written beside a row's own columns, by the names of the columns.
Cells = dict[str, str | float | None]


class Deciding(Protocol):
    """What is known of a saved classifier without its weights; an `Artifact`, or a part of one."""

    @property
    def entries(self) -> dict[str, Any]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def rule(self) -> DecisionRule: ...


class Scored(Protocol):
    """What is written of n texts; see `rehead.artifact.predictor.Scores`."""

    @property
    def probabilities(self) -> npt.NDArray[np.float64]: ...
    @property
    def tokens_cut(self) -> npt.NDArray[np.int64]: ...


class TextScorer(Protocol):
    """What scores texts: a predictor, or whatever asks one."""

    def scores(self, inputs: Sequence[str], /) -> Scored: ...


def answers_of(model: Deciding, scores: Scored) -> list[Answer]:
    """Return for each text or image what the model's rule answers, `probabilities` by label, and `tokens_cut`."""
    return [
        {**answer, "probabilities": dict(zip(model.labels, row.tolist(), strict=True)), "tokens_cut": int(cut)}
        for answer, row, cut in zip(
            model.rule.answers(scores.probabilities, model.labels), scores.probabilities, scores.tokens_cut, strict=True
        )
    ]


def as_columns(answer: Answer) -> Cells:
    """Return an answer as columns of a table, by their names."""
    probabilities = {f"p({name})": p for name, p in answer["probabilities"].items()}
    possible = {"possible": ";".join(answer["possible"])} if "possible" in answer else {}
    return {
        "predicted": ";".join(answer["labels"]) if "labels" in answer else answer["label"],
        **probabilities,
        **possible,
        "tokens_cut": answer["tokens_cut"],
    }


def is_abstention(answer: Answer) -> bool:
    """Return whether no label is probable enough; of several labels, none may be right."""
    return answer.get("label", "") is None


def names_of(model: Deciding) -> list[str]:
    """Return the names of these columns."""
    possible = ["possible"] if getattr(model.rule, "set_above", None) is not None else []
    return ["predicted", *(f"p({label})" for label in model.labels), *possible, "tokens_cut"]


def require_free(columns: list[str], names: list[str], source: str) -> None:
    """Raise DataError where a table has a column of such a name already."""
    if taken := sorted(set(columns) & set(names)):
        raise DataError(f"{source} has a column {taken[0]!r} already, which predictions are written to; rename it")
