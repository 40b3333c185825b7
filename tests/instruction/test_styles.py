"""How conversations are written down, and which of their tokens are learned."""

from pathlib import Path

import pytest

from rehead.instruction import styles
from rehead.instruction.conversations import Conversation, Message
from rehead.instruction.tokens import prompt_ids, tokenise
from rehead.models.loading import load_language_model
from rehead.runtime.errors import DataError, SettingError
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.tiny_models import tiny_tokenizer

CHAT = (
    "{% for message in messages %}<s> {{ message['role'] }} {{ message['content'] }}</s> {% endfor %}"
    "{% if add_generation_prompt %}<s> assistant {% endif %}"
)
ASKED = Conversation((Message("user", "meet you", "noon"), Message("assistant", "yes")), 1)
TALK = Conversation(
    (
        Message("user", "free prize"),
        Message("assistant", "no"),
        Message("user", "lunch"),
        Message("assistant", "ok later"),
    ),
    7,
)


def with_template(template: str | None = CHAT) -> object:
    tokenizer = tiny_tokenizer(encoder=False)
    tokenizer.chat_template = template
    return tokenizer


def test_alpaca_has_its_sections() -> None:
    read, answer = styles.written(ASKED, "alpaca", with_template())
    assert read.text.startswith("Below is an instruction that describes a task, paired with an input")
    assert read.text.endswith("\n\n### Instruction:\nmeet you\n\n### Input:\nnoon\n\n### Response:\n")
    assert (answer.text, answer.learned, read.learned) == ("yes</s>", True, False)


def test_phi_has_its_marks() -> None:
    read, answer = styles.written(ASKED, "phi", with_template())
    assert read.text == "<|user|>\nmeet you\n\nnoon\n<|assistant|>\n"
    assert answer.text == "yes</s>"


def test_chat_is_the_base_s_own_template() -> None:
    segments = styles.written(TALK, "chat", with_template())
    assert [segment.learned for segment in segments] == [False, True, False, True]
    assert segments[0].text == "<s> user free prize</s> <s> assistant "
    assert segments[1].text == "no</s>"


@pytest.mark.parametrize("style", ["chat", "alpaca", "phi"])
def test_what_is_generated_from_is_what_was_learned_from(style: str) -> None:
    tokenizer = with_template()
    segments = styles.written(TALK, style, tokenizer)
    assert "".join(segment.text for segment in segments[:3]) == styles.request(TALK.request, style, tokenizer)


def test_template_that_rewrites_earlier_turns_is_refused() -> None:
    forgetful = "{% for message in messages[-2:] %}{{ message['content'] }}|{% endfor %}"
    with pytest.raises(DataError, match=r"row 7: .* rewrites earlier turns"):
        styles.written(TALK, "chat", with_template(forgetful))


def test_template_that_refuses_is_told_with_the_row() -> None:
    strict = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match=r"row 7: .*roles must alternate"):
        styles.written(TALK, "chat", with_template(strict))


def test_auto_takes_the_template_where_there_is_one() -> None:
    assert styles.resolved("auto", with_template()) == "chat"
    assert styles.resolved("auto", with_template(None)) == "alpaca"
    with pytest.raises(SettingError, match="no chat template"):
        styles.resolved("chat", with_template(None))
    with pytest.raises(SettingError, match="`style` must be one of"):
        styles.resolved("llama", with_template())


def test_learned_tokens_are_those_of_the_answers_and_their_end(tmp_path: Path) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "llama", template=CHAT)))
    tokens = tokenise(base, [TALK], "chat", 64)
    learned = tokens.ids.values[tokens.learned.values].tolist()
    assert base.tokenizer.decode(learned[-3:]) == "ok later </s>"
    assert prompt_ids(base.tokenizer, TALK.request, "chat") == tokens.ids.values[:-3].tolist()


def test_answer_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "llama", template=CHAT)))
    long = Conversation((Message("user", "free " * 30), Message("assistant", "no")), 1)
    cut = Conversation((Message("user", "free"), Message("assistant", "no " * 30)), 2)
    tokens = tokenise(base, [long, cut], "chat", 16)
    assert (tokens.kept.tolist(), tokens.cut, tokens.ids.lengths.tolist()) == ([1], 1, [16])
