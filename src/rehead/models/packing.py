"""Texts end to end in one row of tokens, and attention that keeps them apart.

Whatever a layer computes token by token, which is nearly all of it, needs no padding then. Attention alone
looks at several tokens of a text, so only queries, keys and values are brought into a padded layout for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import embedding_bag, pad, scaled_dot_product_attention

from rehead.models.dropout import dropped
from rehead.models.sequences import offsets_of

# Up to this length, two plain matrix products with the softmax between them take half the time of torch's fused
# kernel, which is made for long texts (two cores, 2,048 tokens a batch: 1.7 against 3.2 ms at length 20). On CUDA the
# fused kernel is the faster one at all lengths: a sixth of the trunk pass over text messages (H200).
_SHORT = 96
# Of torch's kernels all but cuDNN's, which prepares itself for each new shape, and packed batches hardly ever have the
# same one: the trunk pass over articles took 2.7 instead of 0.9 s with it (H200).
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

# See `Packing.filled`.
_MULTIPLE = 16

# A batch whose padded places are `_WASTE` times its tokens is taken apart where a text is more than `_SIMILAR` times as
# long as the first of its stretch, and longer than `_LEAST_STRETCH` tokens.
_WASTE, _SIMILAR, _LEAST_STRETCH = 1.5, 2, 24


@dataclass(frozen=True)
class Packing:
    """Where each of n texts lies in a row of T tokens.

    Attributes:
        lengths: (n,) int64, each 1 or more; on the device of the tokens.
        filler: how many rows of the T, at the end, are no text's; see `filled`.
    """

    lengths: Tensor
    filler: int = 0
    _masks: dict[tuple[bool, int | None], Tensor | None] = field(default_factory=dict, repr=False)
    _unseen: dict[tuple[bool, int | None], Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def offsets(self) -> Tensor:
        """(n + 1,) int64: where each text begins, and where the last one ends."""
        return offsets_of(self.lengths)

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    @cached_property
    def positions(self) -> Tensor:
        """(T,) int64: where each token stands in its own text, from 0."""
        starts = torch.repeat_interleave(self.offsets[:-1], self.lengths)
        return pad(torch.arange(len(starts), device=starts.device) - starts, (0, self.filler))

    @cached_property
    def first(self) -> Tensor:
        """(n,) int64: the first token of each text."""
        return self.offsets[:-1]

    @cached_property
    def last(self) -> Tensor:
        """(n,) int64: the last token of each text."""
        return self.offsets[1:] - 1

    @cached_property
    def stretches(self) -> list[tuple[slice, slice, Packing]]:
        """Texts of similar length side by side, as tokens, texts, and a packing of their own: attention pads each
        stretch to its own longest text. Long texts share one with those of the same length alone: a mask for padding
        makes torch's fused kernel take a third longer, and one for each text, with a bias in it, far longer.

        One stretch where texts are not in order of length, and on an accelerator, which fewer, larger products suit
        better.
        """
        if self.lengths.device.type != "cpu" or bool((self.lengths.diff() < 0).any()):
            return [(slice(None), slice(None), self)]
        lengths, offsets = self.lengths.tolist(), self.offsets.tolist()
        wasteful = self.longest * len(lengths) >= _WASTE * offsets[-1]
        starts = [0]
        for text, length in enumerate(lengths):
            first = lengths[starts[-1]]
            is_far_longer = wasteful and length > max(_SIMILAR * first, _LEAST_STRETCH)
            if is_far_longer or (length > _SHORT and length > first):
                starts.append(text)
        return [
            (slice(offsets[start], offsets[stop]), slice(start, stop), Packing(self.lengths[start:stop]))
            for start, stop in zip(starts, [*starts[1:], len(lengths)], strict=True)
        ]

    @cached_property
    def _even(self) -> bool:
        return bool((self.lengths == self.longest).all())

    @cached_property
    def _to_padded(self) -> Tensor:
        """(n · longest,): which token stands at each padded place; the text's last one stands in for padding."""
        steps = torch.arange(self.longest, device=self.lengths.device)
        inside = torch.minimum(steps, self.lengths.unsqueeze(1) - 1)
        return (self.offsets[:-1].unsqueeze(1) + inside).flatten()

    @cached_property
    def _to_packed(self) -> Tensor:
        """(T,): at which padded place each token stands; filler stands for anything."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return pad(torch.repeat_interleave(rows * self.longest, self.lengths), (0, self.filler)) + self.positions

    def pad(self, values: Tensor) -> Tensor:
        """(T, ...) → (n, longest, ...)."""
        padded = self.unfilled(values) if self._even else values.index_select(0, self._to_padded)
        return padded.view(len(self.lengths), self.longest, *values.shape[1:])

    def unpad(self, values: Tensor) -> Tensor:
        """(n, longest, ...) → (T, ...)."""
        flat = values.flatten(0, 1)
        return flat if self._even and not self.filler else flat.index_select(0, self._to_packed)

    def mask(self, causal: bool, window: int | None) -> Tensor | None:
        """Return what each token may look at, (n or 1, longest, longest) bool, or None where everything may be seen.

        Args:
            causal: a token sees those before it only. Padding, which is on the right, is then out of sight.
            window: a token sees others less than this many places away; None for all.
        """
        key = (causal, window)
        if key not in self._masks:
            steps = torch.arange(self.longest, device=self.lengths.device)
            distance = steps.unsqueeze(1) - steps
            allowed = None
            if causal or (window is not None and window < self.longest):
                reach = distance.abs() < window if window is not None else torch.ones_like(distance, dtype=torch.bool)
                allowed = ((distance >= 0) & reach if causal else reach).unsqueeze(0)
            if not causal and not self._even:
                real = (steps < self.lengths.unsqueeze(1)).unsqueeze(1)
                # Padding sees itself: where nothing at all is seen, softmax gives nan.
                allowed = (real if allowed is None else allowed & real) | (distance == 0)
            self._masks[key] = allowed
        return self._masks[key]

    def unseen(self, causal: bool, window: int | None) -> Tensor:
        """`mask` as what is added to scores, float32: minus infinity where nothing may be seen, else 0.

        Returns:
            (n or 1, longest, longest).
        """
        key = (causal, window)
        if key not in self._unseen:
            mask = self.mask(causal, window)
            if mask is None:
                table = torch.zeros(1, self.longest, self.longest, device=self.lengths.device)
            else:
                table = torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, float("-inf"))
            self._unseen[key] = table
        return self._unseen[key]

    def pooled(self, hidden: Tensor, pooling: str) -> Tensor:
        """Token states (T, width) → one vector a text, (n, width).

        Args:
            pooling: `last`: the last token. `cls`: the first. `mean`: over all tokens.
        """
        if pooling == "mean":
            # A bag of neighbouring rows: the same sums as `segment_reduce` has, which takes five times as long.
            states = self.unfilled(hidden)
            return embedding_bag(torch.arange(len(states), device=states.device), states, self.first, mode="mean")
        return hidden[{"last": self.last, "cls": self.first}[pooling]]

    def filled(self, hidden: Tensor) -> tuple[Tensor, Packing]:
        """Token states (T, width) with rows of zeros behind them, to a multiple of 16, and where they lie.

        oneDNN makes a kernel of its own for each number of rows in bfloat16, which takes as long as a product with 200
        of them; of so few numbers it keeps the kernels.
        """
        assert not self.filler
        missing = -len(hidden) % _MULTIPLE
        return pad(hidden, (0, 0, 0, missing)), replace(self, filler=missing)

    def unfilled(self, hidden: Tensor) -> Tensor:
        """(T, ...) → those of the texts' own tokens."""
        return hidden[: len(hidden) - self.filler]


@dataclass(frozen=True)
class Attention:
    """How a layer's queries meet its keys.

    Attributes:
        scale: factor on their products.
        causal, window: see `Packing.mask`.
        softcap: scores are bent to stay within this (Gemma 2); None for no bending.
        dropout: probability for the attention weights; 0 outside training.
    """

    scale: float
    causal: bool
    window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class ScoreBias:
    """What is added to the scores of one of `Packing.stretches`, the same in every layer of a run.

    Attributes:
        values: (heads, longest, longest) float32, by the token that asks and the token that it looks at.
        unseen: (n or 1, longest, longest) float32, see `Packing.unseen`.
    """

    values: Tensor
    unseen: Tensor

    @classmethod
    def of_stretches(cls, values: Tensor, packing: Packing) -> list[ScoreBias]:
        """Return one for each stretch of texts; each token of a text may look at all of its others.

        Args:
            values: (heads, longest, longest) float32 for the longest text; they depend on nothing but the distance of
                two tokens, so that those of a shorter text are a corner of them.
        """
        parts = [part for _, _, part in packing.stretches]
        return [cls(values[:, : part.longest, : part.longest], part.unseen(False, None)) for part in parts]

    @cached_property
    def masked(self) -> Tensor:
        """(n or 1, heads, longest, longest) float32: both in one sum, which all layers share."""
        return self.unseen.unsqueeze(1) + self.values


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    packing: Packing,
    attention: Attention,
    only: str | None = None,
    biases: Sequence[ScoreBias] = (),
) -> Tensor:
    """Scaled dot-product attention within each text.

    Args:
        queries: (T, heads, size), or (n, heads, size) with `only`.
        keys, values: (T, key heads, size); each key head serves heads / key heads queries.
        only: `last` or `cls` where each text asks with that one token; None where all ask.
        biases: what is added to the scores, for each of the packing's stretches; none where nothing is. Each query
            head then has a key head of its own, and attention is not causal and has no window.

    Returns:
        (T or n, heads · size).
    """
    if len(packing.stretches) > 1:
        parts = [
            attend(
                queries[texts if only else tokens],
                keys[tokens],
                values[tokens],
                stretch,
                attention,
                only,
                biases[number : number + 1],
            )
            for number, (tokens, texts, stretch) in enumerate(packing.stretches)
        ]
        if packing.filler and only is None:
            parts.append(parts[0].new_zeros(packing.filler, parts[0].shape[1]))
        return torch.cat(parts)
    keys, values = packing.pad(keys), packing.pad(values)
    queries = packing.pad(queries) if only is None else queries.unsqueeze(1)
    # On a CPU torch's kernel has no dropout: it would take plain products, too, and its own slower dropout.
    fused = (packing.longest > _SHORT and not attention.dropout) or queries.device.type == "cuda"
    if fused and only is None and not attention.softcap:
        if biases:
            mask: Tensor | None = biases[0].masked.to(queries.dtype)
        else:
            sees_all_before = attention.causal and (attention.window is None or attention.window >= packing.longest)
            allowed = None if sees_all_before else packing.mask(attention.causal, attention.window)
            mask = None if allowed is None else allowed.unsqueeze(1)
        return packing.unpad(_fused(queries, keys, values, mask, attention))
    unseen = packing.unseen(attention.causal, attention.window)
    if only is None:
        added = biases[0].masked if biases else unseen.unsqueeze(1)
        return packing.unpad(_plain(queries, keys, values, added, attention))
    # The row that belongs to the one token that asks, for each text.
    asking = packing.lengths - 1 if only == "last" else torch.zeros_like(packing.lengths)
    text = torch.arange(len(asking), device=asking.device) if len(unseen) > 1 else torch.zeros_like(asking)
    added = unseen[text, asking].unsqueeze(1)
    if biases:
        added = added + biases[0].values[:, asking].transpose(0, 1)
    return _plain(queries, keys, values, added.unsqueeze(2), attention).squeeze(1)


def _plain(queries: Tensor, keys: Tensor, values: Tensor, added: Tensor, attention: Attention) -> Tensor:
    """Two batched products; queries that share a key head are rows of one matrix. See `_fused`; `added` to the scores
    is (n or 1, heads or 1, asking, length) float32, minus infinity where nothing may be seen."""
    n, asking, heads, size = queries.shape
    length, key_heads = keys.shape[1:3]
    group = heads // key_heads
    rows = queries.view(n, asking, key_heads, group, size).permute(0, 2, 3, 1, 4)
    rows = rows.reshape(n * key_heads, group * asking, size)
    columns = keys.transpose(1, 2).reshape(n * key_heads, length, size)
    scores = torch.bmm(rows, columns.transpose(1, 2)).view(n, key_heads, group, asking, length)
    scale = attention.scale
    if attention.softcap:
        scores = torch.tanh(scores.float() * (scale / attention.softcap)) * attention.softcap
        scale = 1.0
    # One sum masks, scales and makes float32 of the scores, in less than half the time of three steps.
    scores = torch.add(added.unsqueeze(2), scores, alpha=scale)
    weights = torch.softmax(scores, dim=-1).to(values.dtype)
    weights = dropped(weights, attention.dropout)
    content = values.transpose(1, 2).reshape(n * key_heads, length, size)
    attended = torch.bmm(weights.view(n * key_heads, group * asking, length), content)
    return attended.view(n, key_heads, group, asking, size).permute(0, 3, 1, 2, 4).reshape(n, asking, heads * size)


def _fused(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, attention: Attention) -> Tensor:
    """torch's kernel. Queries (n, asking, heads, size), keys and values (n, length, key heads, size), mask
    (n or 1, heads or 1, asking, length), bool or added to the scores → (n, asking, heads · size)."""
    shared = queries.shape[2] // keys.shape[2]
    if shared > 1 and queries.device.type == "cuda" and (mask is not None or queries.dtype == torch.float32):
        # Only the flash kernel, for 16-bit types and no mask, lets queries share keys there; otherwise torch would hold
        # the scores of all heads at once: 2.9 GB instead of 0.1 for 32 texts of 1,024 tokens, in four times the time.
        keys, values = (part.repeat_interleave(shared, dim=2) for part in (keys, values))
    with sdpa_kernel(_KERNELS):
        attended = scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=mask,
            is_causal=attention.causal and mask is None,
            dropout_p=attention.dropout,
            scale=attention.scale,
            enable_gqa=queries.shape[2] != keys.shape[2],
        )
    return attended.transpose(1, 2).flatten(2)
