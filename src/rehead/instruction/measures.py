"""How good written answers are: equal to the wanted ones, ROUGE, and where the answers are labels, their accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Answers are labels where there are few of them and each is given again and again.
_MOST_LABELS, _LEAST_REPEATS = 100, 10


def measured(written: Sequence[str], wanted: Sequence[str], labels: frozenset[str] | None) -> dict[str, Any]:
    """Shares and means over the answers.

    Args:
        labels: what the answers are taken from, if they are labels; see `label_set`.
    """
    from torchmetrics.functional.text import rouge_score

    if not written:
        return {"n": 0, "exact_match": None, "rouge1": None, "rougeL": None, "outside": None}
    rouge = rouge_score(list(written), list(wanted), rouge_keys=("rouge1", "rougeL"))
    return {
        "n": len(written),
        "exact_match": sum(_same(a, b) for a, b in zip(written, wanted, strict=True)) / len(written),
        "rouge1": float(rouge["rouge1_fmeasure"]),
        "rougeL": float(rouge["rougeL_fmeasure"]),
        "outside": None if labels is None else sum(answer.strip() not in labels for answer in written) / len(written),
    }


def label_set(answers: Sequence[str]) -> frozenset[str] | None:
    """The labels that the answers are, or None where they are free text."""
    distinct = frozenset(answer.strip() for answer in answers)
    few = len(distinct) <= _MOST_LABELS and len(answers) >= _LEAST_REPEATS * len(distinct)
    return distinct if few else None


def _same(one: str, other: str) -> bool:
    return " ".join(one.split()) == " ".join(other.split())
