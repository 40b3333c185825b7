"""How good written answers are: equal to the wanted ones, ROUGE, and where the answers are labels, their accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rehead.runtime.results import entry

# Answers are labels where there are few of them and each comes again and again.
_MOST_LABELS, _LEAST_REPEATS = 100, 10


@dataclass(frozen=True, kw_only=True)
class AnswerMeasures:
    """A language model's loss on test conversations, and how like the wanted answers its own are.

    Attributes:
        loss: mean cross-entropy a learned token.
        perplexity: its exponential.
        n: answers that were written; where there are none, all that follow are None.
        exact_match: share of answers that are the wanted ones, up to white space.
        rouge1, rouge_l: mean F-measures.
        outside: share of answers that are none of the labels; None where the answers are free text.
    """

    loss: float
    perplexity: float
    n: int
    exact_match: float | None = None
    rouge1: float | None = None
    rouge_l: float | None = entry("rougeL", default=None)
    outside: float | None = None


def measure_answers(
    loss: float, written: Sequence[str], wanted: Sequence[str], labels: frozenset[str] | None
) -> AnswerMeasures:
    """Compare written answers with the wanted ones.

    Args:
        labels: the set that the answers are taken from, if they are labels; see `label_set`.
    """
    from torchmetrics.functional.text import rouge_score

    n, perplexity = len(written), math.exp(min(loss, 700.0))
    if not n:
        return AnswerMeasures(loss=loss, perplexity=perplexity, n=0)
    rouge = rouge_score(list(written), list(wanted), rouge_keys=("rouge1", "rougeL"))
    return AnswerMeasures(
        loss=loss,
        perplexity=perplexity,
        n=n,
        exact_match=sum(one.split() == other.split() for one, other in zip(written, wanted, strict=True)) / n,
        rouge1=float(rouge["rouge1_fmeasure"]),
        rouge_l=float(rouge["rougeL_fmeasure"]),
        outside=None if labels is None else sum(answer.strip() not in labels for answer in written) / n,
    )


def label_set(answers: Sequence[str]) -> frozenset[str] | None:
    """Return the labels that the answers are, or None where they are free text."""
    distinct = frozenset(answer.strip() for answer in answers)
    few = len(distinct) <= _MOST_LABELS and len(answers) >= _LEAST_REPEATS * len(distinct)
    return distinct if few else None
