"""Labels as answers: their likelihoods are those of Transformers, one label and one request at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rehead.comparison import prompting
from rehead.comparison.prompting import Prompts, likelihoods
from rehead.data.examples import Examples
from rehead.instruction.conversations import Message
from rehead.instruction.tokens import prompt_ids
from rehead.models.loading import load_language_model
from rehead.runtime import hardware
from tests.instruction.tiny_language_models import save_tiny_language_model

TEMPLATE = (
    "{% for message in messages %}<s> {{ message['content'] }}</s> {% endfor %}{% if add_generation_prompt %}<s> "
    "{% endif %}"
)
NAMES = ("free prize", "lunch", "meet you at noon")
REQUESTS = [
    [Message("user", "the a call now")],
    [Message("user", "the a")],
    [Message("user", "the win cash txt home later ok yes no and")],
]


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "native_dtype", lambda: torch.float32)


@pytest.mark.parametrize("held", [16_384, 1])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma2"])
def test_likelihoods_equal_those_of_transformers(
    family: str, held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompting, "_HELD_TOKENS", held)
    folder = save_tiny_language_model(tmp_path, family, template=TEMPLATE)
    base = load_language_model(str(folder))
    ours = likelihoods(base, REQUESTS, NAMES, "chat")
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    for row, request in enumerate(REQUESTS):
        prompt = prompt_ids(base.tokenizer, request, "chat")
        for column, name in enumerate(NAMES):
            answer = base.tokenizer(name + "</s>", add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                logits = theirs(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            expected = sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))
            assert ours[row, column] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_what_the_model_says_to_nothing_is_taken_off(tmp_path: Path) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "llama", template=TEMPLATE)))
    prompts = Prompts(base, "chat", NAMES, 32)
    odds = prompts.log_odds([*prompting._EMPTY])
    raw = likelihoods(base, [prompts.request(text) for text in prompting._EMPTY], NAMES, "chat")
    shares = np.exp(raw - np.logaddexp.reduce(raw, axis=1, keepdims=True))
    np.testing.assert_allclose(odds, np.log(shares) - np.log(shares.mean(0)), atol=1e-5)


def test_examples_stand_before_the_request_and_long_texts_are_cut(tmp_path: Path) -> None:
    base = load_language_model(str(save_tiny_language_model(tmp_path, "llama", template=TEMPLATE)))
    shown = Examples(["win cash", "noon"], np.array([0, 1]), NAMES, np.array([1, 2]), "rows")
    prompts = Prompts(base, "chat", NAMES, 3, shown)
    messages = prompts.request("free free free free free")
    assert [message.role for message in messages] == ["user", "assistant", "user", "assistant", "user"]
    assert messages[1].content == "free prize"
    assert messages[-1].input == "Text: free free free"
    assert prompts.conversation("noon", 1, 5).answer == "lunch"
