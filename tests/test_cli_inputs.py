"""What the command line is to classify: bytes that are no text are named, and every terminal can show the answer."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rehead.batch import sources
from rehead.cli.inputs import read_input
from rehead.runtime.errors import DataError


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes, encoding: str = "utf-8") -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding=encoding))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that was trained on the column `verbatim`."""
    (tmp_path / "model").mkdir()
    described = {"text_column": "verbatim", "label_column": "team"}
    (tmp_path / "model" / "rehead.json").write_text(json.dumps(described))
    return tmp_path / "model"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_lines_of_stdin_are_utf8_whatever_the_terminal_has(
    monkeypatch: pytest.MonkeyPatch, model: Path, encoding: str
) -> None:
    stdin(monkeypatch, "für\r\n\n🍕\n".encode(), encoding)
    assert read_input("-", None, model)[1] == ["für", "", "🍕"]
    stdin(monkeypatch, b"", encoding)
    assert read_input("-", None, model)[1] == []


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_line_of_stdin_that_is_not_utf8_is_named(monkeypatch: pytest.MonkeyPatch, model: Path, encoding: str) -> None:
    stdin(monkeypatch, b"good\n\xff bad\n", encoding)
    with pytest.raises(DataError, match="stdin line 2: byte 0xff is not UTF-8; convert it"):
        read_input("-", None, model)


def test_zero_bytes_of_stdin_are_no_text(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    stdin(monkeypatch, "free prize\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="stdin line 1: a zero byte, which no text holds; remove it, or convert UTF-16"):
        read_input("-", None, model)


def test_argument_that_is_not_utf8_is_named(model: Path) -> None:
    with pytest.raises(DataError, match="the text: byte 0xff is not UTF-8; convert it"):
        read_input(b"bad \xff arg".decode("utf-8", "surrogateescape"), None, model)
    with pytest.raises(DataError, match="the text: it holds half a surrogate pair"):
        read_input("bad \ud83d arg", None, model)


@pytest.mark.parametrize("asked", [None, "verbatim"])
@pytest.mark.parametrize("header", ["ticket_no,verbatim", "verbatim,other", "verbatim"])
def test_trained_column_is_the_one_that_is_read(tmp_path: Path, model: Path, header: str, asked: str | None) -> None:
    columns = header.split(",")
    cells = {"ticket_no": "7", "verbatim": "as expected", "other": "a much longer text than the right one"}
    row = ",".join(cells[name] for name in columns) + "\n"
    path = tmp_path / "new.csv"
    path.write_text(header + "\n" + 3 * row)
    rows, texts, column = read_input(str(path), asked, model)
    assert (texts, column, list(rows[0])) == (["as expected"] * 3, "verbatim", columns)


def test_absent_trained_column_stops(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("id,note\n0,sport\n1,food\n2,food\n")
    with pytest.raises(DataError, match="no column 'verbatim', which the classifier was trained on"):
        read_input(str(path), None, model)
    path.write_text("team,id\nsport,0\nfood,1\n")
    with pytest.raises(DataError, match="no column 'verbatim', which the classifier was trained on"):
        read_input(str(path), None, model)
    assert read_input(str(path), "team", model)[1] == ["sport", "food"]


def test_terminal_of_another_encoding_shows_what_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from rehead.cli.command_line import main

    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252"))
    data = tmp_path / "data.csv"
    rows = [f"text number {i} of these,{'🍕🍣'[i % 2]}\n" for i in range(8)]
    data.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["inspect", str(data)])
    sys.stdout.flush()
    assert ended.value.code == 0
    assert b"\\U0001f355" in shown.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_whatever_stdout_has(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    from rehead.cli.terminal import print_json

    shown = io.BytesIO()
    stream = io.TextIOWrapper(shown, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    print_json({"für": "🍕"})
    stream.flush()
    assert json.loads(shown.getvalue().decode("utf-8")) == {"für": "🍕"}


def test_pattern_that_no_file_fits_is_no_text(tmp_path: Path) -> None:
    assert sources.is_table(str(tmp_path / "part-*"))
    with pytest.raises(DataError, match="no file has such a name; check the pattern"):
        sources.files_of(str(tmp_path / "part-*"), tmp_path / "out.csv")
    for text in ("is it?", "what *is* it / who", "really?"):
        assert not sources.is_table(text)


def test_file_is_no_text_to_explain(tmp_path: Path, in_process: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    code, out, err = in_process("explain", tmp_path / "model", tmp_path / "data.csv")
    assert (code, out) == (2, "")
    assert "a file, and one text is explained" in err
