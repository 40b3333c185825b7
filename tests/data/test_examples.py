"""From a table to examples, duplicates, and parts that share nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.data.columns import Table
from rehead.data.duplicates import content_hash, content_hashes, drop_duplicates, seen_before
from rehead.data.examples import MAX_CLASSES, Examples, from_table, in_order, require_learnable
from rehead.data.splits import stratified
from rehead.runtime.errors import DataError


def examples(pairs: list[tuple[str, int]]) -> Examples:
    texts, labels = [text for text, _ in pairs], np.array([label for _, label in pairs], dtype=np.int64)
    return Examples(texts, labels, ("a", "b", "c"), np.arange(1, len(pairs) + 1), "data.csv")


def test_rows_without_text_or_label_are_listed_with_their_lines() -> None:
    rows: list[list[str | None]] = [["x", "a"], [None, "a"], [" ", "b"], ["y", ""], ["z", " b "]]
    made, dropped = from_table(Table("data.csv", ["text", "label"], rows, [2, 3, 4, 5, 6]), "text", "label")
    assert (made.texts, made.label_names, made.lines.tolist()) == (["x", "z"], ("a", "b"), [2, 6])
    assert dropped == {"no text": [3, 4], "no label": [5]}


def test_no_usable_row_is_an_error() -> None:
    with pytest.raises(DataError, match="none of its 1 rows has both"):
        from_table(Table("data.csv", ["text", "label"], [["x", None]], [2]), "text", "label")


def test_label_that_was_not_learned_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"data.csv row 2: label 'c' is not among the classes learned \(a, b\)"):
        from_table(Table("data.csv", ["text", "label"], [["x", "c"]], [2]), "text", "label", ("a", "b"))


def test_classes_are_in_the_order_of_their_numbers_or_letters() -> None:
    assert in_order({"10", "9", "-1"}) == ("-1", "9", "10")
    assert in_order({"b", "10", "a"}) == ("10", "a", "b")


def test_one_class_alone_cannot_be_learned() -> None:
    with pytest.raises(DataError, match="all 2 usable rows have the label 'a'"):
        require_learnable(examples([("x", 0), ("y", 0)]))


def test_class_with_one_example_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"data.csv row 3: class 'b' has one example"):
        require_learnable(examples([("x", 0), ("y", 0), ("z", 1)]))


def test_duplicates_keep_the_first_and_contradictions_are_listed_apart() -> None:
    kept, dropped = drop_duplicates(examples([("Hi you", 0), ("x", 1), ("hi  YOU ", 0), ("HI you", 1)]))
    assert kept.texts == ["Hi you", "x"]
    assert dropped == {"duplicate": [3], "duplicate with another label": [4]}


@given(st.lists(st.text(max_size=8)))
def test_no_two_kept_texts_are_the_same(texts: list[str]) -> None:
    kept, dropped = drop_duplicates(examples([(text, 0) for text in texts]))
    assert len(set(content_hashes(kept.texts).tolist())) == len(kept)
    assert len(kept) + sum(map(len, dropped.values())) == len(texts)


@given(st.text(st.characters(categories=("Lu", "Ll"), max_codepoint=127), min_size=1))
def test_fingerprint_ignores_case_and_white_space(text: str) -> None:
    assert content_hash(f"  {text.upper()}\t\n") == content_hash(text.lower())
    assert content_hash(f"{text} x") != content_hash(text)


def test_texts_that_were_seen_are_found() -> None:
    assert seen_before(["A b", "c"], content_hashes(["a  B", "d"])).tolist() == [True, False]


labels = st.lists(st.integers(0, 4), min_size=2, max_size=120).map(lambda x: np.array(x, dtype=np.int64))
shares = st.sampled_from([(0.7, 0.1, 0.2), (0.875, 0.125, 0.0), (0.8, 0.0, 0.2), (1.0, 0.0, 0.0)])


@given(labels, st.integers(0, 5), shares)
def test_parts_hold_every_example_once(labels: np.ndarray, seed: int, fractions: tuple[float, float, float]) -> None:
    split = stratified(labels, seed, fractions)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together.tolist()) == list(range(len(labels)))


@given(labels, st.integers(0, 5), shares)
def test_class_with_three_examples_is_in_every_wanted_part(
    labels: np.ndarray, seed: int, fractions: tuple[float, float, float]
) -> None:
    split = stratified(labels, seed, fractions)
    for label in np.unique(labels):
        n = int((labels == label).sum())
        counts = [int((labels[part] == label).sum()) for part in (split.train, split.validation, split.test)]
        assert counts[0] >= 1
        if n >= 3:
            assert all(count >= 1 for count, share in zip(counts, fractions, strict=True) if share)
        assert all(count == 0 for count, share in zip(counts, fractions, strict=True) if not share)
        assert all(abs(count - n * share) <= 1.5 for count, share in zip(counts, fractions, strict=True))


def test_same_seed_gives_the_same_split_and_another_another() -> None:
    labels = np.arange(200) % 3
    first, again, other = (stratified(labels, seed) for seed in (1, 1, 2))
    assert first.test.tolist() == again.test.tolist()
    assert first.test.tolist() != other.test.tolist()


optional_cells = st.lists(
    st.tuples(st.sampled_from([None, "", " ", "a", "b "]), st.sampled_from([None, "", "\t", "x"]))
)


@given(optional_cells)
def test_every_row_is_used_or_listed_once(rows: list[tuple[str | None, str | None]]) -> None:
    lines = list(range(2, len(rows) + 3))
    table = Table("data.csv", ["text", "label"], [*map(list, rows), ["last", "x"]], lines)
    made, dropped = from_table(table, "text", "label")
    assert sorted([*made.lines.tolist(), *(line for listed in dropped.values() for line in listed)]) == lines


def test_texts_keep_their_white_space_and_labels_do_not() -> None:
    made, _ = from_table(Table("data.csv", ["text", "label"], [[" x\n", " a\t"]], [1]), "text", "label")
    assert (made.texts, made.label_names) == ([" x\n"], ("a",))


def test_ids_of_a_test_set_are_those_of_the_training_set() -> None:
    made, _ = from_table(Table("data.csv", ["text", "label"], [["x", "a"]], [1]), "text", "label", ("b", "a"))
    assert made.labels.tolist() == [1]
    assert np.bincount(made.labels, minlength=2).tolist() == [0, 1]


def test_column_of_too_many_labels_is_refused() -> None:
    rows: list[list[str | None]] = [["x", f"label {i}"] for i in range(MAX_CLASSES + 1)]
    with pytest.raises(DataError, match=r"data.csv: column 'label' has 1,001 different labels"):
        from_table(Table("data.csv", ["text", "label"], rows, list(range(len(rows)))), "text", "label")


def test_classes_of_one_number_written_two_ways_have_one_order() -> None:
    # A set has another order in every process; twenty ties come out right by luck once in a million runs.
    names = {str(i) for i in range(20)} | {f"0{i}" for i in range(20)}
    assert in_order(names) == tuple(sorted(names, key=lambda name: (int(name), name)))


def test_taken_examples_keep_their_lines_and_order() -> None:
    taken = examples([("x", 0), ("y", 1), ("z", 2)]).take(np.array([2, 0]))
    assert (taken.texts, taken.labels.tolist(), taken.lines.tolist()) == (["z", "x"], [2, 0], [3, 1])


def test_class_that_is_known_but_absent_does_not_stop_learning() -> None:
    require_learnable(examples([("u", 0), ("v", 0), ("x", 1), ("y", 1)]))
