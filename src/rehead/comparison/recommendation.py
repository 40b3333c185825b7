"""What to use, from the table of approaches: rules that docs/concepts/choosing.md gives in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead.comparison.approaches import CHEAP, IN_WORDS
from rehead.evaluation.comparison import SIGNIFICANT, compare

# An approach in words that has this share of the best accuracy is worth its freedom in labels.
_NEARLY = 0.95


@dataclass(frozen=True)
class Result:
    """An approach on the test examples.

    Attributes:
        right: (n_test,) whether it has each right; meaningless where `tested` is False.
        tested: (n_test,) which examples it was tried on.
        seconds: of learning.
        milliseconds: a text, of answering.
    """

    name: str
    title: str
    right: npt.NDArray[np.bool_]
    tested: npt.NDArray[np.bool_]
    seconds: float
    milliseconds: float

    @property
    def accuracy(self) -> float:
        return float(self.right[self.tested].mean())


def p_value(one: Result, other: Result) -> float:
    """Of McNemar's test on the examples that both were tried on."""
    both = one.tested & other.tested
    return compare(one.right[both], other.right[both], other.title).p_value


def gain(one: Result, other: Result) -> float:
    """By how much accuracy is higher, on the examples that both were tried on."""
    both = one.tested & other.tested
    return float(one.right[both].mean() - other.right[both].mean())


def best_cheap(results: Iterable[Result]) -> Result:
    """The one that the others have to beat."""
    return max((result for result in results if result.name in CHEAP), key=lambda result: result.accuracy)


def recommend(results: Sequence[Result]) -> tuple[str, list[str]]:
    """The name of the approach to use, and why, in sentences; the first is the recommendation."""
    cheap = best_cheap(results)
    others = [result for result in results if result.name not in CHEAP]
    if not others:
        return cheap.name, [f"Use {cheap.title}: nothing else was tried."]
    corrected = corrected_p_values(others, cheap)
    better = [other for other in others if gain(other, cheap) > 0 and corrected[other.name] < SIGNIFICANT]
    if not better:
        best = max(others, key=lambda other: gain(other, cheap))
        points = 100 * gain(best, cheap)
        if points <= 0:
            reason = f"none of the others is better; the best of them, {best.title}, is {-points:.1f} points behind"
        else:
            told = _told(corrected[best.name]) + (f" for {len(others)} approaches" if len(others) > 1 else "")
            reason = f"the gain of {best.title}, {points:.1f} points, is within noise ({told})"
        return cheap.name, [f"Use {cheap.title}: {reason}.", *_freedom(results, cheap)]
    leader = max(better, key=lambda result: result.accuracy)
    as_good = [
        result
        for result in better
        if result is leader
        or not any(gain(other, result) > 0 and p_value(other, result) < SIGNIFICANT for other in better)
    ]
    chosen = min(as_good, key=lambda result: (result.milliseconds, result.seconds))
    sentences = [
        f"Use {chosen.title}: {_percent(chosen)} against {_percent(cheap)} for {cheap.title} "
        f"({_told(corrected[chosen.name])})."
    ]
    if chosen is not leader:
        sentences.append(
            f"{leader.title} has {_percent(leader)}, which may be luck ({_told(p_value(leader, chosen))}), and takes "
            f"{leader.milliseconds / chosen.milliseconds:.1f} times as long a text."
        )
    return chosen.name, [*sentences, *_against_instruction(results, chosen), *_freedom(results, chosen)]


def corrected_p_values(others: Sequence[Result], cheap: Result) -> dict[str, float]:
    """By name, McNemar's p against the cheap one, corrected for trying several (Holm, Scand. J. Statistics 6, 1979)."""
    ordered = sorted((p_value(other, cheap), other.name) for other in others)
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (p, name) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        corrected[name] = largest
    return corrected


def _against_instruction(results: Sequence[Result], chosen: Result) -> list[str]:
    taught = next((result for result in results if result.name == "instruction"), None)
    if taught is None or taught is chosen:
        return []
    points = 100 * gain(chosen, taught)
    side = f"{points:.1f} points more than" if points > 0 else f"{-points:.1f} points less than"
    learning = taught.seconds / chosen.seconds if chosen.seconds else float("inf")
    return [
        f"It has {side} instruction fine-tuning on the same texts ({_told(p_value(chosen, taught))}), which learned "
        f"{learning:.1f} times as long and takes {taught.milliseconds / chosen.milliseconds:.1f} times as long a text."
    ]


def _freedom(results: Sequence[Result], chosen: Result) -> list[str]:
    in_words = [result for result in results if result.name in IN_WORDS]
    if chosen.name in IN_WORDS or not in_words:
        return []
    best = max(in_words, key=lambda result: gain(result, chosen))
    shared = best.tested & chosen.tested
    share = float(best.right[shared].mean()) / max(float(chosen.right[shared].mean()), 1e-9)
    if share >= _NEARLY:
        return [f"If your labels change all the time, use {best.title}: it takes new ones as they come."]
    return [
        f"Even if your labels change, learn again ({chosen.seconds:.0f} s): {best.title} takes new ones as they come, "
        f"but has {100 * float(best.right[shared].mean()):.1f} % only."
    ]


def _percent(result: Result) -> str:
    return f"{100 * result.accuracy:.1f} %"


def _told(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
