"""A language model asked in words: how likely it is to answer with each label.

The log-likelihood of a label is that of all its tokens and of the end of the answer. A model prefers some labels
whatever it reads, so its answer to a text without content is taken off (contextual calibration: Zhao et al., ICML 2021,
arXiv 2102.09690).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.data.examples import Examples
from rehead.instruction import styles
from rehead.instruction.conversations import ASSISTANT, USER, Conversation, Message
from rehead.instruction.tokens import padded_before, prompt_ids
from rehead.models.text_backbone import TextBackbone
from rehead.runtime import hardware, interrupts, progress
from rehead.training.inputs import autocast

Array = npt.NDArray[np.float64]

# Tokens whose keys and values are held at a time, for all labels of a batch together.
_HELD_TOKENS = 16_384
# Texts without content, as in the paper.
_EMPTY = ("N/A", "", "[MASK]")


@dataclass(frozen=True)
class Prompts:
    """A language model that is asked to classify texts, with or without examples before the request.

    Attributes:
        style: see `rehead.instruction.styles`.
        names: of the classes.
        max_length: of a text, in tokens; a longer one is cut off.
        examples: shown as earlier turns, in that order.
    """

    base: TextBackbone
    style: str
    names: tuple[str, ...]
    max_length: int
    examples: Examples | None = None

    def request(self, text: str) -> list[Message]:
        """Return the turns that ask about a text."""
        return [*self._shown, self._asked(text)]

    def conversation(self, text: str, label: int, line: int) -> Conversation:
        """Return a request with its answer, to learn from."""
        return Conversation((*self.request(text), Message(ASSISTANT, self.names[label])), line)

    def ids(self, text: str) -> list[int]:
        """Return the token ids that the model reads before it answers."""
        return prompt_ids(self.base.tokenizer, self.request(text), self.style)

    def likelihoods(self, texts: Sequence[str]) -> Array:
        """Return (n, n_classes) log-likelihoods of the labels."""
        return likelihoods(self.base, [self.request(text) for text in texts], self.names, self.style)

    def log_odds(self, texts: Sequence[str]) -> Array:
        """Return (n, n_classes) calibrated log-likelihoods of the labels, each row up to a constant.

        They are for a model that was not trained on such answers: one that was has learned its preferences from data.
        """
        scores = self.likelihoods([*texts, *_EMPTY])
        scores -= np.logaddexp.reduce(scores, axis=1, keepdims=True)
        prior = np.logaddexp.reduce(scores[len(texts) :], axis=0) - np.log(len(_EMPTY))
        calibrated: Array = scores[: len(texts)] - prior
        return calibrated

    @cached_property
    def _shown(self) -> list[Message]:
        if self.examples is None:
            return []
        rows = zip(self.examples.texts, self.examples.labels.tolist(), strict=True)
        return [turn for text, label in rows for turn in (self._asked(text), Message(ASSISTANT, self.names[label]))]

    def _asked(self, text: str) -> Message:
        tokenizer = self.base.tokenizer
        cut = tokenizer(text, truncation=True, max_length=self.max_length, add_special_tokens=False)["input_ids"]
        if len(cut) == self.max_length:
            text = tokenizer.decode(cut)
        about = f"Classify the text. Answer with one of these labels and nothing else: {', '.join(self.names)}."
        return Message(USER, about, f"Text: {text}")


def likelihoods(base: TextBackbone, requests: Sequence[Sequence[Message]], names: Sequence[str], style: str) -> Array:
    """Return (n, n_classes) log-likelihoods of each label as the answer to each of n requests.

    The tokens that all requests begin with are computed once.
    """
    tokenizer = base.tokenizer
    prompts = [prompt_ids(tokenizer, request, style) for request in requests]
    end = styles.ending(style, tokenizer)
    answers = [tokenizer(name + end, add_special_tokens=False)["input_ids"] for name in names]
    n_shared = shared(prompts)
    rests = [ids[n_shared:] for ids in prompts]
    # A window of attention that is shorter than a prompt counts padding, too.
    window = getattr(base.config, "sliding_window", None) or math.inf
    pads = max(map(len, prompts)) + max(map(len, answers)) <= window
    result = np.empty((len(requests), len(names)))
    base.train(False)
    base.model.to(hardware.device())
    with (
        torch.inference_mode(),
        autocast(hardware.native_dtype() == torch.bfloat16),
        progress.bar("asking", len(requests)) as advance,
    ):
        prefix = _Prefix(base, prompts[0][:n_shared])
        for rows in _batches([len(ids) for ids in rests], n_shared, pads=pads):
            result[rows] = prefix.scores([rests[i] for i in rows], answers).cpu().numpy()
            advance(len(rows))
    return result


def shared(prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts begin with; each keeps one of its own at least."""
    first, last = min(prompts), max(prompts)  # all others lie between these
    common = next((i for i, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return min(common, *(len(ids) - 1 for ids in prompts))


def _batches(lengths: Sequence[int], n_shared: int, *, pads: bool) -> Iterator[list[int]]:
    """Yield rows of requests, the shortest first, that are asked together; of one length unless padding is allowed."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        fits = (len(batch) + 1) * (n_shared + lengths[row]) <= _HELD_TOKENS
        if batch and not (fits and (pads or lengths[row] == lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class _Prefix:
    """The keys and values of the tokens that all requests begin with."""

    def __init__(self, base: TextBackbone, ids: list[int]) -> None:
        self._base, self._ids = base, ids
        self._cache: Any = None
        if ids:
            self._cache = self._run(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.int64), None)[1]

    def scores(self, rests: list[list[int]], answers: list[list[int]]) -> Tensor:
        """Return (n, n_answers) log-likelihoods of answers (token ids) behind the rests of n requests."""
        n, n_answers = len(rests), len(answers)
        ids, inside = padded_before(rests, self._base.tokenizer.pad_token_id)
        mask = torch.cat([torch.ones(n, len(self._ids), dtype=torch.int64), inside], dim=1)
        cache = interrupts.deepcopy(self._cache)
        if cache is not None and n > 1:
            cache.batch_repeat_interleave(n)
        last, cache = self._run(ids, mask, cache)
        first = last[:, -1].log_softmax(-1)  # (n, vocabulary)
        scores = first[:, [answer[0] for answer in answers]]
        longest = max(map(len, answers))
        if longest == 1:
            return scores
        # Few labels at a time: keys and values of the whole prompt are held for each.
        some = max(1, _HELD_TOKENS // (n * (mask.shape[1] + longest)))
        following = [
            # The last of them may use up what the others copy.
            self._following(
                answers[at : at + some], longest, mask, interrupts.deepcopy(cache) if at + some < n_answers else cache
            )
            for at in range(0, n_answers, some)
        ]
        return scores + torch.cat(following, dim=1)

    def _following(self, answers: list[list[int]], longest: int, mask: Tensor, cache: Any) -> Tensor:
        """Return (n, n_answers) log-likelihoods of the tokens behind the first of each answer; use the cache up."""
        n, n_answers = len(mask), len(answers)
        padded = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers])
        there = torch.tensor([[1] * len(answer) + [0] * (longest - len(answer)) for answer in answers])
        if n_answers > 1:
            cache.batch_repeat_interleave(n_answers)
        again = mask.repeat_interleave(n_answers, dim=0)
        fed, inside = padded[:, :-1].repeat(n, 1), there[:, :-1].repeat(n, 1)
        logits, _ = self._run(fed, torch.cat([again, inside], dim=1), cache, keep=longest - 1)
        following = padded[:, 1:].repeat(n, 1).to(logits.device)
        scores = logits.log_softmax(-1).gather(-1, following.unsqueeze(-1)).squeeze(-1)
        scores = scores * there[:, 1:].repeat(n, 1).to(logits.device)
        return scores.sum(-1).view(n, n_answers)

    def _run(self, ids: Tensor, mask: Tensor, cache: Any, keep: int = 1) -> tuple[Tensor, Any]:
        """Return logits of the last `keep` places, (n, keep, vocabulary) float32, and keys and values of all."""
        device = hardware.device()
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        output = self._base.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        return output.logits.float(), output.past_key_values
