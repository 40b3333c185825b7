"""Texts to token ids, the way the saved Transformers model will see them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.models.backbone import Base
from rehead.models.ragged import Ragged, Sequences, offsets_of
from rehead.runtime.errors import BaseModelError

# So many texts are tokenised at a time: a tokenizer holds a hundred times what becomes of a text.
_PORTION = 1024
# How a tokenizer cuts is a state of its own, which each call sets: two threads must not do so at once.
_TOKENISING = threading.Lock()

# What becomes of a text that is too long: its beginning is used, its beginning and its end, or all of it in windows.
LONG = ("truncate", "head-tail", "chunks")


@dataclass(frozen=True)
class Encoded:
    """Token ids of n texts, and what did not fit.

    Attributes:
        ids: a sequence of at least one id for each window of each text, those of a text one after the other.
        windows: (n,) int64, how many windows a text has: 1, but for long texts in chunks.
        tokens_cut: (n,) int64, how many tokens of each text were left out.
    """

    ids: Sequences
    windows: Tensor
    tokens_cut: npt.NDArray[np.int64]

    @property
    def texts_cut(self) -> int:
        return int((self.tokens_cut > 0).sum())

    @property
    def tokens(self) -> Tensor:
        """(n,) int64, tokens of each text that are used."""
        return self.ids.offsets[offsets_of(self.windows)].diff()

    def take(self, rows: Tensor) -> Encoded:
        """The given texts, in that order."""
        windows = self.windows[rows]
        starts = torch.repeat_interleave(offsets_of(self.windows)[rows] - offsets_of(windows)[:-1], windows)
        ids = self.ids.take(starts + torch.arange(int(windows.sum())))
        return Encoded(ids, windows, self.tokens_cut[rows.numpy()])

    def by_text(self, features: Tensor) -> Tensor:
        """Features of the windows, (n_windows, ...) → of the texts, (n, ...): the mean over the windows of each."""
        if len(features) == len(self.windows):
            return features
        return torch.segment_reduce(features, "mean", lengths=self.windows, axis=0)


def encode(base: Base, texts: list[str], max_length: int, long: str = "truncate") -> Encoded:
    """Tokenises; what becomes of a text that has more than `max_length` tokens is said by `long`.

    Where a decoder's padding token ends a text, it is left out: the sequence-classification class of these
    families looks for the last token that is not padding, so it would not see it either.

    Args:
        long: `truncate` keeps the first tokens; `head-tail` the first half of them from the beginning and the rest from
            the end (Sun et al., How to Fine-Tune BERT, arXiv 1905.05583, §5.3.1); `chunks` keeps all, in windows.
    """
    limit = longest_input(base, max_length)
    starts = range(0, len(texts), _PORTION)
    with _TOKENISING:
        portions = [_encode(base, texts[start : start + _PORTION], limit, long) for start in starts]
    return Encoded(
        Ragged.concatenate([ids for ids, _, _ in portions]),
        torch.cat([torch.zeros(0, dtype=torch.int64), *(windows for _, windows, _ in portions)]),
        np.concatenate([np.zeros(0, np.int64), *(cut for _, _, cut in portions)]),
    )


def _encode(base: Base, texts: list[str], limit: int, long: str) -> tuple[Ragged, Tensor, npt.NDArray[np.int64]]:
    """`ids`, `windows` and `tokens_cut` of the texts."""
    tokenizer = base.tokenizer
    windows = torch.ones(len(texts), dtype=torch.int64)
    cut = np.zeros(len(texts), dtype=np.int64)
    if long == "chunks":
        told = tokenizer(texts, truncation=True, max_length=limit, return_overflowing_tokens=True)
        kept: list[list[int]] = told["input_ids"]
        windows = torch.bincount(torch.tensor(told["overflow_to_sample_mapping"]), minlength=len(texts))
    else:
        kept = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        full = [i for i, ids in enumerate(kept) if len(ids) >= limit]
        whole = tokenizer([texts[i] for i in full], truncation=False, verbose=False)["input_ids"] if full else []
        for i, ids in zip(full, whole, strict=True):
            cut[i] = len(ids) - len(kept[i])
            if long == "head-tail" and cut[i]:
                kept[i] = ids[: limit - limit // 2] + ids[len(ids) - limit // 2 :]
    if base.family.causal:
        kept = [_without_trailing(ids, tokenizer.pad_token_id) for ids in kept]
    return Ragged.from_lists([ids or [tokenizer.pad_token_id] for ids in kept]), windows, cut


def longest_input(base: Base, max_length: int) -> int:
    """The wanted length, or what the model and its tokenizer can take if that is less.

    Raises:
        BaseModelError: they cannot take a single token, by what their files say.
    """
    try:
        limit = min(max_length, base.tokenizer.model_max_length)
        positions = getattr(base.config, "max_position_embeddings", None)
        if positions is not None:
            # Counted from behind the id that the embedding takes for padding, whatever pads the texts.
            taken = base.backbone.embeddings.padding_idx + 1 if base.family.positions_behind_padding else 0
            limit = min(limit, positions - taken)
        limit = int(limit)
    except (TypeError, ValueError):  # something else than a number
        limit = 0
    if limit < 1:
        raise BaseModelError(
            f"base {base.name!r} has no room for a token, by max_position_embeddings in config.json and "
            "model_max_length in tokenizer_config.json; fetch or save it again"
        )
    return limit


def set_padding(tokenizer: Any, config: Any, causal: bool) -> None:
    """Makes the tokenizer pad on the right, with a token that the model can tell from the text's own.

    A decoder's sequence-classification class takes the last token that is not the padding token. Many
    decoders have none, or use the end-of-sequence token, which may well end a text; any other special
    token is safer. An encoder keeps the padding token that it was trained with.
    """
    tokenizer.padding_side = "right"
    if causal and tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = _spare_token(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(config.pad_token_id or 0)
    config.pad_token_id = tokenizer.pad_token_id


def _spare_token(tokenizer: Any) -> str:
    """A special token other than end-of-sequence and unknown, either of which may end a text, if there is one."""
    special = [tokenizer.bos_token, *tokenizer.all_special_tokens]
    special += [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    better = [token for token in special if token not in (None, tokenizer.eos_token, tokenizer.unk_token)]
    last_resorts = [tokenizer.unk_token, tokenizer.eos_token, tokenizer.convert_ids_to_tokens(0)]
    return str(next(token for token in [*better, *last_resorts] if token))


def _without_trailing(ids: list[int], padding: int) -> list[int]:
    end = len(ids)
    while end and ids[end - 1] == padding:
        end -= 1
    return ids[:end]
