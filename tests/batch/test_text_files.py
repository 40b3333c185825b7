"""Text files are read as a whole file would be, a portion at a time."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehead.batch import sources
from rehead.data import records, tables
from rehead.data.columns import as_text
from rehead.data.records import BadRow
from rehead.runtime.errors import DataError

# As in tests/data/test_tables.py: what CSV can carry.
cells = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t\"',;|"), min_size=1, max_size=30
).filter(lambda text: bool(text.strip()) and "\ufeff" not in text)
tables_of_cells = st.lists(st.tuples(st.sampled_from(["ham", "spam"]), cells), min_size=1, max_size=12)
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def read(path: Path, n_rows: int = 3, text_column: str = "text") -> tuple[list[list[Any]], list[BadRow]]:
    """All rows of a source, and those that cannot be read."""
    rows, bad = [], []
    with sources.opened(str(path), None, path.with_name("out.csv")) as source:
        done = 0
        for portion in source.portions(text_column, n_rows):
            assert len(portion.texts) == len(portion.rows())
            assert 0 < len(portion.texts) + len(portion.bad) <= n_rows
            assert done <= portion.done <= source.total
            done = portion.done
            rows += portion.rows()
            bad += portion.bad
    return rows, bad


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture(params=[None, 400], ids=["whole head", "short head"])
def _head(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of a file is looked at before it is read: the whole of these, or a few rows."""
    if request.param:
        monkeypatch.setattr(records, "HEAD_BYTES", request.param)


@pytest.mark.usefixtures("_head")
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@same_folder
@given(rows=tables_of_cells, line_end=st.sampled_from(["\n", "\r\n"]))
def test_quoted_tables_are_read_as_a_whole_file_is(
    tmp_path: Path, delimiter: str, quoting: int, rows: list[tuple[str, str]], line_end: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerow(["label", "text"])
    writer.writerows(rows)
    path = write(tmp_path, text.getvalue())
    found, bad = read(path)
    assert bad == []
    assert found == [list(row) for row in rows]
    assert found == tables.read(path, unlabelled=True).rows


@pytest.mark.usefixtures("_head")
@same_folder
@given(rows=st.lists(st.text(st.sampled_from("ab \"',;"), min_size=1, max_size=20), min_size=1, max_size=12))
def test_plain_tables_are_read_as_a_whole_file_is(tmp_path: Path, rows: list[str]) -> None:
    # The first message shows that marks are text (see tests/data/test_tables.py).
    rows = ['say "hi" now', *rows]
    content = "label\ttext\n" + "".join(f"ham\tm {row}\n" for row in rows)
    path = write(tmp_path, content, "data.tsv")
    found, bad = read(path)
    assert bad == []
    assert found == [["ham", f"m {row}"] for row in rows] == tables.read(path, unlabelled=True).rows


@pytest.mark.usefixtures("_head")
@same_folder
@given(rows=st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=20), min_size=1, max_size=12))
def test_json_lines_are_read_as_a_whole_file_is(tmp_path: Path, rows: list[str]) -> None:
    path = write(tmp_path, "".join(json.dumps({"n": i, "text": row}) + "\n" for i, row in enumerate(rows)))
    found, bad = read(path)
    assert bad == []
    assert found == [[i, row] for i, row in enumerate(rows)]
    assert [[as_text(cell) for cell in row] for row in found] == tables.read(path).rows


@same_folder
@given(rows=st.lists(st.text(st.sampled_from("ab \"',;\t"), max_size=20), min_size=1, max_size=12))
def test_a_text_a_line_is_read_as_a_whole_file_is(tmp_path: Path, rows: list[str]) -> None:
    path = write(tmp_path, "".join(f"{row}\n" for row in ["first", *rows]), "data.txt")
    table = tables.read(path, unlabelled=True)
    if all(len(row) == 1 for row in table.rows):
        assert read(path) == (table.rows, [])


@pytest.mark.usefixtures("_head")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_encodings_are_those_of_a_whole_file(tmp_path: Path, encoding: str, name: str) -> None:
    """A first word that is not ASCII may come late."""
    texts = ["plain"] * 20 + ["£5 für “dich”", "ok"]
    if name == "data.csv":
        content = "label,text\r\n" + "".join(f"a,{text}\r\n" for text in texts)
    else:
        content = "".join(json.dumps({"label": "a", "text": text}, ensure_ascii=False) + "\n" for text in texts)
    found, bad = read(write(tmp_path, content.encode(encoding), name))
    assert bad == []
    assert [row[1] for row in found] == texts


@pytest.mark.usefixtures("_head")
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_quotation_marks_may_come_late(tmp_path: Path, delimiter: str) -> None:
    text = io.StringIO(newline="")
    rows = [["a", "plain"]] * 20 + [["b", f'a "mark", a{delimiter}delimiter\nand a line end'], ["c", "ok"]]
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([["label", "text"], *rows])
    assert read(write(tmp_path, text.getvalue())) == (rows, [])


@pytest.mark.usefixtures("_head")
def test_keys_of_json_lines_may_come_late(tmp_path: Path) -> None:
    content = '{"text": "a"}\n' * 20 + '{"text": "b", "late": 1}\n'
    found, _ = read(write(tmp_path, content, "data.jsonl"))
    assert found == [["a", None]] * 20 + [["b", 1]]


def test_json_keeps_its_values_where_json_has_them(tmp_path: Path) -> None:
    line = '{"text": "a", "n": 1.5, "all": [1, {"b": null}], "nan": NaN, "endless": 1e999}\n'
    found, _ = read(write(tmp_path, line, "data.jsonl"))
    assert found == [["a", 1.5, [1, {"b": None}], None, "inf"]]


LONG = "x" * (records.MAX_FIELD_CHARACTERS + 1)
CSV_START = b"id,text\n1,one\n2,two\n"
JSON_START = b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n'
# The name, what stands between good rows, how many rows that is and where; the reason, and what is shown of it.
BAD: dict[str, tuple[bytes, bytes, list[tuple[int, str, str]]]] = {
    "too many fields": (CSV_START, b"3,b,c\n", [(4, "3 fields, expected 2 (id, text)", "3,b,c")]),
    "too few fields": (CSV_START, b"three\n", [(4, "1 fields", "three")]),
    "not UTF-8": (CSV_START, "3,für Öl ".encode() + b"dr\xfcben\n", [(4, "byte 0xfc", "3,für Öl dr\\xfcben")]),
    "a field that is too long": (CSV_START, b"3," + LONG.encode() + b"\n", [(4, "a line of 1,000,003", "3,xxx")]),
    "text behind a closing mark": (CSV_START, b'3,"b"c\n', [(4, "expected after", '3,"b"c')]),
    "a mark that is never closed": (CSV_START, b'3,"b\n', [(4, "", '3,"b')]),
    "a long one that is never closed": (
        CSV_START,
        b'3,"b\n' + b"\n" * 100_001,
        [(4, "never closed", '3,"b')],
    ),
    "the rest of a broken row": (
        CSV_START,
        b'3,"say "hi" and\ngo",there\n',
        [(4, "expected after", '3,"say "hi" and'), (5, "may be the rest", 'go",there')],
    ),
    "not JSON": (JSON_START, b'{"id": 3, "text": \n', [(3, "not JSON", '{"id": 3, "text": ')]),
    "no JSON at all": (JSON_START, b"three\n", [(3, "not JSON", "three")]),
    "not a JSON object": (JSON_START, b"[3]\n", [(3, "not a JSON object", "[3]")]),
    "nested too deeply": (JSON_START, b"[" * 100_000 + b"\n", [(3, "not JSON", "[[[")]),
    "half a character": (JSON_START, b'{"id": 3, "text": "\\ud800"}\n', [(3, "surrogate", '{"id": 3')]),
    "JSON that is not UTF-8": (
        JSON_START,
        '{"id": 3, "text": "für Öl '.encode() + b'\xfc"}\n',
        [(3, "byte 0xfc", '{"id": 3, "text": "für Öl \\xfc"}')],
    ),
    "JSON with a field that is too long": (
        JSON_START,
        b'{"id": 3, "text": "' + LONG.encode() + b'"}\n',
        [(3, "column 'text' holds 1,000,001 characters", '{"id": 3')],
    ),
}


@pytest.mark.parametrize(("start", "broken", "expected"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("at_the_end", [False, True])
def test_rows_that_cannot_be_read_are_set_aside(
    tmp_path: Path, start: bytes, broken: bytes, expected: list[tuple[int, str, str]], at_the_end: bool
) -> None:
    good = b'4,"four, quoted"\n' if start == CSV_START else b'{"id": 4, "text": "four"}\n'
    path = write(tmp_path, start + broken + (b"" if at_the_end else good))
    rows, bad = read(path)
    assert [row[1] for row in rows] == ["one", "two", *([] if at_the_end else [rows[-1][1]])]
    assert at_the_end or str(rows[-1][0]) == "4"
    assert [row.number for row in bad] == [number for number, _, _ in expected]
    for row, (_, reason, content) in zip(bad, expected, strict=True):
        told = json.loads(row.to_json())
        assert told["source"] == "data.csv"
        assert reason in told["reason"]
        assert told["content"].startswith(content)
        assert len(told["content"]) <= 2010


def test_a_first_row_that_is_broken_does_not_hide_what_the_file_is(tmp_path: Path) -> None:
    rows, bad = read(write(tmp_path, b"oops\n" + JSON_START, "data.jsonl"))
    assert ([row[1] for row in rows], [row.number for row in bad]) == (["one", "two"], [1])


REFUSED = {
    "empty": ("data.csv", b"", "is empty"),
    "blank": ("data.csv", b" \n\n", "is empty"),
    "binary": ("data.csv", b"a\0b" * 100, "is binary"),
    "header alone": ("data.csv", b"label,text\n", "no rows"),
    "no row that can be read": (
        "data.csv",
        ("label,text\n" + "a,p\u0159\u00edli\u0161 \u017elu\u0165ou\u010dk\u00fd\n" * 3).encode("cp1250"),
        "row 2: byte 0x9d is neither UTF-8 nor Windows-1252, and no row there can be read",
    ),
    "all rows of another width": ("data.csv", b"label,text\na,b,c\nd,e,f\n", "row 2: 3 fields, expected 2"),
    "two columns of a name": ("data.csv", b"text,text\na,b\n", "two columns are named 'text'"),
    "JSON array of arrays": ("data.json", b'[["a", "ham"]]', "row 1: not a JSON object"),
    "no JSON that can be read": ("data.jsonl", b'{"text": \n{"text": \n', "row 1: not JSON"),
    "one line that is too long": ("data.csv", b"x" * 10_000_000, "row 1: a line of 10,000,000 characters"),
}


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_of_which_nothing_can_be_read_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = write(tmp_path, content, name)
    with pytest.raises(DataError) as caught, sources.opened(str(path), None, tmp_path / "out.csv"):
        pass
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_portions_of_long_texts_have_fewer_rows(tmp_path: Path) -> None:
    path = write(tmp_path, "id,text\n" + "".join(f"{i},{'x' * 300_000}\n" for i in range(7)))
    with sources.opened(str(path), None, tmp_path / "out.csv") as source:
        assert [len(portion.texts) for portion in source.portions("text", 2048)] == [3, 3, 1]
