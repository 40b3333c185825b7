"""Classes with hardly an example."""

from pathlib import Path

import pytest

from rehead.data.preparation import DataConfig, prepare
from rehead.runtime.errors import DataError
from tests.tiny_texts import write_csv


def test_class_with_one_example_is_learned_from_where_the_test_is_given(tmp_path: Path) -> None:
    rows = [(f"{word} {i}", word) for word in ("ham", "spam") for i in range(12)]
    train = write_csv(tmp_path / "train.csv", ["text", "label"], [*rows, ("a rare one", "rare")])
    test = write_csv(tmp_path / "test.csv", ["text", "label"], [("ham anew", "ham"), ("rare anew", "rare")])
    parts = prepare(DataConfig(str(train), test=str(test)), seed=0)
    assert (parts.train.labels == parts.train.label_names.index("rare")).sum() == 1
    with pytest.raises(DataError, match="class 'rare' has one example"):
        prepare(DataConfig(str(train)), seed=0)
