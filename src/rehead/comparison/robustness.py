"""Tests of approaches on texts unlike those they learned from: noise, and other subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Examples, Index

Scores = Callable[[Sequence[str]], npt.NDArray[np.float64]]

# Test texts that are disturbed.
ANSWERED = 300
DISTURBANCES = ("typos", "capitals", "omissions")
# Share of the validation texts that are at least as probable as the threshold below which a text is noticed.
_KEPT = 0.95
# Share of words that a typo or an omission befalls.
_SHARE = 0.1

# About nothing that people usually sort texts by.
ELSEWHERE = (
    "Knead the dough for ten minutes and let it rise under a damp cloth.",
    "The glacier has carved this valley over many thousands of years.",
    "Tie the rope in a bowline before you lean back over the edge.",
    "A violin's strings are tuned in fifths, from G up to E.",
    "Water the seedlings sparingly until the second pair of leaves appears.",
    "The lighthouse blinks twice every twelve seconds on clear nights.",
    "Photosynthesis turns light, water and carbon dioxide into sugar.",
    "Sand along the grain, then wipe the wood with a dry rag.",
    "The heron stood motionless in the reeds for most of the morning.",
    "In this dialect the verb comes before its subject.",
    "Two pawns and the better bishop decided the endgame.",
    "The comet will not be seen again from Earth for seventy years.",
    "Fold the paper corner to corner and press the crease with a nail.",
    "Her grandmother's quilt was sewn from sixty old shirts.",
    "A prime number has exactly two divisors.",
    "The caravan crossed the dunes by night to escape the heat.",
    "Boil the eggs for seven minutes and cool them in ice water.",
    "The abbey's library still keeps its chained books.",
    "Turn the valve a quarter to the left until the hissing stops.",
    "Basalt cools into columns with six sides.",
    "The choir sang the last verse without the organ.",
    "Feed the sourdough with equal weights of flour and water.",
    "Swallows return to the same barn year after year.",
    "The knight moves in the shape of an L.",
    "Old maps drew sea monsters where nobody had sailed.",
    "Clean the lens with a soft brush before you use any fluid.",
    "The tide leaves shallow pools between the rocks.",
    "A sonnet has fourteen lines.",
    "The potter centred the clay with wet hands.",
    "Snow muffled every sound in the street.",
)


def losses_of_accuracy(scores: Scores, test: Examples, predicted: Index, seed: int) -> dict[str, float]:
    """Return by how much accuracy, a share, is lower with each kind of noise.

    Args:
        predicted: (n_test,) class ids of the texts as they are.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(test))[:ANSWERED])
    some = test.take(rows)
    honest = (predicted[rows] == some.labels).mean()
    return {
        how: float(honest - (scores(disturbed(some.texts, how, seed)).argmax(1) == some.labels).mean())
        for how in DISTURBANCES
    }


def disturbed(texts: Sequence[str], how: str, seed: int) -> list[str]:
    """Return texts with noise.

    Args:
        how: `typos` swaps two letters in a tenth of the words, `capitals` writes all large, `omissions` leaves a tenth
            of the words out.
    """
    generator = np.random.default_rng(seed)
    if how == "capitals":
        return [text.upper() for text in texts]
    change = _swapped if how == "typos" else _left_out
    return [" ".join(change(text.split(), generator)) for text in texts]


def _swapped(words: list[str], generator: np.random.Generator) -> list[str]:
    result = []
    for word in words:
        if len(word) > 3 and generator.random() < _SHARE:
            at = int(generator.integers(1, len(word) - 2))
            word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        result.append(word)
    return result


def _left_out(words: list[str], generator: np.random.Generator) -> list[str]:
    kept = [word for word in words if generator.random() >= _SHARE]
    return kept or words


def noticed(scores: Scores, validation: Examples) -> float:
    """Return the share of texts on other subjects that are less probable than 95 % of the validation texts."""
    threshold = np.quantile(scores(validation.texts).max(1), 1 - _KEPT)
    return float((scores(ELSEWHERE).max(1) < threshold).mean())
