"""Whole files: what was written is read back, or refused with its row; a wrong guess was said with its flag."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from rehead.data import tables
from rehead.runtime import progress
from rehead.runtime.errors import DataError

CORPUS = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
    max_examples=120,
    derandomize=True,
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252", "latin-1")
# Nobody's, everybody's, those of a survey, of a program, and of other languages: of the texts, of the labels.
HEADERS = (
    None,
    ("text", "label"),
    ("Review", "Sentiment"),
    ("verbatim", "ticket_kind"),
    ("Q1. How was it?", "Answer"),
    ("x1", "x2"),
    ("Mitteilung", "Kategorie"),
    ("Texte du message", "Étiquette"),
    ("сообщение", "метка"),
    ("文本", "标签"),
)
LABELS = (
    *(("ham", "spam"), ("0", "1"), ("1", "1.0", "2"), ("a", "A"), ("True", "False"), ("+", "-"), ("😀", "😡")),
    *(("very good", "not so good"), ("café", "cafe\u0301"), ("Sport, outdoor", "Home; garden"), ("N/A", "ok")),
    *(("question", "statement"), ("text", "image"), ("2024-01-01", "2024-01-02"), ("1 ", "1")),
)
WORDS = (
    *("the", "coach", "praised", "defence", "soup", "salt", "fell", "für", "été", "don't", "3.5", "100%", "(see)"),
    *("--", "yes,", "no;", "|", '"hi"', '5"', "😀", "日本語", "Привет", "e\u0301", "👩\u200d👧"),
)
BETWEEN = (" ", " ", " ", " ", " ", "\n", "\r\n", "\t", ", ", " ; ")


@dataclass(frozen=True)
class Written:
    """A file, and what it was written from.

    Attributes:
        suffix: of its name.
        content: its bytes.
        header: names of the columns; None where they are not in it.
        rows: cells as they were before.
        keeps_line_ends: whether the cells hold "\\r\\n" as such, and not as a line end.
    """

    suffix: str
    content: bytes
    header: list[str] | None
    rows: list[list[str]]
    keeps_line_ends: bool


@st.composite
def texts(draw: st.DrawFn) -> str:
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8))
    between = draw(st.lists(st.sampled_from(BETWEEN), min_size=len(words), max_size=len(words)))
    return "".join(word + space for word, space in zip(words, between, strict=True)).rstrip() or "x"


@st.composite
def files(draw: st.DrawFn) -> Written:
    encoding = draw(st.sampled_from(ENCODINGS))
    dialect = draw(st.sampled_from([",", ";", "\t", "|", "JSON Lines", "JSON"]))
    names = draw(st.sampled_from(HEADERS if len(dialect) == 1 else HEADERS[1:]))
    labels = draw(st.sampled_from(LABELS))
    rows = draw(st.lists(st.tuples(texts(), st.sampled_from(labels)).map(list), min_size=2, max_size=25))
    header = list(names) if names else None
    if draw(st.booleans()):
        rows = [[str(number), *row] for number, row in enumerate(rows, start=1)]
        header = header and ["id", *header]
    if draw(st.booleans()):
        rows, header = [row[::-1] for row in rows], header and header[::-1]
    line_end = draw(st.sampled_from(["\n", "\r\n"]))
    if len(dialect) == 1:
        buffer = io.StringIO(newline="")
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        csv.writer(buffer, delimiter=dialect, quoting=quoting, lineterminator=line_end).writerows(
            [*([header] if header else []), *rows]
        )
        text, suffix = buffer.getvalue(), ".tsv" if dialect == "\t" else ".csv"
    else:
        assert header is not None
        records = [dict(zip(header, row, strict=True)) for row in rows]
        spelled = draw(st.booleans())
        lines = [json.dumps(record, ensure_ascii=spelled) for record in records]
        text, suffix = line_end.join(lines) + line_end, ".jsonl"
        if dialect == "JSON":
            text, suffix = json.dumps(records, ensure_ascii=spelled, indent=draw(st.sampled_from([None, 2]))), ".json"
    try:
        content = text.encode(encoding)
    except UnicodeEncodeError:
        content = b""
    # Such bytes are UTF-8, too, and nothing in them says that they are not.
    assume(content and (encoding not in ("cp1252", "latin-1") or content.isascii() or not _is_utf8(content)))
    return Written(suffix, content, header, rows, len(dialect) > 1)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def csv_of(*rows: str) -> Written:
    """A file without names, a row a text, for the examples that were read wrongly once."""
    cells = [row.split(",") for row in rows]
    return Written(".csv", "".join(row + "\n" for row in rows).encode(), None, cells, False)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings so far."""
    warnings: list[str] = []
    monkeypatch.setattr(progress, "warn", warnings.append)
    return warnings


def require_read_back(folder: Path, written: Written, said: list[str], read: Callable[[Path], tables.Table]) -> None:
    said.clear()
    path = folder / f"data{written.suffix}"
    path.write_bytes(written.content)
    try:
        table = read(path)
    except DataError as error:
        if re.search(r"row \d+", str(error)):
            return
        raise
    rows = written.rows
    if not written.keeps_line_ends:
        rows = [[cell.replace("\r\n", "\n") for cell in row] for row in rows]
    names = written.header
    is_read_back = table.rows == rows and (table.columns == names if names else not table.header)
    assert is_read_back or any("`text_column`" in line for line in said), table


@CORPUS
@given(files())
@example(csv_of("great film,pos", "bad film,neg", "dull,neg"))
@example(csv_of("question,why", "statement,because"))
def test_labelled_file_is_read_back_or_refused_with_its_row_or_doubted(
    tmp_path: Path, said: list[str], written: Written
) -> None:
    require_read_back(tmp_path, written, said, tables.read)


@CORPUS
@given(files())
def test_file_whose_columns_are_known_is_read_back_without_a_word(
    tmp_path: Path, said: list[str], written: Written
) -> None:
    assume(written.header)
    assert written.header is not None
    names = [name for name in written.header if name != "id"]
    require_read_back(tmp_path, written, said, lambda path: tables.read(path, unlabelled=True, names=names))
    assert not [line for line in said if "Windows-1252" not in line]


@CORPUS
@given(st.lists(texts(), min_size=1, max_size=25), st.sampled_from([",", ";", "\t", "|"]), st.booleans())
@example(["", " ", "a"], ",", True)
@example(["a", "b\tc", "d\ne"], ",", False)
def test_column_of_texts_keeps_each_of_them_in_its_place(
    tmp_path: Path, said: list[str], column: list[str], delimiter: str, all_quoted: bool
) -> None:
    buffer = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    csv.writer(buffer, delimiter=delimiter, quoting=quoting).writerows([["verbatim"], *([text] for text in column)])
    written = Written(".csv", buffer.getvalue().encode(), ["verbatim"], [[text] for text in column], False)
    require_read_back(tmp_path, written, said, lambda path: tables.read(path, unlabelled=True, names=["verbatim"]))
