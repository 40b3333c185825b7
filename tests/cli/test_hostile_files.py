"""Files that are damaged or hostile: the command line ends in one line, or with a result, and never in a fault."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehead.cli import main

ROWS = [(f"the {word} number {i} is here", label) for i in range(6) for word, label in (("goal", "a"), ("soup", "b"))]
WHOLE = (
    "text,label\n" + "".join(f'"{text}, yes",{label}\n' for text, label in ROWS),
    "".join(f"{label}\t{text}\n" for text, label in ROWS),
    "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS),
    json.dumps([{"text": text, "label": label} for text, label in ROWS], indent=1),
    json.dumps({"data": [{"text": text, "label": label} for text, label in ROWS]}),
    json.dumps({"text": {i: text for i, (text, _) in enumerate(ROWS)}, "label": dict(enumerate("ab" * 6))}),
)
PIECES = (
    *(
        b'"',
        b'""',
        b"\n",
        b"\r",
        b",",
        b"\t",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\",
        b"\0",
        b"\xff",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ),
    *(b"\xe9", b"\xf0\x9f", b"\\ud800", b"null", b"NaN", b"1e999", b"-0", b"[[[[", b"sep=;\n", b"PK\x03\x04", b"PAR1"),
    *(b"\x1f\x8b", b"BZh9", b"ARROW1", b"SQLite format 3", b"<html>", b"\x1b[2J", b"text,text\n", b"label\n", b"=1+1"),
)
NAMES = ("data.csv", "data.tsv", "data.txt", "data.json", "data.jsonl", "data.parquet", "data.xlsx", "data")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = draw(st.sampled_from(WHOLE)).encode()
    for _ in range(draw(st.integers(1, 4))):
        at, piece = draw(st.integers(0, len(content))), draw(st.sampled_from(PIECES) | st.binary(max_size=6))
        content = content[:at] + piece + content[at + draw(st.integers(0, 30)) :]
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged(), st.sampled_from(NAMES), st.sampled_from(("inspect", "fit")))
def test_damaged_file_ends_in_one_line_or_in_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, name: str, command: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    more = ["--model", "tfidf", "--dry-run", "-o", str(tmp_path / "out")] if command == "fit" else []
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main([command, str(path), "--json", *more])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    if stopped.value.code == 0:
        assert len(out.splitlines()) == 1
        json.loads(out)
    else:
        assert (stopped.value.code, out) == (2, ""), err
        assert err.splitlines()[-1].startswith("rehead: ")
        assert sum(line.startswith("rehead: ") for line in err.splitlines()) == 1
