"""What is known decides which column is meant; a guess is said with its rivals; what makes no sense is not taken."""

import re
from pathlib import Path

import pytest

from rehead.data import tables
from rehead.data.columns import Table, infer_columns, infer_text_column, text_column_of
from rehead.runtime import progress
from rehead.runtime.errors import DataError

SENTENCES = [
    "the coach praised the defence",
    "the soup had far too much salt",
    "shares fell on the exchange again",
    "the chef sliced the onions",
    "the referee stopped the match",
    "rain is expected in the north",
]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings so far."""
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", warnings.append)
    return warnings


def write(folder: Path, rows: list[list[str]], name: str = "data.csv", delimiter: str = ",") -> Path:
    path = folder / name
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def table(**columns: list[str]) -> Table:
    rows: list[list[str | None]] = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table("data.csv", list(columns), rows, list(range(2, len(rows) + 2)))


def test_name_that_is_looked_for_is_a_header_whatever_else_it_could_be(tmp_path: Path) -> None:
    rows = [["verbatim", "team"], *([text, "verbatim"] for text in SENTENCES)]
    found = tables.read(write(tmp_path, rows), unlabelled=True, names=["Verbatim"])
    assert (found.columns, len(found.rows)) == (["verbatim", "team"], len(SENTENCES))


def test_name_that_is_looked_for_is_the_header_of_a_single_column(tmp_path: Path) -> None:
    path = write(tmp_path, [["verbatim"], *([text] for text in SENTENCES)])
    assert len(tables.read(path, unlabelled=True, names=["verbatim"]).rows) == len(SENTENCES)
    assert len(tables.read(path, unlabelled=True).rows) == len(SENTENCES) + 1


def test_words_above_numbers_are_a_header(tmp_path: Path) -> None:
    rows = [["id", "note"], *([str(i), "sport"] for i in range(5))]
    found = tables.read(write(tmp_path, rows), unlabelled=True)
    assert (found.columns, len(found.rows), found.header) == (["id", "note"], 5, True)


@pytest.mark.parametrize("text", ["text", "verbatim"])
def test_label_column_that_is_called_like_a_label_is_a_header(tmp_path: Path, text: str, said: list[str]) -> None:
    rows = [[text, "toxic"], *([each, ("toxic", "clean")[i % 2]] for i, each in enumerate(SENTENCES))]
    found = tables.read(write(tmp_path, rows))
    assert (found.columns, len(found.rows)) == ([text, "toxic"], len(SENTENCES))
    # A name that everybody gives leaves no doubt; another could be a text of one word.
    assert bool(said) == (text == "verbatim")


def test_first_row_of_a_file_without_names_is_kept(tmp_path: Path) -> None:
    rows = [[text, ("a", "b")[i % 2]] for i, text in enumerate(SENTENCES)]
    found = tables.read(write(tmp_path, rows))
    assert (len(found.rows), found.header) == (len(SENTENCES), False)


def test_absent_trained_column_stops_with_its_cure() -> None:
    with pytest.raises(DataError, match=r"no column 'text', which the classifier was trained on.*`text_column`"):
        text_column_of(table(id=["1", "2"], note=["a b", "c d"]), None, "text")


def test_trained_column_is_found_in_another_case_and_where_there_are_no_names(said: list[str]) -> None:
    assert text_column_of(table(id=["1"], Text=["a b"]), None, "text") == "Text"
    assert text_column_of(table(anything=["a b"]), None, "text") == "anything"
    nameless = Table("data.csv", ["column 1", "column 2"], [["7", "a longer text"]], [1], header=False)
    assert text_column_of(nameless, None, "column 1") == "column 1"
    assert said == []
    assert text_column_of(nameless, None, "text") == "column 2"
    assert "`text_column`" in said[0]


def test_named_column_goes_before_the_trained_one() -> None:
    assert text_column_of(table(text=["a"], title=["b"]), "title", "text") == "title"


def test_constant_column_is_never_the_label(said: list[str]) -> None:
    languages = table(lang=["en"] * 6, comment_text=SENTENCES, topic=["a", "b"] * 3)
    assert infer_columns(languages, None, None) == ("comment_text", "topic")
    with pytest.raises(DataError, match=r"'label' has one value alone, .*two classes; name it with `label_column`"):
        infer_columns(table(label=["x"] * 6, text=SENTENCES), None, None)


def test_constant_column_is_never_the_texts(said: list[str]) -> None:
    notes = table(phrase=SENTENCES, disclaimer=["do not print this " * 9] * 6, topic=["a", "b"] * 3)
    assert infer_columns(notes, None, None) == ("phrase", "topic")
    assert said == []


@pytest.mark.parametrize(
    "code", ["https://example.com/a/very/long/address?of={}", "{}" + 60 * "0", '{{"key {}": "a b c"}}']
)
def test_codes_are_not_the_texts_however_long(said: list[str], code: str) -> None:
    codes = [code.format(i).ljust(80, "x") if code[0] == "h" else code.format(i) for i in range(6)]
    assert infer_columns(table(code=codes, phrase=SENTENCES, topic=["a", "b"] * 3), None, None) == ("phrase", "topic")
    assert said == []


def test_names_beside_the_numbers_of_the_labels_are_said(said: list[str]) -> None:
    numbered = table(text=SENTENCES, label=["0", "1"] * 3, label_text=["bad", "good"] * 3, team=["a", "a", "b"] * 2)
    assert infer_columns(numbered, None, None) == ("text", "label")
    assert "'label_text' may be what holds them as well" in said[0]


def test_column_of_different_values_is_never_the_label(said: list[str]) -> None:
    n = 12
    texts = [f"{SENTENCES[i % 6]} {i}" for i in range(n)]
    different = table(label=[f"x{i}" for i in range(n)], text=texts, team=["a", "b"] * 6)
    assert infer_columns(different, None, None) == ("text", "team")
    with pytest.raises(DataError, match="'label' has another value in every row"):
        infer_columns(table(label=[f"x{i}" for i in range(n)], text=texts), None, None)


def test_rival_of_the_label_is_said_with_the_flag(said: list[str]) -> None:
    rivals = table(text=SENTENCES, priority=["high", "low"] * 3, team=["a", "b", "c"] * 2)
    assert infer_columns(rivals, None, None) == ("text", "priority")
    assert "'team'" in said[0]
    assert "`label_column`" in said[0]
    said.clear()
    assert infer_columns(rivals, None, "team") == ("text", "team")
    assert said == []


@pytest.mark.parametrize(("no", "yes"), ["01", ("0.0", "1.0"), ("False", "True"), ("no", "yes"), "NY"])
def test_one_column_of_0_and_1_for_each_label_is_refused_with_the_flag(no: str, yes: str) -> None:
    columns = {"text": SENTENCES, "a": [no, yes] * 3, "b": [yes, no] * 3, "c": [no, no, yes] * 2}
    with pytest.raises(DataError, match=r"a, b, c hold yes or no each.*`label_column`"):
        infer_columns(table(**columns), None, None)


def test_title_gives_way_to_a_long_text_and_the_rival_is_said(said: list[str]) -> None:
    titles = [f"News number {i}" for i in range(6)]
    both = table(title=titles, story=[f"{text}. {text}." for text in SENTENCES], label=["a", "b"] * 3)
    assert infer_columns(both, None, None) == ("story", "label")
    assert "'title'" in said[0]
    assert "`text_column`" in said[0]


def test_usual_names_leave_no_doubt(said: list[str]) -> None:
    usual = table(id=list("123456"), text=SENTENCES, label=["a", "b"] * 3, source=["web", "mail"] * 3)
    assert infer_columns(usual, None, None) == ("text", "label")
    assert infer_text_column(usual, None, None) == "text"
    assert said == []


def test_semicolons_with_a_comma_in_each_row_are_the_delimiter(tmp_path: Path, said: list[str]) -> None:
    rows = [[f"{text}, they said", ("a", "b")[i % 2]] for i, text in enumerate(SENTENCES)]
    found = tables.read(write(tmp_path, rows, delimiter=";"))
    assert found.rows == rows
    assert "a comma would divide as many of its rows" in said[0]
    found = tables.read(write(tmp_path, [["what, exactly", "kind"], *rows], delimiter=";"), names=["kind"])
    assert found.columns == ["what, exactly", "kind"]


def test_lines_above_a_table_are_named(tmp_path: Path) -> None:
    rows = [["# exported on monday"], ["text", "label"], *([text, "a"] for text in SENTENCES)]
    with pytest.raises(DataError, match="row 1 is one field, and row 2 has more; remove the lines above"):
        tables.read(write(tmp_path, rows))


def test_delimiter_at_the_end_of_every_row_is_named(tmp_path: Path) -> None:
    rows = [["text", "label"], *([text, "a", ""] for text in SENTENCES)]
    with pytest.raises(DataError, match="row 2: every row ends with a delimiter"):
        tables.read(write(tmp_path, rows))


@pytest.mark.parametrize(
    "rows",
    [
        [["great film", "pos"], ["bad film", "neg"], ["dull", "neg"]],
        [["super", "x"], *([text, "ab"[i % 2]] for i, text in enumerate(SENTENCES))],
        [["question", "why"], ["statement", "because"]],
        [["text", "goals"], ["image", "a team"], ["image", "of"], ["image", "players"]],
    ],
)
def test_first_row_that_could_be_an_example_is_said_with_what_makes_it_one(
    tmp_path: Path, said: list[str], rows: list[list[str]]
) -> None:
    path = write(tmp_path, rows)
    assert len(tables.read(path).rows) == len(rows) - 1
    assert re.search("first row .*is taken for the names .*'column 2', with `text_column`", said[0])
    said.clear()
    found = tables.read(path, names=["column 2"])
    assert (found.rows, found.header, said) == (rows, False, [])


@pytest.mark.parametrize("n", [6, 60])
def test_names_are_beyond_doubt_where_many_rows_are_unlike_them(tmp_path: Path, said: list[str], n: int) -> None:
    rows = [[f"{SENTENCES[i % 6]} {i}", ("toxic", "clean")[i % 2]] for i in range(n)]
    assert tables.read(write(tmp_path, [["Nachricht", "Klasse"], *rows])).columns == ["Nachricht", "Klasse"]
    assert bool(said) == (n == 6)
    said.clear()
    assert tables.read(write(tmp_path, [["verbatim", "toxic"], *rows])).columns == ["verbatim", "toxic"]
    assert bool(said) == (n == 6)


@pytest.mark.parametrize("unlabelled", [True, False])
def test_numbers_are_no_names_and_no_value_is_none(tmp_path: Path, said: list[str], unlabelled: bool) -> None:
    rows = [["7", "fine"], ["2", "good"], ["5", "bad"]]
    assert tables.read(write(tmp_path, rows), unlabelled=unlabelled).rows == rows
    rows = [["None", "fine"], ["2", "good"], ["5", "fine"]]
    assert tables.read(write(tmp_path, rows), unlabelled=unlabelled).rows == rows


def test_years_above_numbers_are_said(tmp_path: Path, said: list[str]) -> None:
    rows = [["Thema", "2025"], *(["ab"[i % 2], str(i)] for i in range(30))]
    assert len(tables.read(write(tmp_path, rows), unlabelled=True).rows) == 31
    assert "is taken for an example" in said[0]


def test_row_numbers_that_pandas_writes_have_no_name(tmp_path: Path, said: list[str]) -> None:
    rows = [["", "Urteil", "Art"], *([str(i), text.split()[1], "ab"[i % 2]] for i, text in enumerate(SENTENCES))]
    found = tables.read(write(tmp_path, rows), unlabelled=True)
    assert (found.columns, len(found.rows), said) == (["column 1", "Urteil", "Art"], len(SENTENCES), [])


def test_word_above_sentences_is_said_in_a_table_of_texts_alone(tmp_path: Path, said: list[str]) -> None:
    path = write(tmp_path, [["Nachricht"], *([text] for text in SENTENCES)])
    assert len(tables.read(path, unlabelled=True).rows) == len(SENTENCES) + 1
    assert re.search(r"first row \(Nachricht\) is taken for an example; .*with `text_column`", said[0])


def test_lines_that_no_delimiter_divides_evenly_are_texts(tmp_path: Path, said: list[str]) -> None:
    rows = [["goal, at last, we won"], ["soup"], ["yes, no"]]
    assert tables.read(write(tmp_path, rows), unlabelled=True).rows == rows
    assert "each line is taken for a text" in said[0]


@pytest.mark.parametrize("title", ["# exported, on monday", "Complaints, 2026"])
def test_title_that_could_be_names_is_told_from_them(tmp_path: Path, title: str) -> None:
    rows = [title.split(","), ["text", "label"], *([text, "ab"[i % 2]] for i, text in enumerate(SENTENCES))]
    with pytest.raises(DataError, match="row 2 has the names of the columns; remove the lines above it"):
        tables.read(write(tmp_path, rows))


def test_rule_of_markdown_is_no_row(tmp_path: Path) -> None:
    rows = [["", " text ", " label ", ""], ["", "------", "-------", ""], *(["", text, "a", ""] for text in SENTENCES)]
    with pytest.raises(DataError, match="row 2 is a rule below row 1; remove that row"):
        tables.read(write(tmp_path, rows, delimiter="|"))
