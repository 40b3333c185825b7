"""Sequences of unequal length in one tensor, with no padding: all values end to end, and where each begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """n sequences: token ids, or one vector a token.

    Attributes:
        values: (total length, ...) all sequences one after the other.
        offsets: (n + 1,) int64; sequence i is values[offsets[i]:offsets[i + 1]].
    """

    values: Tensor
    offsets: Tensor

    @classmethod
    def from_lists(cls, sequences: Sequence[Sequence[int]]) -> Ragged:
        lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
        values = torch.tensor([value for sequence in sequences for value in sequence], dtype=torch.int64)
        return cls(values, offsets_of(lengths))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """(n,) int64."""
        return self.offsets.diff()

    def take(self, rows: Tensor) -> Ragged:
        """The given sequences, in that order."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        shift = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.values[shift + torch.arange(int(offsets[-1]))], offsets)

    def padded(self, rows: Tensor, fill: int = 0) -> tuple[Tensor, Tensor]:
        """The given sequences as one batch, padded on the right with `fill`.

        Args:
            rows: (m,) int64, which sequences.

        Returns:
            values: (m, longest of them, ...), and attention mask: (m, longest) int64, 1 where a value is real.
        """
        positions, mask = self._positions(rows)
        batch = self.values[positions.clamp(max=len(self.values) - 1)]
        batch[~mask] = fill
        return batch, mask.long()

    def write(self, rows: Tensor, batch: Tensor) -> None:
        """Stores a right-padded batch (m, longest, ...) as the given sequences; padding is left out."""
        positions, mask = self._positions(rows)
        self.values[positions[mask]] = batch[mask].to(self.values.dtype)

    def _positions(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        lengths = self.lengths[rows]
        steps = torch.arange(int(lengths.max()))
        return self.offsets[rows].unsqueeze(1) + steps, steps < lengths.unsqueeze(1)


def offsets_of(lengths: Tensor) -> Tensor:
    """Where sequences of these lengths (n,) begin when they lie end to end, and where the last ends: (n + 1,) int64."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
