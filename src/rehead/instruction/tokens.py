"""Token ids of conversations, and which of them are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rehead.instruction import styles
from rehead.instruction.conversations import Conversation, Message
from rehead.models.sequences import Ragged
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import longest_input


@dataclass(frozen=True)
class ConversationTokens:
    """n conversations.

    Attributes:
        ids: token ids.
        learned: of each token, whether the model learns to write it (bool); never of a first one.
        kept: (n,) int64, which of the tokenised conversations these are: one whose answer does not fit is left out.
        cut: how many of them lose their end.
    """

    ids: Ragged
    learned: Ragged
    kept: Tensor
    cut: int

    @cached_property
    def n_learned(self) -> Tensor:
        """Return (n,) int64, the learned tokens of each."""
        return torch.segment_reduce(self.learned.values.float(), "sum", lengths=self.ids.lengths).long()


def tokenise(
    base: TextBackbone, conversations: Sequence[Conversation], style: str, max_length: int
) -> ConversationTokens:
    """Tokenise each segment on its own: an answer that is generated does not share a token with the request either.

    Raises:
        DataError: the chat template refuses a conversation.
    """
    limit = longest_input(base, max_length)
    ids: list[list[int]] = []
    learned: list[list[int]] = []
    kept = []
    cut = 0
    for place, conversation in enumerate(conversations):
        pieces = styles.written(conversation, style, base.tokenizer)
        encoded = [_encoded(piece.text, style, base.tokenizer, first=i == 0) for i, piece in enumerate(pieces)]
        of_all = [token for tokens in encoded for token in tokens]
        mask = [int(piece.learned) for piece, tokens in zip(pieces, encoded, strict=True) for _ in tokens]
        mask[:1] = [0]  # nothing stands before it to predict it from
        if not any(mask[:limit]):
            continue
        cut += len(of_all) > limit
        ids.append(of_all[:limit])
        learned.append(mask[:limit])
        kept.append(place)
    masks = Ragged.from_lists(learned)
    return ConversationTokens(
        Ragged.from_lists(ids), Ragged(masks.values.bool(), masks.offsets), torch.tensor(kept, dtype=torch.int64), cut
    )


def prompt_ids(tokenizer: Any, messages: Sequence[Message], style: str) -> list[int]:
    """Return the token ids that the model reads before it answers."""
    return _encoded(styles.request(messages, style, tokenizer), style, tokenizer, first=True)


def padded_before(sequences: Sequence[list[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Return (n, longest) ids that end together, so that answers follow them; and 1 where they are not padding."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in sequences])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in sequences])
    return ids, mask


def _encoded(text: str, style: str, tokenizer: Any, *, first: bool) -> list[int]:
    # A chat template writes the token for the beginning itself.
    encoded: list[int] = tokenizer(text, add_special_tokens=first and style != "chat", verbose=False)["input_ids"]
    return encoded
