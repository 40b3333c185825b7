"""Texts to token ids, the way the saved Transformers model will see them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.bases.cut import Base
from rehead.bases.ragged import Ragged

# So many texts are tokenised at a time: a tokenizer holds a hundred times what becomes of a text.
_PORTION = 1024


@dataclass(frozen=True)
class Encoded:
    """Token ids of n texts, and what did not fit.

    Attributes:
        ids: n sequences of at least one id.
        tokens_cut: (n,) int64, how many tokens of each text were left out at its end.
    """

    ids: Ragged
    tokens_cut: npt.NDArray[np.int64]

    @property
    def texts_cut(self) -> int:
        return int((self.tokens_cut > 0).sum())


def encode(base: Base, texts: list[str], max_length: int) -> Encoded:
    """Tokenises; keeps the first tokens of a text that has more than `max_length`.

    Where a decoder's padding token ends a text, it is left out: the sequence-classification class of these
    families looks for the last token that is not padding, so it would not see it either.
    """
    limit = longest_input(base, max_length)
    portions = [_encode(base, texts[start : start + _PORTION], limit) for start in range(0, len(texts), _PORTION)]
    ids = Ragged.concatenate([portion.ids for portion in portions])
    return Encoded(ids, np.concatenate([np.zeros(0, np.int64), *(portion.tokens_cut for portion in portions)]))


def _encode(base: Base, texts: list[str], limit: int) -> Encoded:
    tokenizer = base.tokenizer
    kept: list[list[int]] = tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
    cut = np.zeros(len(texts), dtype=np.int64)
    full = [i for i, ids in enumerate(kept) if len(ids) >= limit]
    if full:
        whole = tokenizer([texts[i] for i in full], truncation=False, verbose=False)["input_ids"]
        cut[full] = [len(ids) - len(kept[i]) for i, ids in zip(full, whole, strict=True)]
    if base.family.causal:
        kept = [_without_trailing(ids, tokenizer.pad_token_id) for ids in kept]
    return Encoded(Ragged.from_lists([ids or [tokenizer.pad_token_id] for ids in kept]), cut)


def longest_input(base: Base, max_length: int) -> int:
    """The wanted length, or what the model and its tokenizer can take if that is less."""
    limit = min(max_length, base.tokenizer.model_max_length)
    positions = getattr(base.config, "max_position_embeddings", None)
    if positions:
        # RoBERTa's positions begin behind its padding id.
        limit = min(limit, positions - (base.config.pad_token_id + 1 if base.config.model_type == "roberta" else 0))
    return int(limit)


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
