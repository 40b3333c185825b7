"""Styles of writing a conversation down for a language model: the base's chat template, Alpaca's, or Phi's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rehead.instruction.conversations import ASSISTANT, USER, Conversation, Message
from rehead.runtime.errors import DataError, SettingError

STYLES = ("auto", "chat", "alpaca", "phi")
# The prompt of Taori et al., Stanford Alpaca, 2023, with and without an input.
_ALPACA = (
    "Below is an instruction that describes a task{input}. Write a response that appropriately completes the request."
)
_WITH_INPUT = ", paired with an input that provides further context"


@dataclass(frozen=True)
class Segment:
    """A stretch of text.

    Attributes:
        learned: whether the model is to learn to write it, or only to read it.
    """

    text: str
    learned: bool


def resolved(style: str, tokenizer: Any) -> str:
    """Return the style that is meant: `auto` is the base's chat template if it has one, else Alpaca's.

    Raises:
        SettingError: there is no such style, or the base has no template.
    """
    if style not in STYLES:
        raise SettingError(f"`style` must be one of {', '.join(STYLES)}, not {style!r}")
    if style == "auto":
        return "chat" if tokenizer.chat_template else "alpaca"
    if style == "chat" and not tokenizer.chat_template:
        raise SettingError("`style='chat'`: this base's tokenizer has no chat template; use alpaca or phi")
    return style


def written(conversation: Conversation, style: str, tokenizer: Any) -> list[Segment]:
    """Return a conversation in segments; each answer, with what ends it, is learned.

    Raises:
        DataError: the base's template cannot write it.
    """
    segments: list[Segment] = []
    done = ""
    for place, message in enumerate(conversation.messages):
        if message.role == ASSISTANT:
            read = request(conversation.messages[:place], style, tokenizer, conversation.line)
            if not read.startswith(done):
                raise DataError(
                    f"row {conversation.line}: the base's chat template rewrites earlier turns, so they cannot be "
                    "learned from; give each answer a row of its own, or use `style='phi'`"
                )
            answer = message.content + ending(style, tokenizer)
            segments += [Segment(read[len(done) :], False), Segment(answer, True)]
            done = read + answer
    return segments


def request(messages: Sequence[Message], style: str, tokenizer: Any, line: int = 0) -> str:
    """Return what the model reads before it answers the last of the messages, which stand in that line of a file."""
    if style == "chat":
        return _templated(messages, tokenizer, line, answered=False)
    turn = _alpaca if style == "alpaca" else _phi
    written = "".join(turn(message, str(tokenizer.eos_token), first=i == 0) for i, message in enumerate(messages))
    return written + ("\n\n### Response:\n" if style == "alpaca" else "<|assistant|>\n")


def ending(style: str, tokenizer: Any) -> str:
    """Return what ends an answer: the end of text, or the special token that the chat template puts behind it."""
    if style != "chat":
        return str(tokenizer.eos_token)
    mark = "rehead"
    rendered = _templated([Message(USER, mark), Message(ASSISTANT, mark)], tokenizer, 0, answered=True)
    behind = rendered[rendered.rindex(mark) + len(mark) :].lstrip()
    return next((token for token in _special(tokenizer) if behind.startswith(token)), str(tokenizer.eos_token))


def _special(tokenizer: Any) -> list[str]:
    """Return the special tokens, the longest first."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)


def _alpaca(message: Message, end: str, *, first: bool) -> str:
    if message.role == ASSISTANT:
        return f"\n\n### Response:\n{message.content}{end}"
    if message.role != USER:
        return f"{message.content}\n\n"
    preamble = _ALPACA.format(input=_WITH_INPUT if message.input else "") if first else ""
    about = f"\n\n### Input:\n{message.input}" if message.input else ""
    return f"{preamble}\n\n### Instruction:\n{message.content}{about}"


def _phi(message: Message, end: str, *, first: bool) -> str:
    return f"<|{message.role}|>\n{message.whole}{end if message.role == ASSISTANT else ''}\n"


def _templated(messages: Sequence[Message], tokenizer: Any, line: int, *, answered: bool) -> str:
    turns = [{"role": message.role, "content": message.whole} for message in messages]
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=not answered))
    except Exception as error:  # jinja2's, or what the template itself raises
        raise DataError(f"row {line}: the base's chat template refuses it ({error}); use `style='alpaca'`") from error
