"""Duplicates: which texts are the same, which of them stays, and what is said of the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.data import duplicates
from rehead.data.duplicates import (
    content_hash,
    content_hashes,
    drop_duplicates,
    near_groups,
    near_of,
    seen_before,
    with_near,
)
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
    label_of = dict(zip((content_hash(text) for text in kept.texts), kept.labels.tolist(), strict=True))
    for reason, contradicts in (("duplicate", False), ("duplicate with another label", True)):
        for line in dropped.get(reason, []):
            text, label = pairs[line - 2]
            assert (label_of[content_hash(text)] != label) == contradicts


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
    assert content_hash(text) == content_hash(same)


@pytest.mark.parametrize("other", ["hi you!", "hiyou", "you hi", "hi yóu"])
def test_punctuation_word_breaks_order_and_accents_are_not_ignored(other: str) -> None:
    assert content_hash("hi you") != content_hash(other)


def test_fingerprint_is_the_same_in_every_process() -> None:
    # Saved with a classifier, so another process and another machine must compute it too.
    assert content_hash("Hi you") == 8249766176062995253


@given(st.text())
def test_fingerprint_fits_a_signed_integer(text: str) -> None:
    assert 0 <= content_hash(text) < 2**63
    assert content_hashes([text]).tolist() == [content_hash(text)]


def test_nothing_is_seen_before_where_nothing_is_known() -> None:
    assert seen_before(["a"], content_hashes([])).tolist() == [False]
    assert seen_before([], content_hashes(["a"])).tolist() == []


def test_texts_that_differ_in_white_space_case_and_digits_are_nearly_the_same() -> None:
    texts = ["Call 0800 123 now", "call  0800 999 NOW", "something else entirely"]
    assert near_groups(texts).tolist() == [0, 0, 1]


def test_one_word_in_anothers_place_is_nearly_the_same() -> None:
    text = "We are pleased to inform you that your parcel will arrive at your house on the coming {} before noon"
    other = "We regret that your order could not be sent to you, since it is out of stock until the end of the month"
    assert near_groups([text.format("monday"), text.format("friday"), other]).tolist() == [0, 0, 1]


def test_groups_are_numbered_by_first_appearance() -> None:
    assert near_groups(["a long text", "another one", "A long text", "third of them"]).tolist() == [0, 1, 0, 2]


@given(st.lists(st.text(max_size=40), max_size=30))
def test_same_texts_are_in_the_same_group_and_the_order_of_others_is_no_matter(texts: list[str]) -> None:
    groups = near_groups([*texts, *reversed(texts)])
    assert groups[: len(texts)].tolist() == groups[len(texts) :][::-1].tolist()
    by_form = {" ".join(text.split()).casefold(): group for text, group in zip(texts, groups.tolist(), strict=False)}
    assert all(
        by_form[" ".join(text.split()).casefold()] == group for text, group in zip(texts, groups.tolist(), strict=False)
    )


def test_of_planted_near_duplicates_hardly_one_is_missed() -> None:
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefghij"), 6)) for _ in range(500)]
    originals = [[str(word) for word in generator.choice(words, 30)] for _ in range(300)]
    copies = [[*text[:12], "changed", *text[13:]] for text in originals]
    groups = near_groups([" ".join(text) for text in originals + copies])
    assert (groups[:300] == groups[300:]).mean() > 0.97
    assert len(np.unique(groups[:300])) == 300


def test_parts_share_their_groups() -> None:
    first, second = with_near(examples([("a long text", 0), ("other", 1)]), examples([("A long  text", 0)]))
    assert near_of(second)[0] == near_of(first)[0]
    assert near_of(first)[0] != near_of(first)[1]


def test_of_a_crowd_that_shares_words_each_is_compared_with_each() -> None:
    rest = "at noon is late by some minutes, we are sorry for that and wish you a pleasant journey all the same"
    crowd = [f"the train to {place} {rest}" for place in PLACES]
    groups = near_groups([*crowd, "nothing of that kind"])
    assert groups.tolist() == [0] * len(crowd) + [1]


PLACES = ["Rome", "Bonn", "Oslo", "Graz", "Kiel", "Bern", "Nice", "Lyon", "Pisa", "Riga"]


def test_a_bar_says_how_many_texts_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, int] | int] = []

    @contextmanager
    def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
        steps.append((label, total))
        yield steps.append

    monkeypatch.setattr(duplicates.progress, "bar", bar)
    monkeypatch.setattr(duplicates, "_HASHED", 2)
    near_groups(["one text", "another", "a third one"])
    assert steps == [("looking for near duplicates", 3), 2, 1]
