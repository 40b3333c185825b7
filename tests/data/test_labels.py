"""Labels in both shapes: what is said of them, and how cells are read."""

import enum
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.exceptions import DataConversionWarning

from rehead.data import labels as of_labels
from rehead.data.columns import Table
from rehead.data.containers import table_of
from rehead.data.examples import NO_LABEL, from_table, require_learnable
from rehead.data.labels import label_lists, labels_in, separator_of
from rehead.runtime import progress
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


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["['a', 'b']", "['b']", "['a']"], [["a", "b"], ["b"], ["a"]]),
        (["('a', 'b')", "('b',)", "()"], [["a", "b"], ["b"], []]),
        (["['a' 'b']", "['b']"], [["a", "b"], ["b"]]),
        (["[0, 1, 1]", "[1, 0, 0]"], [["1", "2"], ["0"]]),
        (["[0 1 1]", "[1 0 0]"], [["1", "2"], ["0"]]),
        (["[0.0, 1.0]", "[1.0, 0.0]"], [["1"], ["0"]]),
        (["[27]", "[2, 14]"], [["27"], ["2", "14"]]),
    ],
)
def test_lists_of_any_hand_are_several_labels(cells: list[str], expected: list[list[str]]) -> None:
    separator = separator_of(cells)
    assert separator == ";"
    assert label_lists(cells, separator, range(len(cells)), "t.csv") == expected


def test_list_of_one_number_in_every_cell_stays_as_it_looks() -> None:
    assert separator_of(["[1]", "[2]", "[1]"]) is None
    assert label_lists(["[1]", "[2]"], None, [2, 3], "t.csv") == [["[1]"], ["[2]"]]


@pytest.mark.parametrize(
    "cells",
    [
        ['[[0, 3, "ham"]]', '[[0, 3, "spam"]]'],
        ["{ham,spam}", "{ham}"],
        ["[ham, spam]", "[spam]"],
        ["[0, 1]", "[1, 0, 1]"],
        ["<Label object at 0x7fb995e74800>", "ham"],
    ],
    ids=str,
)
def test_cells_that_only_look_like_lists_are_no_labels(cells: list[str]) -> None:
    with pytest.raises(DataError, match=r"t.csv row 2: .* is no label"):
        from_table(table(cells), "text", "label", separator=separator_of(cells))


@pytest.mark.parametrize("cells", [["[ham]", "[spam]"], ["(ham, eggs)", "(spam)"], ["{a}", "b, c"]], ids=str)
def test_brackets_may_be_part_of_names(cells: list[str]) -> None:
    assert from_table(table(cells), "text", "label")[0].label_names == tuple(sorted(cells))


def test_set_without_labels_is_an_empty_list() -> None:
    cells = ["set()", "{'a'}", "{'a', 'b'}"]
    assert label_lists(cells, separator_of(cells), [1, 2, 3], "t.csv") == [[], ["a"], ["a", "b"]]


def test_short_numbers_of_a_data_frame_stay_short() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": np.array([0.1, 0.3], np.float32)})
    assert table_of(frame).column("label") == ["0.1", "0.3"]


def test_zero_byte_in_a_label_is_refused_with_its_row() -> None:
    with pytest.raises(DataError, match=r"t.csv row 3: label 'a.x00' holds bytes that are no text"):
        from_table(table(["a", "a\0"]), "text", "label")


@pytest.mark.parametrize("cell", ['{"a": 1}', "{'a': 1}", "[1.5, 2.5]", '[["a"], ["b"]]', '["a", 1]', "[{}]"])
def test_what_is_no_label_is_refused_with_its_row(cell: str) -> None:
    cells = ['["a"]', cell] if cell[0] == "[" else ["a", cell]
    with pytest.raises(DataError, match=r"t.csv row 3: .* is no label"):
        from_table(table(cells), "text", "label", separator=separator_of(cells))


@pytest.mark.parametrize("cell", ["nan", "NaN", "None", "NA", "<NA>"])
def test_cell_that_stands_for_none_is_left_out_and_said(cell: str) -> None:
    examples, dropped = from_table(table(["a", cell, "b"]), "text", "label")
    assert examples.label_names == ("a", "b")
    assert dropped == {f"label {cell}, which stands for none": [3]}
    # Where it is a class that was learned, it is that class.
    examples, dropped = from_table(table(["a", cell]), "text", "label", ("a", cell))
    assert (len(examples), dropped) == (2, {})


def test_label_of_a_known_class_may_be_written_in_another_way() -> None:
    examples, _ = from_table(table(["1.0", "01", "cafe\u0301", "1"]), "text", "label", ("1", "caf\u00e9", "-1"))
    assert examples.labels.tolist() == [0, 0, 1, 0]
    with pytest.raises(DataError, match="row 2: label '\\+x' is not among"):
        from_table(table(["+x"]), "text", "label", ("x", "-x"))


MISSING = [None, float("nan"), np.nan, pd.NA, pd.NaT, np.datetime64("NaT"), np.float32("nan")]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_missing_label_is_refused_with_its_row(missing: object) -> None:
    for others in (["a", "b"], [1.0, 2.0]):
        with pytest.raises(DataError, match=r"y row 2 has no label.*leave that row out"):
            of_labels.classes_among([others[0], missing, others[1]])
    with pytest.raises(DataError, match="y row 3 has no label"):
        of_labels.classes_among(pd.Series(["a", "b", missing], dtype=object))
    with pytest.raises(DataError, match="y row 2 has no label"):
        of_labels.classes_among([["a"], ["b", missing]])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([b"a", b"b"], "row 1 is b'a'"),
        ([np.bytes_(b"a")], "row 1 is"),
        ([np.datetime64("2024-01-01", "ns"), np.datetime64("2024-01-02", "ns")], "row 1 is .*datetime64"),
        (pd.to_datetime(pd.Series(["2024-01-01"])), "row 1 is Timestamp"),
        ([1, "x"], "row 2 is 'x' .*row 1 is 1"),
        ([True, "x"], "row 2"),
        ([1, True], "row 2"),
        (["a", {"b": 1}], "row 2 is {'b': 1}"),
        (["a", ["b"]], "row 1 is 'a' .*other rows are lists"),
        ([["a"], "b"], "row 2 is 'b' .*other rows are lists"),
        ([["a"], ["b", 1]], "row 2 is 1"),
        ([[["a"]], [["b"]]], "row 1 is"),
        (["a", ""], "row 2 is ''"),
        (["a", "\ud83d"], "row 2"),
        (np.ma.array([1, 2], mask=[False, True]), "row 2 has no label"),
        ("abab", "is one text or label; give a list"),
        (np.array("a"), "is one text or label; give a list"),
        ([2**70, 1], "too large"),
        ([float("inf"), 1.0], "too large"),
        (np.array([[0, 2], [1, 0]]), "other numbers than 0 and 1"),
    ],
)
def test_label_that_could_not_be_saved_is_refused_with_its_row(y: object, message: str) -> None:
    with pytest.raises(DataError, match=f"y .*{message}" if "row" in message else message):
        of_labels.classes_among(y)


@pytest.mark.parametrize(
    "y",
    [
        ["b", "a"],
        np.array(["b", "a"]),
        [True, False],
        [3, -1],
        np.array([3, 1], np.uint8),
        [0.1, 0.30000000000000004],
        np.array([0.1, 0.3], np.float32),
        [1, 0.5],
        pd.Series([2, 1], dtype="Int64"),
        pd.Series(["b", "a"], dtype="category"),
    ],
    ids=repr,
)
def test_labels_come_back_equal_from_their_names(y: object) -> None:
    classes, ids = of_labels.classes_among(y)
    assert classes[ids].tolist() == list(y)  # type: ignore[call-overload]
    saved = tuple(map(str, classes))
    assert len(set(saved)) == len(classes)
    back = of_labels.restored(saved, classes.dtype.kind)
    assert (back.tolist(), back.dtype.kind) == (classes.tolist(), classes.dtype.kind)


@pytest.mark.parametrize("y", [[[0, 1], [1, 1]], [(0.0, 1.0), (1.0, 1.0)], np.array([[0, 1], [1, 1]])], ids=repr)
def test_lists_of_0_and_1_say_which_classes_apply(y: object) -> None:
    classes, labels = of_labels.classes_among(y)
    assert (classes.tolist(), labels.tolist()) == ([0, 1], [[0, 1], [1, 1]])


def test_column_vector_is_one_label_a_text() -> None:
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        assert of_labels.classes_among(np.array([["b"], ["a"]]))[1].tolist() == [1, 0]


class Team(str, enum.Enum):  # noqa: UP042 (the text of a StrEnum is its value)
    """Labels as a program may hold them, whose text is not that of their value."""

    SPORT = "sport"
    FOOD = "food"


def test_members_of_a_text_enum_are_their_values() -> None:
    classes, ids = of_labels.classes_among([Team.SPORT, Team.FOOD, Team.SPORT])
    assert (classes.tolist(), ids.tolist()) == (["food", "sport"], [1, 0, 1])
    frame = pd.DataFrame({"text": ["a", "b"], "label": [Team.SPORT, Team.FOOD]})
    assert table_of(frame).column("label") == ["sport", "food"]


def test_arrays_of_other_libraries_are_read() -> None:
    assert of_labels.classes_among(torch.tensor([3, 1, 3]))[0].tolist() == [1, 3]
    assert of_labels.classes_among(csr_array(SEVERAL))[1].tolist() == SEVERAL.tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ({0: "a", 1: "b"}, "a dictionary is no list of texts or labels; give its values"),
        ([b"a", b"b"], r"y row 1 is b'a' \(bytes\), which cannot be saved .* such as label.decode"),
        ([2**63 + 1, 5], "y holds whole numbers that a float cannot hold; give text"),
    ],
)
def test_what_is_no_label_is_said_with_its_cure(y: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of_labels.classes_among(y)


def test_classes_that_look_alike_are_said_as_they_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "warn", said.append)
    of_labels.warn_of_alike(np.array(["caf\u00e9", "cafe\u0301", "1", "1.0", "tea"]))
    of_labels.warn_of_alike(np.array(["tea", "Tea", "-1", "1"]))
    of_labels.warn_of_alike(np.array([1.0, 2.0]))
    of_labels.warn_of_alike(np.array(["\U0001f468\u200d\U0001f467", "\U0001f468\U0001f467"]))
    assert len(said) == 1
    of_labels.warn_of_alike(np.array(["ok", "ok\u200b"]))
    assert said.pop() == r"y: labels 'ok', 'ok\u200b' are alike, and a class each; give them one spelling"
    for spelled in (r"'caf\xe9'", r"'cafe\u0301'", "'1'", "'1.0'"):
        assert spelled in said[0]


def test_list_of_objects_is_no_label() -> None:
    with pytest.raises(DataError, match=r"t.csv row 2: .* is no label and no list of names"):
        from_table(table(['[{"choice": "a"}]', '[{"choice": "b"}]'] * 3), "text", "label")


def test_one_class_is_refused_with_the_rows_that_were_left_out() -> None:
    examples, dropped = from_table(table(["Some", "None"] * 3), "text", "label")
    with pytest.raises(DataError, match=r"'Some': one class; .*; 3 are left out: label None, which stands for none"):
        require_learnable(examples, dropped=dropped)


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a, b", "a", "b", None], ","),
        (["a|b", "a", "b"], "|"),
        (["a/b", "a", "b"], "/"),
        (["a b", "a", "b"], " "),
        (["very good", "good", "bad"], None),
        (["Sport, outdoor", "Sport", "Cars"], None),
        (["a", "b"], None),
        (["a,", "a"], None),
    ],
)
def test_labels_that_may_be_several_are_said_with_the_flag(
    monkeypatch: pytest.MonkeyPatch, cells: list[str | None], separator: str | None
) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "warn", said.append)
    of_labels.warn_of_separator(cells, "t.csv")
    assert bool(said) == (separator is not None)
    if separator:
        assert f"is taken for one label; if it is several, say so with `label_separator` {separator!r}" in said[0]
