"""Requests and answers: all three forms are read, and what is wrong with a row is said with its number."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehead.instruction.conversations import Conversation, Message, read
from rehead.runtime.errors import DataError

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: bool(text.strip()))


def lines(tmp_path: Path, *records: object) -> Path:
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return file


def test_alpaca_keeps_the_input_apart(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps([{"instruction": "Spell it.", "input": "freind", "output": "friend"}]))
    (one,) = read(file).kept
    assert one == Conversation((Message("user", "Spell it.", "freind"), Message("assistant", "friend")), 1)
    assert one.request[0].whole == "Spell it.\n\nfreind"


def test_chat_ends_with_its_last_answer(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "And?")]
    (one,) = read(lines(tmp_path, {"messages": [{"role": role, "content": text} for role, text in turns]})).kept
    assert [message.role for message in one.messages] == ["system", "user", "assistant"]
    assert one.answer == "Hello"


@pytest.mark.parametrize("as_chat", [False, True])
def test_prompt_and_completion(as_chat: bool, tmp_path: Path) -> None:
    record: dict[str, object] = {"prompt": "2 + 2", "completion": "4"}
    if as_chat:
        record = {
            "prompt": [{"role": "user", "content": "2 + 2"}],
            "completion": [{"role": "assistant", "content": "4"}],
        }
    assert read(lines(tmp_path, record)).kept[0].messages == (Message("user", "2 + 2"), Message("assistant", "4"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    found = read(lines(tmp_path, *({"prompt": prompt, "completion": answer} for prompt, answer in pairs)))
    stripped = dict.fromkeys((prompt, answer.strip()) for prompt, answer in pairs)
    assert [(one.messages[0].content, one.answer) for one in found.kept] == list(stripped)
    assert found.read == len(pairs) == len(found.kept) + found.dropped.get("repeated", 0)


def test_rows_that_teach_nothing_are_counted(tmp_path: Path) -> None:
    good = {"instruction": "a", "output": "b"}
    silent = {"instruction": "a", "output": " "}
    unasked = {"messages": [{"role": "assistant", "content": "b"}]}
    found = read(lines(tmp_path, good, good, silent, unasked))
    assert len(found.kept) == 1
    assert found.dropped == {"repeated": 1, "without an answer": 1, "without a request": 1}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "a"}, r"row 2 has the fields question; it needs instruction and output"),
        (["a"], r"row 2: not a JSON object"),
        ({"instruction": 1, "output": "b"}, r"row 2, field instruction: not a text but int"),
        ({"messages": "a"}, r"row 2, field messages: not an array"),
        ({"messages": [{"role": "tool", "content": "a"}]}, r"row 2, field messages: role 'tool' is none of"),
    ],
)
def test_malformed_rows_are_named(record: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(lines(tmp_path, {"instruction": "a", "output": "b"}, record))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("[1, ", "row 2: not JSON"),
        ("{}\n{", "row 2: not JSON"),
        ('{"prompt": "a", "completion": ""}', "no request"),
    ],
)
def test_files_that_hold_nothing_are_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        read(file)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "nothing.json")
