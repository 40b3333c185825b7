"""Sequences of unequal length in one tensor, with no padding: all values end to end, and where each begins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from rehead.models.image_transforms import Pixels

# n inputs of a trunk, each a sequence to it: token ids, or an image.
Sequences: TypeAlias = "Ragged | Pixels"


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
        return cls.of(values, lengths)

    @classmethod
    def of(cls, values: Tensor, lengths: Tensor) -> Ragged:
        """Return sequences of these lengths (n,) that lie end to end in `values`."""
        return cls(values, offsets_of(lengths))

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """Return the sequences of all parts, one part after the other; of no parts, no token ids."""
        if not parts:
            return cls.from_lists([])
        return cls.of(torch.cat([part.values for part in parts]), torch.cat([part.lengths for part in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """(n,) int64."""
        return self.offsets.diff()

    def digests(self) -> npt.NDArray[np.uint8]:
        """(n, 16): of each sequence, a digest of its values."""
        values, bounds = self.values.numpy(), self.offsets.tolist()
        digests = [
            hashlib.blake2b(values[start:stop].tobytes(), digest_size=16).digest() for start, stop in pairwise(bounds)
        ]
        return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)

    def changed(self) -> Ragged:
        """Return the same: texts stay as they are."""
        return self

    def take(self, rows: Tensor) -> Ragged:
        """Return some of the sequences, in the order of `rows`."""
        lengths = self.lengths[rows]
        offsets = offsets_of(lengths)
        shift = torch.repeat_interleave(self.offsets[rows] - offsets[:-1], lengths)
        return Ragged(self.values[shift + torch.arange(int(offsets[-1]))], offsets)


def offsets_of(lengths: Tensor) -> Tensor:
    """Return (n + 1,) int64: where sequences of these lengths (n,) begin, end to end, and where the last one ends."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
