"""Requests and answers from a file: Alpaca, chat, or prompt and completion; a JSON array, or JSON Lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rehead.data.records import DECODER, decode, problem_of_json, row_of_problem
from rehead.runtime.errors import DataError

USER, ASSISTANT = "user", "assistant"
_ROLES = ("system", USER, ASSISTANT)
_FORMS = "instruction and output (Alpaca), messages (chat), or prompt and completion"


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: what is said.
        input: what a request is about, where the data keep it apart from the request (Alpaca); else empty.
    """

    role: str
    content: str
    input: str = ""

    @property
    def whole(self) -> str:
        """Return the content, with what it is about."""
        return f"{self.content}\n\n{self.input}" if self.input else self.content


@dataclass(frozen=True)
class Conversation:
    """Turns that end with an answer.

    Attributes:
        line: where in the file: the line of JSON Lines, the place in an array, both from 1.
    """

    messages: tuple[Message, ...]
    line: int

    @property
    def request(self) -> tuple[Message, ...]:
        """Return the turns before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        """Return the last answer."""
        return self.messages[-1].content


@dataclass(frozen=True)
class Conversations:
    """The conversations of a file.

    Attributes:
        kept: those that can be learned from.
        read: number of rows.
        dropped: how many rows were left out, by the reason.
    """

    kept: list[Conversation]
    read: int
    dropped: dict[str, int]


def read(path: Path) -> Conversations:
    """Read a file; rows without an answer and repeated ones are left out and counted.

    White space around an answer goes, as chat templates take it away, too.

    Raises:
        DataError: the file cannot be read, a row is malformed, or nothing is left.
    """
    records = _records(path)
    kept: list[Conversation] = []
    dropped: Counter[str] = Counter()
    known: set[tuple[Message, ...]] = set()
    for line, record in records:
        messages = _messages(record, f"{path} row {line}")
        while messages and messages[-1].role != ASSISTANT:
            messages = messages[:-1]  # nothing answers them
        if not messages or not messages[-1].content:
            dropped["without an answer"] += 1
        elif messages[0].role == ASSISTANT:
            dropped["without a request"] += 1
        elif messages in known:
            dropped["repeated"] += 1
        else:
            known.add(messages)
            kept.append(Conversation(messages, line))
    if not kept:
        raise DataError(f"{path} has no request with an answer ({_FORMS}); check its fields")
    return Conversations(kept, len(records), dict(dropped))


def _records(path: Path) -> list[tuple[int, Any]]:
    """Return numbered JSON values."""
    try:
        text = decode(path.read_bytes(), path)
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give a .json or .jsonl file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from error
    if text.lstrip().startswith("["):
        try:
            return list(enumerate(DECODER.decode(text), start=1))
        except (ValueError, RecursionError) as error:
            row = row_of_problem(text.lstrip())
            raise DataError(f"{path} row {row}: {problem_of_json(error)}; correct it there") from None
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append((number, DECODER.decode(line)))
            except (ValueError, RecursionError) as error:
                problem = problem_of_json(error)
                raise DataError(f"{path} row {number}: {problem}; correct or remove it") from None
    if not found:
        raise DataError(f"{path} is empty; give one JSON object a line, or an array of them")
    return found


def _messages(record: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: not a JSON object; it needs {_FORMS}")
    if "messages" in record:
        return _chat(record["messages"], f"{where}, field messages")
    if "instruction" in record and "output" in record:
        text = {name: _text(record.get(name), f"{where}, field {name}") for name in ("instruction", "input", "output")}
        return Message(USER, text["instruction"], text["input"]), Message(ASSISTANT, text["output"].strip())
    if "prompt" in record and "completion" in record:
        if isinstance(record["prompt"], list):
            return _chat([*record["prompt"], *record["completion"]], f"{where}, fields prompt and completion")
        text = {name: _text(record[name], f"{where}, field {name}") for name in ("prompt", "completion")}
        return Message(USER, text["prompt"]), Message(ASSISTANT, text["completion"].strip())
    raise DataError(f"{where} has the fields {', '.join(map(str, record)) or '(none)'}; it needs {_FORMS}")


def _chat(turns: Any, where: str) -> tuple[Message, ...]:
    if not isinstance(turns, list):
        raise DataError(f"{where}: not an array; give one of objects with role and content")
    messages = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, Mapping) else None
        if role not in _ROLES:
            raise DataError(f"{where}: role {role!r} is none of {', '.join(_ROLES)}; correct it")
        content = _text(turn.get("content"), where)
        messages.append(Message(role, content.strip() if role == ASSISTANT else content))
    return tuple(messages)


def _text(value: Any, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: not a text but {type(value).__name__}; write it as a JSON string")
    return value
