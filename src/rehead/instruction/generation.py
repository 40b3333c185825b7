"""Answers by Transformers' own generation, one at a time with each word as it comes, or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rehead.instruction import styles
from rehead.instruction.conversations import Message
from rehead.instruction.tokens import padded_before, prompt_ids
from rehead.models.text_backbone import TextBackbone
from rehead.runtime import hardware, progress
from rehead.runtime.errors import SettingError

# Answers that are written side by side.
_BATCH = 16


@dataclass(frozen=True)
class Sampling:
    """How an answer is chosen.

    Attributes:
        max_tokens: longest answer.
        temperature: 0 always takes the most probable token; higher ones dare more.
        top_p: only the most probable tokens that make up this share (Holtzman et al., ICLR 2020, arXiv 1904.09751).
        seed: for temperatures above 0.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise SettingError(f"`max_tokens` must be 1 or more, not {self.max_tokens}")
        if not self.temperature >= 0:
            raise SettingError(f"`temperature` must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise SettingError(f"`top_p` must be above 0 and at most 1, not {self.top_p}")

    def as_options(self) -> dict[str, Any]:
        """Return the arguments of Transformers' `generate`."""
        if self.temperature == 0:
            return {"max_new_tokens": self.max_tokens, "do_sample": False, "temperature": None, "top_p": None}
        return {
            "max_new_tokens": self.max_tokens,
            "do_sample": True,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": 0,
        }


def answer(
    base: TextBackbone, messages: Sequence[Message], style: str, sampling: Sampling, streamer: Any = None
) -> str:
    """Return the answer to the last of the messages.

    Args:
        streamer: one of Transformers', which gets each token as it comes.
    """
    return _written(base, [prompt_ids(base.tokenizer, messages, style)], style, sampling, streamer)[0]


def answers(base: TextBackbone, requests: Sequence[Sequence[Message]], style: str, sampling: Sampling) -> list[str]:
    """Return the answers to n requests."""
    prompts = [prompt_ids(base.tokenizer, request, style) for request in requests]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    result = [""] * len(prompts)
    with progress.bar("writing answers", len(prompts)) as advance:
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            for i, text in zip(rows, _written(base, [prompts[i] for i in rows], style, sampling), strict=True):
                result[i] = text
            advance(len(rows))
    return result


def end_ids(base: TextBackbone, style: str) -> list[int]:
    """Return the tokens that end an answer."""
    ending = base.tokenizer.convert_tokens_to_ids(styles.ending(style, base.tokenizer))
    return sorted({ending, base.tokenizer.eos_token_id})


def _written(
    base: TextBackbone, prompts: Sequence[list[int]], style: str, sampling: Sampling, streamer: Any = None
) -> list[str]:
    ids, mask = padded_before(prompts, base.tokenizer.pad_token_id)
    device = hardware.device()
    base.train(False)
    model = base.model.to(device)
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(sampling.seed)
        written = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            pad_token_id=base.tokenizer.pad_token_id,
            eos_token_id=end_ids(base, style),
            streamer=streamer,
            **sampling.as_options(),
        )
    texts: list[str] = base.tokenizer.batch_decode(written[:, ids.shape[1] :].cpu(), skip_special_tokens=True)
    return [text.strip() for text in texts]
