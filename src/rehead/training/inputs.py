"""What enters the blocks that are trained: token states that were kept, or that are computed anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from rehead.models.backbone import Backbone
from rehead.models.packing import Packing
from rehead.models.sequences import Sequences
from rehead.runtime import hardware
from rehead.training.feature_cache import Pieces


@dataclass(frozen=True)
class Kept:
    """Token states of n texts at the cut that the trunk pass has kept.

    Attributes:
        below: (n, width), pooled states after frozen blocks that the head reads too, if it reads any; float32.
    """

    states: Pieces
    below: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """(n,) int64, tokens a text."""
        return self.states.lengths

    def hidden(self, rows: Tensor, packing: Packing) -> Tensor:
        """Return the states of these texts at the cut, packed: (T, hidden_size) float32 on the device."""
        return self.states.packed(rows).to(hardware.device()).float()


@dataclass(frozen=True)
class Computed:
    """Token states that are computed anew each time: nothing is frozen (cut 0), or they are too large to keep.

    Attributes:
        base: goes to the device here and stays there.
        below: as of `Kept`.
        anew: whether images are changed each time, see `Pixels.changed`.
    """

    base: Backbone
    ids: Sequences
    cut: int
    below: Tensor | None = None
    anew: bool = False

    def __post_init__(self) -> None:
        self.base.model.to(hardware.device())

    @property
    def lengths(self) -> Tensor:
        return self.ids.lengths

    def hidden(self, rows: Tensor, packing: Packing) -> Tensor:
        taken = self.ids.take(rows)
        ids = (taken.changed() if self.anew else taken).values.to(hardware.device())
        if self.cut == 0:
            return self.base.embed(ids, packing)
        training = self.base.model.training
        self.base.train(False)
        with torch.no_grad(), autocast(self.base.products_in_bf16):
            hidden, filled = self.base.filled(self.base.embed(ids, packing), packing)
            states = filled.unfilled(self.base.run_layers(hidden, filled, 0, self.cut))
        self.base.train(training)
        # Rounded as those that are kept.
        return states.to(torch.bfloat16 if self.base.products_in_bf16 else torch.float32).float()


# What enters the trained blocks.
Inputs: TypeAlias = Kept | Computed


def autocast(in_bf16: bool) -> torch.autocast:
    """Matrix products in bfloat16, or everything as it is."""
    return torch.autocast(hardware.device().type, torch.bfloat16, enabled=in_bf16)
