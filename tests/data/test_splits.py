"""Splits: parts of the wanted size, that hang on labels and seed and on nothing else."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.data.splits import FRACTIONS, Split, by_time, folds, joined, stratified

labels = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(lambda x: np.array(x, dtype=np.int64))


def parts(split: Split) -> list[list[int]]:
    return [split.train.tolist(), split.validation.tolist(), split.test.tolist()]


@given(labels, st.integers(0, 2**32))
def test_parts_share_nothing_and_are_in_order(labels: np.ndarray, seed: int) -> None:
    train, validation, test = parts(stratified(labels, seed))
    assert not set(train) & set(validation)
    assert not set(train) & set(test)
    assert not set(validation) & set(test)
    assert [train, validation, test] == [sorted(train), sorted(validation), sorted(test)]


@pytest.mark.parametrize(
    ("fractions", "sizes"),
    [
        ((0.7, 0.1, 0.2), (1, 0, 1)),
        ((0.8, 0.0, 0.2), (1, 0, 1)),
        ((0.8, 0.2, 0.0), (1, 1, 0)),
        ((1.0, 0.0, 0.0), (2, 0, 0)),
    ],
)
def test_class_of_two_is_for_training_and_the_last_wanted_part(
    fractions: tuple[float, float, float], sizes: tuple[int, int, int]
) -> None:
    split = stratified(np.zeros(2, dtype=np.int64), 0, fractions)
    assert tuple(map(len, parts(split))) == sizes


def test_class_of_one_is_for_training() -> None:
    assert parts(stratified(np.zeros(1, dtype=np.int64), 0)) == [[0], [], []]


@given(st.integers(0, 2**32))
def test_large_class_is_divided_to_the_example(seed: int) -> None:
    sizes = [len(part) for part in parts(stratified(np.zeros(1000, dtype=np.int64), seed))]
    assert sizes == [700, 100, 200]
    assert sum(FRACTIONS) == pytest.approx(1)


def test_rare_class_has_its_share_in_every_part() -> None:
    labels = np.array([0] * 900 + [1] * 100, dtype=np.int64)
    split = stratified(labels, 0)
    assert [int(labels[part].sum()) for part in (split.train, split.validation, split.test)] == [70, 10, 20]


def test_split_is_the_same_on_every_machine() -> None:
    assert parts(stratified(np.arange(12) % 2, 7)) == [[0, 2, 3, 5, 6, 7, 8, 9], [1, 4], [10, 11]]


def test_split_neither_uses_nor_moves_the_global_generator() -> None:
    labels = np.arange(60) % 3
    np.random.seed(1)
    first, drawn = parts(stratified(labels, 0)), np.random.random()
    np.random.seed(2)
    assert parts(stratified(labels, 0)) == first
    np.random.seed(1)
    assert np.random.random() == drawn


@given(labels, st.permutations(range(5)))
def test_names_of_the_classes_do_not_change_the_sizes(labels: np.ndarray, names: list[int]) -> None:
    renamed = np.array(names, dtype=np.int64)[labels]
    assert [len(part) for part in parts(stratified(labels, 0))] == [len(part) for part in parts(stratified(renamed, 0))]


def test_every_seed_deals_anew() -> None:
    labels = np.arange(200) % 3
    assert len({tuple(stratified(labels, seed).test.tolist()) for seed in range(20)}) == 20


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of n examples."""
    n = draw(st.integers(1, 80))
    drawn = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=n, max_size=n))
    return np.array([label for label, _ in drawn]), np.array([group for _, group in drawn])


@given(grouped(), st.integers(0, 2**32))
def test_groups_are_never_parted(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    labels, groups = case
    split = stratified(labels, seed, groups=groups)
    everything = np.concatenate([split.train, split.validation, split.test])
    assert sorted(everything.tolist()) == list(range(len(labels)))
    members = [set(groups[part].tolist()) for part in (split.train, split.validation, split.test)]
    assert not members[0] & members[1]
    assert not members[0] & members[2]
    assert not members[1] & members[2]


def test_small_groups_leave_the_sizes_as_they_are() -> None:
    labels = np.repeat([0, 1], 500)
    split = stratified(labels, 0, groups=np.arange(1000) // 5)
    assert [len(part) for part in parts(split)] == [700, 100, 200]


def test_group_too_large_for_a_part_is_for_training() -> None:
    groups = np.array([0] * 60 + list(range(1, 41)))
    split = stratified(np.zeros(100, dtype=np.int64), 0, groups=groups)
    assert set(range(60)) <= set(split.train.tolist())
    assert (len(split.validation), len(split.test)) == (10, 20)


def test_groups_of_one_are_no_groups() -> None:
    labels = np.arange(50) % 3
    assert parts(stratified(labels, 3, groups=np.arange(50))) == parts(stratified(labels, 3))


times = st.lists(st.integers(0, 40), min_size=1, max_size=60).map(lambda x: np.array(x, dtype=np.float64))


@given(times)
def test_by_time_nothing_is_later_than_anything_in_the_next_part(times: np.ndarray) -> None:
    split = by_time(times)
    assert sorted([*split.train, *split.validation, *split.test]) == list(range(len(times)))
    before = [times[part] for part in (split.train, split.validation, split.test) if len(part)]
    assert all(earlier.max() < later.min() for earlier, later in pairwise(before))


def test_by_time_the_newest_fifth_is_tested_on() -> None:
    times = np.random.default_rng(0).permutation(100).astype(np.float64)
    split = by_time(times)
    assert sorted(times[split.test]) == list(range(80, 100))
    assert sorted(times[split.validation]) == list(range(70, 80))


@given(grouped(), st.integers(2, 6))
def test_each_example_is_tested_on_in_one_fold(case: tuple[np.ndarray, np.ndarray], n_folds: int) -> None:
    labels, groups = case
    splits = folds(labels, n_folds, 0, groups)
    assert sorted(np.concatenate([split.test for split in splits]).tolist()) == list(range(len(labels)))
    for split in splits:
        assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(len(labels)))
        assert not set(groups[split.test]) & set(groups[np.concatenate([split.train, split.validation])])


def test_folds_are_stratified() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    assert [int(labels[split.test].sum()) for split in folds(labels, 5, 0)] == [2] * 5
    assert [len(split.test) for split in folds(labels, 5, 0)] == [20] * 5


def test_joined_groups_keep_together_what_either_keeps_together() -> None:
    first, second = np.array([0, 0, 1, 2, 3]), np.array([5, 1, 1, 2, 3])
    groups = joined(first, second)
    assert len(set(groups[:3].tolist())) == 1
    assert len(set(groups.tolist())) == 3
