"""Labels in both shapes: what is said of them, and how cells are read."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.data import labels as of_labels
from rehead.data.examples import NO_LABEL, Table, from_table, labels_in, require_learnable, separator_of
from rehead.runtime.errors import DataError

ONE = np.array([0, 2, 2, 1, 2])
SEVERAL = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1], [1, 1, 0]])


def table(cells: list[str | None]) -> Table:
    rows: list[list[str | None]] = [[f"text {i}", cell] for i, cell in enumerate(cells)]
    return Table("t.csv", ["text", "label"], rows, list(range(2, len(rows) + 2)))


def test_both_shapes_say_the_same_of_a_class() -> None:
    assert of_labels.class_counts(ONE, 3).tolist() == [1, 1, 3]
    assert of_labels.class_counts(SEVERAL, 3).tolist() == [4, 2, 1]
    for labels in (ONE, SEVERAL):
        indicator = of_labels.as_indicator(labels, 3)
        for label in range(3):
            np.testing.assert_array_equal(of_labels.of_class(labels, label), indicator[:, label] > 0)


def test_equal_labels_have_equal_numbers() -> None:
    first, second, third, fourth, fifth = of_labels.combinations(SEVERAL).tolist()
    assert second == fifth
    assert len({first, second, third, fourth}) == 4


def test_stratum_is_the_rarest_label_and_none_is_one_of_its_own() -> None:
    assert of_labels.strata(SEVERAL).tolist() == [0, 1, 3, 2, 1]


def test_prediction_is_right_only_with_all_labels() -> None:
    predicted = of_labels.most_probable(np.array([[0.5, 0.4], [0.9, 0.8], [0.1, 0.2]]), multilabel=True)
    assert predicted.tolist() == [[1, 0], [1, 1], [0, 0]]
    assert of_labels.are_right(np.array([[1, 0], [1, 0], [0, 0]]), predicted).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a;b", "a", "b"], ";"),
        (["a;b", "b;c", "a;c", None], ";"),
        (['["a", "b"]', "[]", '["b"]'], ";"),
        (["ham", "spam"], None),
        (["Books; Audio", "Cars; Bikes"], None),  # names of one class each, which hold a semicolon
        (["[draft", "[]"], None),
    ],
)
def test_several_labels_are_noticed(cells: list[str | None], separator: str | None) -> None:
    assert separator_of(cells) == separator


def test_table_of_several_labels_is_read() -> None:
    examples, dropped = from_table(
        table(["sea; money", "money", '["food"]', "[]", "", "money;money"]), "text", "label", separator=";"
    )
    assert examples.multilabel
    assert examples.label_names == ("food", "money", "sea")
    assert examples.labels.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert [examples.named(i) for i in range(4)] == ["money;sea", "money", "food", NO_LABEL]
    assert dropped == {"no label": [6]}


def test_label_of_a_test_file_that_was_not_learned_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match="row 3: label 'c' is not among the classes learned"):
        from_table(table(["a;b", "a;c"]), "text", "label", ("a", "b"), separator=";")


def test_column_of_empty_lists_is_refused() -> None:
    with pytest.raises(DataError, match="no row has a label"):
        from_table(table(["[]", "[]"]), "text", "label", separator=";")


def test_label_that_every_text_has_is_nothing_to_learn() -> None:
    examples, _ = from_table(table(["a", "a", "a"]), "text", "label", separator=";")
    with pytest.raises(DataError, match="all 3 usable rows have the label 'a'"):
        require_learnable(examples)


def test_one_class_that_some_texts_lack_can_be_learned() -> None:
    examples, _ = from_table(table(["[]", '["a"]', '["a"]', "[]"]), "text", "label", separator=";")
    require_learnable(examples)


@given(
    st.lists(st.lists(st.text("abcxyz ", min_size=1).filter(str.strip), max_size=4), min_size=1, max_size=8),
    st.booleans(),
)
def test_cells_come_back_however_they_are_written(rows: list[list[str]], as_json: bool) -> None:
    for names in rows:
        cell = json.dumps(names) if as_json else ";".join(names)
        assert labels_in(cell, ";") == [name.strip() for name in names]
