"""Readers: what stands in the file is what is read, and what cannot be read is said with its row."""

import csv
import gzip
import io
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rehead.data.columns import infer_columns, infer_text_column
from rehead.data.tables import read
from rehead.runtime.errors import DataError

# Text as CSV can carry it: no control characters but tab and line feed (a reader may take any of the others for a
# line break), no surrogates, something visible.
cells = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t\"',;|"), min_size=1, max_size=40
).filter(lambda text: bool(text.strip()) and "\ufeff" not in text)
labelled = st.lists(st.tuples(st.sampled_from(["ham", "spam"]), cells), min_size=1, max_size=12)
# The folder is the same for every example that Hypothesis draws; the file in it is written anew.
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(folder: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@same_folder
@given(labelled)
def test_rows_written_as_csv_come_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(["label", "text"])
    writer.writerows(rows)
    table = read(write(tmp_path, buffer.getvalue()))
    assert table.columns == ["label", "text"]
    assert [tuple(row) for row in table.rows] == rows


@same_folder
@given(labelled)
def test_rows_written_as_json_lines_come_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"label": label, "text": text}, ensure_ascii=False) for label, text in rows]
    table = read(write(tmp_path, "\n".join(lines)))
    assert [tuple(row) for row in table.rows] == rows
    assert table.lines == list(range(1, len(rows) + 1))


@same_folder
@given(labelled)
def test_rows_written_as_parquet_come_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    labels, texts = zip(*rows, strict=True)
    pq.write_table(pa.table({"label": labels, "text": texts}), tmp_path / "data.parquet")
    assert [tuple(row) for row in read(tmp_path / "data.parquet").rows] == rows


@same_folder
@given(st.lists(st.text(st.sampled_from("ab \"',;"), min_size=1, max_size=20), min_size=2, max_size=12))
def test_no_plain_message_is_lost_whatever_its_quotation_marks(tmp_path: Path, messages: list[str]) -> None:
    content = "".join(f"{'ham' if i % 2 else 'spam'}\tm {message}\n" for i, message in enumerate(messages))
    table = read(write(tmp_path, content + "ham\tlast\nspam\tlast\n"))
    assert len(table.rows) == len(messages) + 2
    assert [row[1] for row in table.rows[:-2]] == [f"m {message}" for message in messages]


def test_full_sms_collection_has_all_of_its_messages(shared: Path) -> None:
    table = read(shared / "sms" / "SMSSpamCollection")
    assert infer_columns(table, None, None) == ("column 2", "column 1")
    labels = table.column("column 1")
    assert (len(table.rows), labels.count("ham"), labels.count("spam")) == (5574, 4827, 747)


@pytest.mark.parametrize(
    ("name", "n", "columns"),
    [
        ("bbc/bbc_news.csv", 2225, ("text", "label")),
        ("germeval2018/train.csv", 5009, ("text", "label")),
        ("reuters10/test.csv", 2545, ("text", "labels")),
    ],
)
def test_real_tables_are_read_whole(shared: Path, name: str, n: int, columns: tuple[str, str]) -> None:
    table = read(shared / name)
    assert len(table.rows) == n
    assert infer_columns(table, None, None) == columns


def test_quotation_marks_in_a_tsv_are_text(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'ham\t"Oh" he said\nspam\tWIN "cash\nham\t"never closed\nspam\tok\n', "sms.tsv"))
    assert [row[1] for row in table.rows] == ['"Oh" he said', 'WIN "cash', '"never closed', "ok"]


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_tsv_that_was_written_with_quoting_is_read_with_it(tmp_path: Path, quoting: int) -> None:
    frame = pd.DataFrame({"label": ["a", "b", "a"], "text": ['say "hi"', "two\nlines", "a\ttab"]})
    frame.to_csv(tmp_path / "data.tsv", sep="\t", index=False, quoting=quoting)
    table = read(tmp_path / "data.tsv")
    assert table.column("text") == frame.text.tolist()
    assert table.lines == [2, 3, 5]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings_and_line_ends_do_not_matter(tmp_path: Path, encoding: str, line_end: str) -> None:
    content = line_end.join(["label,text", "a,£5 für “dich”", "b,ok", ""])
    table = read(write(tmp_path, content.encode(encoding)))
    assert table.rows == [["a", "£5 für “dich”"], ["b", "ok"]]


def test_names_and_first_rows_may_go_over_several_lines(tmp_path: Path) -> None:
    table = read(write(tmp_path, '"How was\nit, there?";Team\n"fine\n\nthanks";a\nbad;b\n'))
    assert (table.columns, table.lines) == (["How was\nit, there?", "Team"], [3, 6])
    assert table.rows == [["fine\n\nthanks", "a"], ["bad", "b"]]


def test_second_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf\xef\xbb\xbftext,label\na,b\nc,d\n"
    assert read(write(tmp_path, content)).columns == ["text", "label"]


def test_spaces_before_a_quotation_mark_in_a_text_are_its_own(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'label;text\na; b\nb;"c; ""hi"" d"\na;" ""x"""\n'))
    assert table.column("text") == [" b", 'c; "hi" d', ' "x"']


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = read(write(tmp_path, 'label,text\na,"one\ntwo"\n\nb,three\n'))
    assert table.lines == [2, 5]


def test_header_is_told_from_a_row(tmp_path: Path) -> None:
    assert read(write(tmp_path, "ham,hello\nspam,win\nham,bye\n")).columns == ["column 1", "column 2"]
    assert read(write(tmp_path, "kind,words\nspam,win\nham,bye\n")).columns == ["kind", "words"]


def test_empty_column_names_of_a_spreadsheet_are_numbered(tmp_path: Path) -> None:
    table = read(write(tmp_path, "v1,v2,,\nham,hello,,\nspam,win,,\n"))
    assert table.columns == ["v1", "v2", "column 3", "column 4"]
    assert infer_columns(table, None, None) == ("v2", "v1")


def test_columns_are_found_by_content_where_their_names_say_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{i},{'x' if i % 2 else 'y'},some words number {i}\n" for i in range(20))
    assert infer_columns(read(write(tmp_path, "id,kind,words\n" + rows)), None, None) == ("words", "kind")


def test_named_columns_are_used(tmp_path: Path) -> None:
    table = read(write(tmp_path, "text,label,title,other\na,b,c,d\ne,f,g,h\n"))
    assert infer_columns(table, "title", "other") == ("title", "other")
    with pytest.raises(DataError, match=r"no column 'nope' \(`label_column`\); its columns are text, label"):
        infer_columns(table, None, "nope")


@pytest.mark.parametrize(("name", "content"), [("a.txt", "one, two\nthree\n"), ("a.csv", "text\none\nthree\n")])
def test_texts_alone_are_a_table_for_prediction(tmp_path: Path, name: str, content: str) -> None:
    table = read(write(tmp_path, content, name), unlabelled=True)
    assert infer_text_column(table, None, None) == "text"
    assert table.rows[-1] == ["three"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", 'text\n"one, two"\nthree\n', ["one, two", "three"]),
        ("a.csv", 'text\n"she said ""no"", twice"\nthree\n', ['she said "no", twice', "three"]),
        ("a.csv", 'text\nhe said "yes" to me\n"one, two"\n', ['he said "yes" to me', '"one, two"']),
        ("a.txt", '"one, two"\nthree\nfour\n', ['"one, two"', "three", "four"]),
    ],
)
def test_quotation_marks_of_a_single_column_are_syntax_in_a_csv_file_alone(
    tmp_path: Path, name: str, content: str, expected: list[str]
) -> None:
    assert read(write(tmp_path, content, name), unlabelled=True).column("text") == expected


BAD = {
    "empty": ("data.csv", b"", "is empty"),
    "blank": ("data.csv", b" \n\n", "is empty"),
    "zero bytes": ("data.csv", b"a\0b" * 100, "is binary"),
    "control characters": ("data.csv", bytes(range(1, 32)) * 50, "neither UTF-8 nor Windows-1252"),
    "one column": ("data.csv", b"text\nhello\nworld\n", "no label column"),
    "header alone": ("data.csv", b"label,text\n", "no rows"),
    "too many fields": ("data.csv", b"label,text\na,b\na,b,c\n", "row 3: 3 fields, expected 2"),
    "a row broken in three": ("data.csv", b"label,text\na,b\na,hello\nthere\nyou\nb,c\n", "row 4: 1 fields"),
    "two columns of a name": ("data.csv", b"text,text\na,b\n", "two columns are named 'text'"),
    "broken JSON": ("data.jsonl", b'{"text": "a"}\n{"text": \n', "row 2: not JSON"),
    "JSON that is no object": ("data.jsonl", b'{"text": "a"}\n[1]\n', "row 2: not a JSON object"),
    "JSON array of arrays": ("data.json", b'[["a", "ham"]]', "row 1: not a JSON object"),
    "broken Parquet": ("data.parquet", b"PAR1 and no more", "not a readable Parquet file"),
    "10 MB line": (
        "data.csv",
        b"label,text\nham," + b"x" * 10_000_000 + b"\n",
        "row 2: a line of 10,000,004 characters",
    ),
    "10 MB in JSON": ("data.jsonl", b'{"text": "' + b"x" * 10_000_000 + b'"}', "row 1: column 'text' holds 10,000,000"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_read_is_said_in_one_line_with_file_and_row(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = write(tmp_path, content, name)
    with pytest.raises(DataError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"binary|neither UTF-8"):
        read(write(tmp_path, os.urandom(50_000)))


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is a pipe or a device, which can be read once; write what it holds into a fi"):
        read(tmp_path / "pipe.csv")


# JSON and Parquet carry every character, control characters included; half a surrogate pair is not a character.
any_texts = st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=12)


@same_folder
@given(any_texts)
def test_json_lines_carry_every_character(tmp_path: Path, texts: list[str]) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    assert read(write(tmp_path, lines)).column("text") == texts


@same_folder
@given(any_texts)
def test_parquet_carries_every_character(tmp_path: Path, texts: list[str]) -> None:
    pq.write_table(pa.table({"text": texts}), tmp_path / "any.parquet")
    assert read(tmp_path / "any.parquet").column("text") == texts


@same_folder
@given(labelled)
def test_json_lines_of_pandas_come_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    pd.DataFrame(rows, columns=["label", "text"]).to_json(tmp_path / "pandas.jsonl", orient="records", lines=True)
    assert [tuple(row) for row in read(tmp_path / "pandas.jsonl").rows] == rows


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@same_folder
@given(labelled)
def test_quoted_tables_of_pandas_come_back(
    tmp_path: Path, quoting: int, separator: str, rows: list[tuple[str, str]]
) -> None:
    frame = pd.DataFrame(rows, columns=["label", "text"])
    frame.to_csv(tmp_path / "pandas.tsv", sep=separator, index=False, quoting=quoting, lineterminator="\n")
    assert [tuple(row) for row in read(tmp_path / "pandas.tsv").rows] == rows


def test_tsv_with_quoted_texts_and_bare_numbers_is_read_back(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": [0, 1] * 5, "text": [f'say "{i}"' for i in range(10)]})
    frame.to_csv(tmp_path / "data.tsv", sep="\t", index=False, quoting=csv.QUOTE_NONNUMERIC)
    table = read(tmp_path / "data.tsv")
    assert table.columns == ["label", "text"]
    assert table.column("text") == frame.text.tolist()


# A message that opens with a quotation mark and a later one that closes with it can also be read as one quoted text
# with a line break. The first message decides it: no writer that quotes leaves a mark inside an unquoted field.
@same_folder
@given(st.lists(st.text(st.sampled_from("ab \"',;"), max_size=12), min_size=1, max_size=12))
@example(['"hello"', '"bye"', '"x', 'y"'])
def test_one_bare_quotation_mark_shows_that_all_are_text(tmp_path: Path, messages: list[str]) -> None:
    messages = ['say "hi" now', *messages, "last", "last"]
    content = "".join(f"{'ham' if i % 2 else 'spam'}\t{message}\n" for i, message in enumerate(messages))
    assert read(write(tmp_path, content, "plain.tsv")).column("column 2") == messages


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@same_folder
@given(rows=st.lists(st.tuples(cells, st.booleans()), min_size=1, max_size=12))
def test_line_numbers_are_those_at_which_the_rows_begin(
    tmp_path: Path, line_end: str, rows: list[tuple[str, bool]]
) -> None:
    content, begins = f"label,text{line_end}", []
    for text, blank_line_before in rows:
        content += line_end * blank_line_before
        begins.append(content.count("\n") + 1)
        escaped = text.replace('"', '""')
        content += f'ham,"{escaped}"{line_end}'
    assert read(write(tmp_path, content)).lines == begins


def test_line_numbers_of_json_lines_count_blank_lines(tmp_path: Path) -> None:
    assert read(write(tmp_path, '{"text": "a"}\r\n\r\n{"text": "b"}\r\n')).lines == [1, 3]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_json_lines_are_read_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    assert read(write(tmp_path, '{"text": "£5"}\n{"text": "für"}\n'.encode(encoding))).rows == [["£5"], ["für"]]


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_delimiter_is_told_from_the_content(tmp_path: Path, delimiter: str) -> None:
    table = read(write(tmp_path, f"label{delimiter}text\na{delimiter}one - two\nb{delimiter}three: four\n"))
    assert table.rows == [["a", "one - two"], ["b", "three: four"]]


def test_commas_in_a_tsv_are_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "ham\ta, b\nspam\tc, d\nham\te, f\n")).column("column 2") == ["a, b", "c, d", "e, f"]


def test_two_known_names_are_a_header_even_where_they_come_up_again(tmp_path: Path) -> None:
    table = read(write(tmp_path, "label,text\na,text\nlabel,b\n"))
    assert (table.columns, len(table.rows)) == (["label", "text"], 2)


@pytest.mark.parametrize(
    "content",
    ["label,text\n,\nham,a\n", 'label,text\n,\nham,"a"\n', "label\ttext\n\t\nham\ta\n"],
    ids=["plain commas", "quoted commas", "tabs"],
)
def test_row_of_empty_cells_is_kept_so_that_it_is_counted(tmp_path: Path, content: str) -> None:
    table = read(write(tmp_path, content))
    assert (table.rows, table.lines) == ([["", ""], ["ham", "a"]], [2, 3])


def test_json_without_a_value_is_none(tmp_path: Path) -> None:
    table = read(write(tmp_path, '{"text": "a", "label": 1}\n{"text": null}\n{"text": "b", "label": NaN}\n'))
    assert table.rows == [["a", "1"], [None, None], ["b", None]]


def test_parquet_cells_are_text_or_none(tmp_path: Path) -> None:
    columns = {"text": ["a", None], "label": pa.array(["x", "y"]).dictionary_encode(), "n": [1, 2], "raw": [b"r", None]}
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    assert read(tmp_path / "data.parquet").rows == [["a", "x", "1", "r"], [None, "y", "2", None]]


def test_text_and_label_cannot_be_one_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be the text and the label"):
        infer_columns(read(write(tmp_path, "text,label\na,b\nc,d\n")), "text", "text")


def test_table_without_a_column_of_repeated_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="looks like labels"):
        infer_columns(read(write(tmp_path, "this,that\na,b\nc,d\n")), None, None)


def test_text_column_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'nope'"):
        infer_text_column(read(write(tmp_path, "text,label\na,b\nc,d\n")), "nope", None)


def test_bytes_are_texts_only_where_they_are_utf8(tmp_path: Path) -> None:
    texts, pictures = ["caf\xe9".encode()] * 3, [b"\x89PNG\r\n\x1a\n"] * 3
    table = read(write(tmp_path, parquet({"text": texts, "picture": pictures}), "data.parquet"))
    assert [row[0] for row in table.rows] == ["caf\xe9"] * 3
    for of_latin in ([*texts, b"caf\xe9"], [b"caf\xe9"] * 4):
        row = 1 + of_latin.index(b"caf\xe9")
        column = pa.array(of_latin)
        for texts_of in (column, column.dictionary_encode()):
            damaged = parquet_of(pa.table({"text": texts_of, "picture": [*pictures, b"\x89\0"]}))
            with pytest.raises(
                DataError, match=f"row {row}: column 'text' is not UTF-8 there; write its texts as UTF-8"
            ):
                read(write(tmp_path, damaged, "data.parquet"))


def parquet(columns: dict[str, object]) -> bytes:
    return parquet_of(pa.table(columns))


def parquet_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # Stored as it is, so that a test can damage a text and not the compression around it.
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    return bytes(sink.getvalue().to_pybytes())


CYRILLIC = "text,label\n" + "это хороший текст,да\nэто плохой текст,нет\n" * 20
DAMAGED = {
    "Cyrillic of Windows": ("data.csv", CYRILLIC.encode("cp1251"), "is not UTF-8, and its letters are none of"),
    "Cyrillic of Unix": ("data.csv", CYRILLIC.encode("koi8-r"), "convert it to UTF-8"),
    "byte of no encoding": (
        "data.csv",
        b"text,label\na\x8fb,x\nb,y\n",
        "row 2: byte 0x8f is neither UTF-8 nor Windows-1252",
    ),
    "marks escaped by backslashes": (
        "data.csv",
        b'text,label\n"say \\"x\\", y",a\nb,c\n',
        "row 2: ',' expected after '\"'; write \"\" for",
    ),
    "objects in one line": ("data.jsonl", b'{"text": "a"}{"text": "b"}\n', "row 1: more than one value in a line"),
    "object and a comma": ("data.jsonl", b'{"text": "a"},\n{"text": "b"}\n', "row 1: more than one value in a line"),
    "byte order mark alone": ("data.csv", b"\xef\xbb\xbf\n", "is empty"),
    "blank UTF-16": ("data.csv", " \n".encode("utf-16"), "is empty"),
    "no-break space alone": ("data.csv", "\u00a0\n".encode(), "is empty"),
    "gzip": ("data.csv.gz", gzip.compress(b"label,text\n" + os.urandom(2000), mtime=0), ""),
    "PNG": ("data.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", "is binary"),
    "cut UTF-16": ("data.csv", "label,text\na,b\n".encode("utf-16")[:-1], "row 2: byte 0x0a is not UTF-16"),
    "too few fields": ("data.csv", b"label,text\na,b\nc\nd,e\n", "row 3: 1 fields, expected 2"),
    "wrong width after a text of two lines": (
        "data.csv",
        b'label,text\na,"one\ntwo"\n\nb,c,d\n',
        "row 5: 3 fields, expected 2",
    ),
    "mark never closed": ("data.csv", b'label,text\nham,ok\nspam,"open\nham,lost\n', "row 3"),
    "mark never closed, no last line end": ("data.csv", b'label,text\nham,ok\nspam,"open\nham,lost', "row 3"),
    "mark closed by that of another row": ("data.csv", b'label,text\na,"open\nb,x\nc,"y"\nd,z\n', "row 2"),
    "text after the closing mark": ("data.csv", b'label,text\nham,ok\nham,"Oh" he said\nspam,x\n', "row 3"),
    "three columns of two names": ("data.csv", b"id,text,id\n1,a,2\n3,b,4\n", "two columns are named 'id'"),
    "JSON array cut short": ("data.json", b'[{"text": "a", "label": "b"}, {"text": "c"', "not JSON"),
    "JSON array with a number": ("data.jsonl", b'[\n{"text": "a", "label": "b"},\n3\n]\n', "row 2: not a JSON object"),
    "JSON arrays": ("data.jsonl", b'["a", "ham"]\n["b", "spam"]\n["c", "ham"]\n', "JSON"),
    "JSON cut short": ("data.jsonl", b'{"text": "a"}\n\n{"text": "b', "row 3: not JSON"),
    "JSON nested too deep": ("data.jsonl", b'{"a":' + b"[" * 100_000 + b"}", "row 1: not JSON"),
    "JSON number of 5,000 digits": ("data.jsonl", b'{"a": 1}\n{"a": ' + b"1" * 5000 + b"}", "row 2"),
    "half a surrogate pair": ("data.jsonl", b'{"text": "a"}\n{"text": "b\\ud83d"}\n', "row 2"),
    "key twice": ("data.jsonl", b'{"text": "a"}\n{"text": "b", "text": "c"}\n', "row 2: the key 'text' comes twice"),
    "key twice in an array": (
        "data.json",
        b'[{"text": "a"},\n {"text": "b", "text": "c"}]',
        "row 2: the key 'text' comes twice, with the last value 'c'",
    ),
    "comma lacking in an array": ("data.json", b'[{"text": "a"} {"text": "c"}]', "row 2: not JSON"),
    "names once more": (
        "data.csv",
        b"text,label\na b,x\n\xef\xbb\xbftext,label\nc d,y\n",
        "row 3: the names of the columns once more",
    ),
    "another delimiter": ("data.csv", b"text^label\na, b^x\nc^y\nd^x\n", "has one column only"),
    "Parquet with a column twice": (
        "data.parquet",
        parquet_of(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])),
        ": two columns are named 'text'; rename one",
    ),
    "Parquet with the year 5,881,580": (
        "data.parquet",
        parquet({"text": ["a"], "day": pa.array([2**31 - 1], pa.date32())}),
        "not a readable Parquet file",
    ),
    "Parquet cut short": ("data.parquet", parquet({"text": ["a"] * 99})[:-20], "not a readable Parquet file"),
    "Parquet with a damaged text": (
        "data.parquet",
        parquet({"text": ["hello"]}).replace(b"hello", b"h\xffllo"),
        "not a readable Parquet file",
    ),
    "Parquet without rows": ("data.parquet", parquet({"text": pa.array([], pa.string())}), "has no rows"),
    "10 MB in Parquet": (
        "data.parquet",
        parquet({"text": ["x" * 10_000_000]}),
        "row 1: column 'text' holds 10,000,000",
    ),
}


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_damaged_is_said_in_one_line_with_file_and_row(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = write(tmp_path, content, name)
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value).replace(str(path), "")
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_utf8_with_a_bad_byte_is_refused_with_its_row(tmp_path: Path) -> None:
    content = "label,text\na,schön für dich\nb,öäü".encode() + b"\xff\n"
    with pytest.raises(DataError, match=r"row 3: byte 0xff is not UTF-8"):
        read(write(tmp_path, content))
