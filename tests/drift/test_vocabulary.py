"""Words are known whatever their case, numbers are no words, and nothing of a text is kept."""

import hashlib

import numpy as np

from rehead.drift import vocabulary
from rehead.drift.vocabulary import Vocabulary

KNOWN = Vocabulary.of(["Free prize: call NOW!", "Straße nach Köln, call 0800 555"])


def test_shares_of_unknown_words() -> None:
    texts = ["free PRIZE", "free lunch", "lunch at noon", "", "555 0800 12 !?", "call 7 cabs"]
    assert KNOWN.unknown_shares(texts).tolist() == [0, 0.5, 1, 0, 0, 0.5]


def test_upper_and_lower_case_are_the_same_in_any_script() -> None:
    assert KNOWN.unknown_shares(["STRASSE NACH KÖLN", "ПРИВЕТ"]).tolist() == [0, 1]


def test_nothing_at_all_is_no_damage() -> None:
    nothing = Vocabulary.of([])
    assert nothing.unknown_shares(["a b", ""]).tolist() == [1, 0]
    assert len(KNOWN.unknown_shares([])) == 0


def test_the_most_frequent_words_are_kept(monkeypatch) -> None:
    monkeypatch.setattr(vocabulary, "MAX_WORDS", 2)
    few = Vocabulary.of(["a a a b b c", "c a b d"])
    assert few.unknown_shares(["a", "b", "c", "d"]).tolist() == [0, 0, 1, 1]


def test_a_long_text_is_read_at_its_beginning() -> None:
    assert KNOWN.unknown_shares(["free " * 40 + "lunch " * 10_000]).tolist() == [0]


def test_a_word_that_is_cut_off_is_none() -> None:
    assert KNOWN.unknown_shares(["free " * 39 + "prizeprize free"]).tolist() == [0]
    assert KNOWN.unknown_shares(["x" * 300]).tolist() == [0]


def test_hashes_are_the_same_everywhere() -> None:
    expected = int.from_bytes(hashlib.blake2b(b"prize", digest_size=8).digest(), "little")
    assert expected in Vocabulary.of(["prize"]).hashes.tolist()
    assert KNOWN.hashes.dtype == np.uint64
    assert (np.diff(KNOWN.hashes.astype(np.float64)) > 0).all()
