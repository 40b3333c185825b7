"""The rules by which an approach is recommended; docs/concepts/choosing.md states them in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rehead.comparison.approaches import CHEAP, IN_WORDS
from rehead.evaluation.comparison import SIGNIFICANT, compare
from rehead.runtime.results import entry

# An approach in words that has this share of the best accuracy is worth its freedom in labels.
_NEARLY = 0.95


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An approach on the test examples, as far as the rules look at it.

    Attributes:
        right: (n_test,) bool, whether it has each right; meaningless where `tested` is False.
        tested: (n_test,) bool, which examples it was tried on.
        seconds: of learning.
        milliseconds: a text, of answering.
        cached_seconds: about what computing the features would have taken that were in the cache already.
        accuracy: share of right answers on the examples that it was tried on.
        n: examples that it was tried on.
    """

    name: str
    title: str
    right: npt.NDArray[np.bool_] = entry(hidden=True)
    tested: npt.NDArray[np.bool_] = entry(hidden=True)
    seconds: float
    milliseconds: float
    cached_seconds: float = 0.0
    accuracy: float = field(init=False)
    n: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "accuracy", float(self.right[self.tested].mean()))
        object.__setattr__(self, "n", int(self.tested.sum()))

    @property
    def learning_seconds(self) -> float:
        """Return what learning takes where nothing is in the cache."""
        return self.seconds + self.cached_seconds


def recommend(results: Sequence[Outcome]) -> tuple[str, list[str]]:
    """Return the name of the approach to use, and why, in sentences; the first is the recommendation."""
    cheap = best_cheap(results)
    others = [result for result in results if result.name not in CHEAP]
    if not others:
        return cheap.name, [f"Use {cheap.title}: nothing else was tried."]
    corrected = corrected_p_values(others, cheap)
    better = [other for other in others if gain(other, cheap) > 0 and corrected[other.name] < SIGNIFICANT]
    if not better:
        return cheap.name, [_why_cheap(others, cheap, corrected), *_if_labels_change(results, cheap)]
    leader = max(better, key=lambda result: result.accuracy)
    as_good = [
        result
        for result in better
        if result is leader
        or not any(gain(other, result) > 0 and p_value(other, result) < SIGNIFICANT for other in better)
    ]
    chosen = min(as_good, key=lambda result: (result.milliseconds, result.learning_seconds))
    sentences = [
        f"Use {chosen.title}: {_percent(chosen)} against {_percent(cheap)} for {cheap.title} "
        f"({_shown(corrected[chosen.name])})."
    ]
    if chosen is not leader:
        sentences.append(
            f"{leader.title} has {_percent(leader)}, which may be luck ({_shown(p_value(leader, chosen))}), and takes "
            f"{leader.milliseconds / chosen.milliseconds:.1f} times as long a text."
        )
    return chosen.name, [*sentences, *_against_instruction(results, chosen), *_if_labels_change(results, chosen)]


def best_cheap(results: Iterable[Outcome]) -> Outcome:
    """Return the one that the others have to beat."""
    return max((result for result in results if result.name in CHEAP), key=lambda result: result.accuracy)


def corrected_p_values(others: Sequence[Outcome], cheap: Outcome) -> dict[str, float]:
    """Return, by name, McNemar's p against the cheap one, corrected for trying several.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    ordered = sorted((p_value(other, cheap), other.name) for other in others)
    corrected: dict[str, float] = {}
    largest = 0.0
    for rank, (p, name) in enumerate(ordered):
        largest = max(largest, min(1.0, p * (len(ordered) - rank)))
        corrected[name] = largest
    return corrected


def p_value(one: Outcome, other: Outcome) -> float:
    """Return that of McNemar's test on the examples that both were tried on."""
    both = one.tested & other.tested
    return compare(one.right[both], other.right[both], other.title).p_value


def gain(one: Outcome, other: Outcome) -> float:
    """Return by how much accuracy is higher, on the examples that both were tried on."""
    both = one.tested & other.tested
    return float(one.right[both].mean() - other.right[both].mean())


def _why_cheap(others: Sequence[Outcome], cheap: Outcome, corrected: Mapping[str, float]) -> str:
    best = max(others, key=lambda other: gain(other, cheap))
    points = 100 * gain(best, cheap)
    if points <= 0:
        reason = f"none of the others is better; the best of them, {best.title}, is {abs(points):.1f} points behind"
    else:
        p = _shown(corrected[best.name]) + (f" for {len(others)} approaches" if len(others) > 1 else "")
        reason = f"the gain of {best.title}, {points:.1f} points, is within noise ({p})"
    return f"Use {cheap.title}: {reason}."


def _against_instruction(results: Sequence[Outcome], chosen: Outcome) -> list[str]:
    tuned = next((result for result in results if result.name == "instruction"), None)
    if tuned is None or tuned is chosen:
        return []
    points = 100 * gain(chosen, tuned)
    side = f"{points:.1f} points more than" if points > 0 else f"{-points:.1f} points less than"
    learning = tuned.learning_seconds / chosen.learning_seconds if chosen.learning_seconds else float("inf")
    return [
        f"It has {side} instruction fine-tuning on the same texts ({_shown(p_value(chosen, tuned))}), which learned "
        f"{learning:.1f} times as long and takes {tuned.milliseconds / chosen.milliseconds:.1f} times as long a text."
    ]


def _if_labels_change(results: Sequence[Outcome], chosen: Outcome) -> list[str]:
    in_words = [result for result in results if result.name in IN_WORDS]
    if chosen.name in IN_WORDS or not in_words:
        return []
    best = max(in_words, key=lambda result: gain(result, chosen))
    both = best.tested & chosen.tested
    accuracy = float(best.right[both].mean())
    if accuracy / max(float(chosen.right[both].mean()), 1e-9) >= _NEARLY:
        return [f"If your labels change all the time, use {best.title}: it takes new ones as they come."]
    return [
        f"Even if your labels change, learn again ({chosen.learning_seconds:.0f} s): {best.title} takes new ones as "
        f"they come, but has {100 * accuracy:.1f} % only."
    ]


def _percent(result: Outcome) -> str:
    return f"{100 * result.accuracy:.1f} %"


def _shown(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
