"""Splits: parts of the wanted size, that hang on labels and seed and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.data.splits import FRACTIONS, Split, stratified

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
