"""Training a tail on labels, as a strategy does."""

from typing import Any

from rehead.training import loop
from rehead.training.loop import History, Recipe
from rehead.training.tail import Classification, Labelled, Tail


def train(tail: Tail, examples: Labelled, validation: Labelled, recipe: Recipe, *others: Any) -> History:
    """Train a tail in place; `others` are further arguments of `rehead.training.loop.train`."""
    return loop.train(Classification(tail, examples, validation, recipe), recipe, *others)
