"""Divides examples into training, validation and test parts, the same way for the same seed."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Index

# Training, validation, test.
FRACTIONS = (0.7, 0.1, 0.2)
Fractions = tuple[float, float, float]


# What people call the parts, apart from what they hang on to the names.
_CALLED = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "validate", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation", "holdout"),
}
_HUNG_ON = re.compile(r"[\s_.-]*(set|data|images?|split|folder)?$")


def part_named(name: str) -> str | None:
    """Return which part a name such as `training_set` stands for: `train`, `validation`, `test`; None for any other."""
    plain = _HUNG_ON.sub("", name.lower())
    return next((part for part, names in _CALLED.items() if plain in names), None)


@dataclass(frozen=True)
class Split:
    """Positions of the examples in each part, rising; together every position once."""

    train: Index
    validation: Index
    test: Index


def stratified(labels: Index, seed: int, fractions: Fractions = FRACTIONS, groups: Index | None = None) -> Split:
    """Divide at random so that each class has about the same share in every part.

    A part that is wanted gets at least one example of a class that has three or more; with two examples,
    one is for training and the other for the last part that is wanted (test before validation). A group counts to
    the class that most of its examples have; one that is too large for a part goes to training.

    Args:
        labels: (n,) class ids.
        seed: the same seed gives the same split, also on another machine.
        fractions: shares of training, validation and test; they add up to 1.
        groups: (n,) what must not be parted; None where each example is on its own.
    """
    generator = np.random.default_rng(seed)
    members, classes = _units(labels, groups)
    sizes = np.array([len(rows) for rows in members], dtype=np.int64)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(classes):
        order = generator.permutation(np.flatnonzero(classes == label))
        n_validation, n_test = _sizes(int(sizes[order].sum()), fractions)
        for_test = _dealt(sizes[order], n_test)
        for_validation = _dealt(np.where(for_test, n_validation + 1, sizes[order]), n_validation)
        for group, is_test, is_validation in zip(order, for_test, for_validation, strict=True):
            parts[2 if is_test else 1 if is_validation else 0].extend(members[group])
    # Sorted, so that a part does not depend on the order in which the classes were dealt out.
    return Split(*(np.sort(np.array(part, dtype=np.int64)) for part in parts))


def by_time(times: npt.NDArray[np.float64], fractions: Fractions = FRACTIONS) -> Split:
    """Divide so that nothing in a part is later than anything in the next: training, validation, test.

    Args:
        times: (n,) numbers that rise with time. Examples of the same time stay together.
        fractions: as for `stratified`.
    """
    order = np.argsort(times, kind="stable")
    in_order = times[order]
    bounds = []
    for share in np.cumsum(fractions)[:2]:
        at = min(round(share * len(times)), len(times))
        # To the left, where the moment at the bound begins: what is dealt out last is tested on.
        bounds.append(int(np.searchsorted(in_order, in_order[at], side="left")) if at < len(times) else len(times))
    train, validation, test = np.split(order, bounds)
    return Split(np.sort(train), np.sort(validation), np.sort(test))


def folds(labels: Index, n_folds: int, seed: int, groups: Index | None = None) -> list[Split]:
    """Divide into `n_folds` parts, stratified, each of which is tested on once; of the rest an eighth is validation.

    Args:
        labels, seed, groups: as for `stratified`.
    """
    generator = np.random.default_rng(seed)
    members, classes = _units(labels, groups)
    fold_of = np.empty(len(labels), dtype=np.int64)
    sizes = np.zeros(n_folds, dtype=np.int64)
    for label in np.unique(classes):
        of_class = np.zeros(n_folds, dtype=np.int64)
        for group in generator.permutation(np.flatnonzero(classes == label)):
            # Where the class is rarest yet, then where the least is yet.
            fold = int(np.lexsort((sizes, of_class))[0])
            fold_of[members[group]] = fold
            of_class[fold] += len(members[group])
            sizes[fold] += len(members[group])
    splits = []
    for fold in range(n_folds):
        rest = np.flatnonzero(fold_of != fold)
        inner = stratified(labels[rest], seed, (0.875, 0.125, 0.0), None if groups is None else groups[rest])
        splits.append(Split(rest[inner.train], rest[inner.validation], np.flatnonzero(fold_of == fold)))
    return splits


def of_each_class(labels: Index, n: int, generator: np.random.Generator) -> Index:
    """Return positions, rising, of n examples of each class, drawn at random; of a class with fewer all it has.

    Args:
        labels: (n_examples,) class ids.
    """
    drawn = [generator.permutation(np.flatnonzero(labels == label))[:n] for label in np.unique(labels)]
    return np.sort(np.concatenate(drawn))


def joined(*groupings: Index) -> Index:
    """Return (n,) groups such that what any of the others, (n,) each, keeps together stays together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(groupings[0])
    offsets = np.cumsum([n, *(int(grouping.max(initial=-1)) + 1 for grouping in groupings)])
    # Examples and groups are the nodes of a graph; an example is linked to each group that it is in.
    left = np.tile(np.arange(n), len(groupings))
    right = np.concatenate([grouping + start for grouping, start in zip(groupings, offsets, strict=False)])
    graph = coo_array((np.ones(len(left)), (left, right)), shape=(offsets[-1], offsets[-1]))
    _, components = connected_components(graph, directed=False)
    result: Index = np.unique(components[:n], return_inverse=True)[1].astype(np.int64)
    return result


def _units(labels: Index, groups: Index | None) -> tuple[list[Index], Index]:
    """Return what is dealt out as one: positions of each group, or example, and the class that most of it has."""
    if groups is None:
        return _members(np.arange(len(labels))), labels
    members = _members(groups)
    return members, np.array([np.bincount(labels[rows]).argmax() for rows in members], dtype=np.int64)


def _members(groups: Index) -> list[Index]:
    """Return the positions of each group, in the order of the groups' numbers."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(groups) else []


def _dealt(sizes: Index, wanted: int) -> npt.NDArray[np.bool_]:
    """Return (n,) bool: which of the groups, in their order, go to a part of that size: those that still fit."""
    taken = np.zeros(len(sizes), dtype=np.bool_)
    for i, size in enumerate(sizes.tolist()):
        if size <= wanted:
            taken[i] = True
            wanted -= size
    return taken


def _sizes(n: int, fractions: Fractions) -> tuple[int, int]:
    sizes = [max(int(n * fraction + 0.5), int(fraction > 0)) for fraction in fractions[1:]]
    while sizes[0] + sizes[1] > n - 1:
        larger = 0 if sizes[0] >= sizes[1] and sizes[0] > 0 else 1
        sizes[larger] -= 1
    return sizes[0], sizes[1]
