"""Turn texts into token ids, the way the saved Transformers model will see them."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rehead.models.config_checks import read_json
from rehead.models.sequences import Ragged, Sequences, offsets_of
from rehead.models.text_backbone import TextBackbone
from rehead.runtime.errors import BaseModelError, first_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Texts that are tokenised at a time: a tokenizer holds a hundred times what becomes of a text.
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
        """Return some of the texts, in the order of `rows`."""
        windows = self.windows[rows]
        starts = torch.repeat_interleave(offsets_of(self.windows)[rows] - offsets_of(windows)[:-1], windows)
        ids = self.ids.take(starts + torch.arange(int(windows.sum())))
        return Encoded(ids, windows, self.tokens_cut[rows.numpy()])

    def by_text(self, features: Tensor) -> Tensor:
        """Average the features of each text's windows, (n_windows, ...), to (n, ...)."""
        if len(features) == len(self.windows):
            return features
        return torch.segment_reduce(features, "mean", lengths=self.windows, axis=0)


@dataclass
class SavedTokenizer:
    """The tokenizer of a saved classifier or of a published encoder, without Transformers.

    Attributes:
        backend_tokenizer: of the tokenizers library.
        model_max_length: the most tokens that a text may have.
        pad_token_id: what an empty text is.
        truncation_side: where long texts are cut off: `left` or `right`.
        settings: of tokenizer_config.json.
    """

    backend_tokenizer: Tokenizer
    model_max_length: int
    pad_token_id: int
    truncation_side: str
    settings: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> SavedTokenizer:
        """Read what `save_pretrained` of a Transformers tokenizer has written.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the files hold something else.
        """
        from tokenizers import Tokenizer

        settings = read_json(folder / "tokenizer_config.json")
        if "auto_map" in settings:
            raise ValueError("tokenizer_config.json asks for code to be run (auto_map)")
        try:
            backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises no class of its own
            raise ValueError(f"{folder / 'tokenizer.json'}: {first_line(error)}") from error
        pad_token = settings["pad_token"]
        padding = backend.token_to_id(pad_token["content"] if isinstance(pad_token, dict) else pad_token)
        if padding is None:
            raise ValueError(f"{folder / 'tokenizer.json'} has no padding token {pad_token!r}")
        side = settings.get("truncation_side", "right")
        return cls(backend, settings["model_max_length"], padding, side, settings)

    def save_pretrained(self, folder: Path) -> None:
        """Write what Transformers reads the same tokenizer from."""
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.save(str(folder / "tokenizer.json"))
        settings = {**self.settings, "model_max_length": self.model_max_length, "padding_side": "right"}
        content = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / "tokenizer_config.json").write_text(f"{content}\n", encoding="utf-8")


def encode(backbone: TextBackbone, texts: list[str], max_length: int, long: str = "truncate") -> Encoded:
    """Tokenise; `long` says what becomes of a text that has more than `max_length` tokens.

    Where a decoder's padding token ends a text, it is left out: the sequence-classification class of these
    families looks for the last token that is not padding, so it would not see it either.

    Args:
        long: `truncate` keeps the first tokens; `head-tail` the first half of them from the beginning and the rest from
            the end (Sun et al., How to Fine-Tune BERT, arXiv 1905.05583, §5.3.1); `chunks` keeps all, in windows.
    """
    limit = longest_input(backbone, max_length)
    starts = range(0, len(texts), _PORTION)
    with _TOKENISING:
        portions = [_encode(backbone, texts[start : start + _PORTION], limit, long) for start in starts]
    return Encoded(
        Ragged.concatenate([ids for ids, _, _ in portions]),
        torch.cat([torch.zeros(0, dtype=torch.int64), *(windows for _, windows, _ in portions)]),
        np.concatenate([np.zeros(0, np.int64), *(cut for _, _, cut in portions)]),
    )


def _encode(
    backbone: TextBackbone, texts: list[str], limit: int, long: str
) -> tuple[Ragged, Tensor, npt.NDArray[np.int64]]:
    """Return `ids`, `windows` and `tokens_cut` of the texts."""
    tokenizer = backbone.tokenizer
    backend, padding = tokenizer.backend_tokenizer, tokenizer.pad_token_id
    backend.no_padding()
    backend.enable_truncation(limit, direction=tokenizer.truncation_side)
    encodings = backend.encode_batch(texts)
    windows = torch.ones(len(texts), dtype=torch.int64)
    cut = np.zeros(len(texts), dtype=np.int64)
    if long == "chunks":
        kept = [part.ids for encoding in encodings for part in (encoding, *encoding.overflowing)]
        windows = torch.tensor([1 + len(encoding.overflowing) for encoding in encodings], dtype=torch.int64)
    else:
        kept = [encoding.ids for encoding in encodings]
        full = [i for i, ids in enumerate(kept) if len(ids) >= limit]
        backend.no_truncation()
        for i, encoding in zip(full, backend.encode_batch([texts[i] for i in full]), strict=True):
            ids = encoding.ids
            cut[i] = len(ids) - len(kept[i])
            if long == "head-tail" and cut[i]:
                kept[i] = ids[: limit - limit // 2] + ids[len(ids) - limit // 2 :]
    if backbone.family.causal:
        kept = [_without_trailing(ids, padding) for ids in kept]
    return Ragged.from_lists([ids or [padding] for ids in kept]), windows, cut


def longest_input(backbone: TextBackbone, max_length: int) -> int:
    """Return the wanted length, or what the model and its tokenizer can take if that is less.

    Raises:
        BaseModelError: they cannot take a single token, by what their files say.
    """
    try:
        limit = min(max_length, backbone.tokenizer.model_max_length)
        positions = getattr(backbone.config, "max_position_embeddings", None)
        if positions is not None:
            # Counted from behind the id that the embedding takes for padding, whatever pads the texts.
            taken = backbone.body.embeddings.padding_idx + 1 if backbone.family.positions_behind_padding else 0
            limit = min(limit, positions - taken)
        limit = int(limit)
    except (TypeError, ValueError):  # something else than a number
        limit = 0
    if limit < 1:
        raise BaseModelError(
            f"base {backbone.name!r} cannot take a single token, by max_position_embeddings in config.json and "
            "model_max_length in tokenizer_config.json; fetch or save it again"
        )
    return limit


def set_padding(tokenizer: Any, config: Any, causal: bool) -> None:
    """Make the tokenizer pad on the right, with a token that the model can distinguish from the text's own.

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
    """Return a special token other than end-of-sequence and unknown, which may end a text, if there is one."""
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
