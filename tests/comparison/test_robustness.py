"""Noise is what it says, and other subjects are noticed by who can."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rehead.comparison.robustness import ELSEWHERE, disturbed, losses_of_accuracy, noticed
from rehead.data.examples import Examples

WORDS = st.lists(st.text(st.characters(categories=["Ll"]), min_size=1, max_size=12), min_size=1, max_size=60)


@given(WORDS, st.integers(0, 99))
def test_typos_keep_the_words_and_their_letters(words: list[str], seed: int) -> None:
    (changed,) = disturbed([" ".join(words)], "typos", seed)
    assert [sorted(word) for word in changed.split()] == [sorted(word) for word in words]
    for before, after in zip(words, changed.split(), strict=True):
        assert (before[0], before[-1], len(before)) == (after[0], after[-1], len(after))


@given(WORDS, st.integers(0, 99))
def test_omissions_leave_something(words: list[str], seed: int) -> None:
    (changed,) = disturbed([" ".join(words)], "omissions", seed)
    assert changed
    remaining = iter(words)
    assert all(word in remaining for word in changed.split())  # in their order


def test_noise_befalls_about_a_tenth() -> None:
    words = ["message"] * 5000
    assert 400 < sum(word != "message" for word in disturbed([" ".join(words)], "typos", 0)[0].split()) < 600
    assert 4400 < len(disturbed([" ".join(words)], "omissions", 0)[0].split()) < 4600


def by_case(texts: Sequence[str]) -> np.ndarray:
    """Sure where a text holds small letters and the word spam or ham; a classifier that knows nothing else."""
    sure = {True: (0.05, 0.95), False: (0.95, 0.05)}
    return np.array([sure["spam" in text] if "am" in text else (0.5, 0.5) for text in texts])


def test_what_is_lost_is_the_share_that_is_no_longer_right() -> None:
    texts = ["some spam here", "some ham here"] * 20
    test = Examples(texts, np.array([1, 0] * 20), ("ham", "spam"), np.arange(40), "test")
    lost = losses_of_accuracy(by_case, test, by_case(texts).argmax(1), seed=0)
    assert lost["capitals"] == 0.5  # all are ham then
    assert set(lost) == {"typos", "capitals", "omissions"}


def test_other_subjects_are_noticed_by_low_probabilities() -> None:
    own = Examples(["spam", "ham"] * 20, np.array([1, 0] * 20), ("ham", "spam"), np.arange(40), "validation")
    about_nothing = sum("am" not in text for text in ELSEWHERE) / len(ELSEWHERE)
    assert noticed(by_case, own) == about_nothing > 0.8
