"""Of an embedding the rows that some texts reach, in place of all while everything is trained.

A text's gradient reaches the rows of its own tokens; AdamW would move 28 million weights of SmolLM2 by zero at each
step, clear as large a gradient, and keep two moments of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from rehead.models.backbone import Backbone


@contextmanager
def reached_alone(base: Backbone, ids: Tensor) -> Iterator[None]:
    """Inside the block the base has no rows but those of `ids`; what became of them is written back at its end.

    The others stay bit for bit as they are, where AdamW would shrink them by its weight decay. An embedding that does
    more than to look rows up, as Gemma's, is left as it is.

    Args:
        ids: (T,) int64, the tokens of all texts that the block may pass through the base.
    """
    whole = base.body.get_input_embeddings()
    if type(whole) is not nn.Embedding:
        yield
        return
    rows = _Rows(whole, ids.unique())
    base.body.set_input_embeddings(rows)
    try:
        yield
    finally:
        base.body.set_input_embeddings(whole)
        whole.to(rows.weight.device)
        with torch.no_grad():
            whole.weight[rows.tokens] = rows.weight


class _Rows(nn.Module):
    """Some rows of an embedding, found by the token ids that they have there.

    Args:
        tokens: (k,) int64, each once, rising.
    """

    tokens: Tensor
    place_of: Tensor

    def __init__(self, whole: nn.Embedding, tokens: Tensor) -> None:
        super().__init__()
        tokens = tokens.to(whole.weight.device)
        self.weight = nn.Parameter(whole.weight.detach()[tokens])
        self.register_buffer("tokens", tokens, persistent=False)
        place_of = torch.full((whole.num_embeddings,), -1, dtype=torch.int64, device=tokens.device)
        place_of[tokens] = torch.arange(len(tokens), device=tokens.device)
        self.register_buffer("place_of", place_of, persistent=False)
        # A padding token has no gradient; where no text has one, nothing is to be left out.
        padding = -1 if whole.padding_idx is None else int(place_of[whole.padding_idx])
        self.padding_idx = None if padding < 0 else padding

    def forward(self, ids: Tensor) -> Tensor:
        return embedding(self.place_of[ids], self.weight, self.padding_idx)
