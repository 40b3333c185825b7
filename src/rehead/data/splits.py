"""Divides examples into training, validation and test parts, the same way for the same seed."""

from dataclasses import dataclass

import numpy as np

from rehead.data.examples import Index

# Training, validation, test.
FRACTIONS = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Split:
    """Positions of the examples in each part; together every position once."""

    train: Index
    validation: Index
    test: Index


def stratified(labels: Index, seed: int, fractions: tuple[float, float, float] = FRACTIONS) -> Split:
    """Divides at random so that each class has about the same share in every part.

    A part that is wanted gets at least one example of a class that has three or more; with two examples,
    one is for training and the other for the last part that is wanted (test before validation).

    Args:
        labels: (n,) class ids.
        seed: the same seed gives the same split, also on another machine.
        fractions: shares of training, validation and test; they add up to 1.
    """
    generator = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        n_validation, n_test = _sizes(len(members), fractions)
        parts[2].extend(members[:n_test])
        parts[1].extend(members[n_test : n_test + n_validation])
        parts[0].extend(members[n_test + n_validation :])
    # Sorted, so that a part does not depend on the order in which the classes were dealt out.
    train, validation, test = (np.sort(np.array(part, dtype=np.int64)) for part in parts)
    return Split(train, validation, test)


def _sizes(n: int, fractions: tuple[float, float, float]) -> tuple[int, int]:
    wanted = [fractions[1] > 0, fractions[2] > 0]
    sizes = [max(int(n * fraction + 0.5), int(want)) for fraction, want in zip(fractions[1:], wanted, strict=True)]
    while sizes[0] + sizes[1] > n - 1:
        larger = 0 if sizes[0] >= sizes[1] and sizes[0] > 0 else 1
        sizes[larger] -= 1
    return sizes[0], sizes[1]
