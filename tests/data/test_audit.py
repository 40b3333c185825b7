"""Duplicates: which texts are the same, which of them stays, and what is said of the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.data.audit import drop_duplicates, fingerprint, fingerprints, seen_before
from rehead.data.examples import Examples

# Few letters, so that Hypothesis draws many duplicates.
rows = st.lists(st.tuples(st.text("aAb ", max_size=3), st.integers(0, 2)), max_size=30)


def examples(pairs: list[tuple[str, int]]) -> Examples:
    labels = np.array([label for _, label in pairs], dtype=np.int64)
    lines = np.arange(2, 2 + len(pairs), dtype=np.int64)
    return Examples([text for text, _ in pairs], labels, ("a", "b", "c"), lines, "data.csv")


@given(rows)
def test_first_of_the_same_texts_stays(pairs: list[tuple[str, int]]) -> None:
    first = {" ".join(text.split()).lower(): line for line, (text, _) in reversed(list(enumerate(pairs, start=2)))}
    kept, _ = drop_duplicates(examples(pairs))
    assert kept.lines.tolist() == sorted(first.values())


@given(rows)
def test_every_line_is_kept_or_listed_once(pairs: list[tuple[str, int]]) -> None:
    kept, dropped = drop_duplicates(examples(pairs))
    listed = [line for lines in dropped.values() for line in lines]
    assert sorted([*kept.lines.tolist(), *listed]) == list(range(2, 2 + len(pairs)))


@given(rows)
def test_contradiction_is_a_label_other_than_the_first(pairs: list[tuple[str, int]]) -> None:
    kept, dropped = drop_duplicates(examples(pairs))
    label_of = dict(zip((fingerprint(text) for text in kept.texts), kept.labels.tolist(), strict=True))
    for reason, contradicts in (("duplicate", False), ("duplicate with another label", True)):
        for line in dropped.get(reason, []):
            text, label = pairs[line - 2]
            assert (label_of[fingerprint(text)] != label) == contradicts


@given(rows)
def test_dropping_twice_drops_nothing_more(pairs: list[tuple[str, int]]) -> None:
    assert drop_duplicates(drop_duplicates(examples(pairs))[0])[1] == {}


def test_kept_examples_keep_their_labels() -> None:
    kept, _ = drop_duplicates(examples([("x", 2), ("X", 2), ("y", 1)]))
    assert (kept.texts, kept.labels.tolist()) == (["x", "y"], [2, 1])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ÉTÉ", "été"),
        ("STRASSE", "straße"),
        ("ΟΔΟΣ", "οδος"),
        ("a\u00a0b", "a b"),
        ("a\u3000b", "a b"),
        ("a\r\nb", "a b"),
        (" \t", ""),
    ],
)
def test_case_and_white_space_of_other_scripts_are_ignored(text: str, same: str) -> None:
    assert fingerprint(text) == fingerprint(same)


@pytest.mark.parametrize("other", ["hi you!", "hiyou", "you hi", "hi yóu"])
def test_punctuation_word_breaks_order_and_accents_are_not_ignored(other: str) -> None:
    assert fingerprint("hi you") != fingerprint(other)


def test_fingerprint_is_the_same_in_every_process() -> None:
    # Saved with a classifier, so another process and another machine must compute it too.
    assert fingerprint("Hi you") == 8249766176062995253


@given(st.text())
def test_fingerprint_fits_a_signed_integer(text: str) -> None:
    assert 0 <= fingerprint(text) < 2**63
    assert fingerprints([text]).tolist() == [fingerprint(text)]


def test_nothing_is_seen_before_where_nothing_is_known() -> None:
    assert seen_before(["a"], fingerprints([])).tolist() == [False]
    assert seen_before([], fingerprints(["a"])).tolist() == []
