"""The new output layer: pooling, what the family puts behind it, and one linear layer.

`last` (decoders) and `cls` (encoders) are the family's own sequence-classification head, so that what is
saved is that class. `mean`, `both` and `layers` are rehead's; the last reads what several blocks made of the text.

An encoder's mean is brought to one length: that of short texts is longer, which says little about their topic
(docs/decisions/2026-11-28-an-encoders-mean-at-one-length.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rehead.models.backbone import Base
from rehead.runtime.errors import SettingError

POOLINGS = ("last", "mean", "both", "cls", "layers")

# So many blocks' states a head with `layers` pooling sees at most.
_READ_AT_MOST = 6
# Log odds of a class that no training example has, where the classifier beside the head has infinite ones.
OVERWHELMING = 27.6
# Against division by zero.
_LEAST = 1e-12


class Beside(Protocol):
    """A classifier of another kind that may stand beside a head: its logits are added to the head's."""

    def logits(self, inputs: Sequence[Any], /) -> npt.NDArray[np.float32]:
        """Return (n, n_classes) for n texts or images."""
        ...


def finite_logits(beside: Beside, inputs: Sequence[Any]) -> npt.NDArray[np.float32]:
    """Return (n, n_classes) logits that can be added to others: minus infinity becomes very small odds."""
    return finite(beside.logits(inputs))


def finite(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return logits whose infinite odds, of classes that all or no training examples have, are very large or small."""
    return np.clip(logits, -OVERWHELMING, OVERWHELMING)


class Head(nn.Module):
    """Pooled features → logits.

    Attributes:
        pooling: one of `POOLINGS`.
        reads: after how many blocks the states are that it sees, in rising order; the last is the depth.
        projection: what the family puts before the linear layer; the identity for most.
        linear: (n_classes, width).
    """

    def __init__(self, pooling: str, reads: list[int], projection: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.pooling = pooling
        self.reads = reads
        self.projection = projection
        self.linear = linear

    def forward(self, pooled: Tensor) -> Tensor:
        """(n, width) float32 → logits (n, n_classes) float32."""
        logits: Tensor = self.linear(self.projection(pooled))
        return logits


class MeansAtOneLength(nn.Module):
    """Parts of pooled features side by side, each of the same width, with a root mean square of 1 in those that are
    means.

    Args:
        parts: their poolings.
    """

    is_mean: Tensor

    def __init__(self, parts: list[str]) -> None:
        super().__init__()
        is_mean = torch.tensor([part == "mean" for part in parts])
        self.register_buffer("is_mean", is_mean.unsqueeze(1), persistent=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """(n, parts · width) → the same shape."""
        parts = pooled.unflatten(-1, (len(self.is_mean), -1))
        at_one_length = parts * torch.rsqrt(parts.square().mean(-1, keepdim=True) + _LEAST)
        return torch.where(self.is_mean, at_one_length, parts).flatten(-2)


def candidates(whole: str | None) -> tuple[str, ...]:
    """The poolings of one block's states that "auto" measures; the family's own first, so that it is taken in a tie.

    Args:
        whole: see `Base.whole`.
    """
    return ("mean",) if whole is None else (whole, "mean", "both")


def is_family_head(pooling: str) -> bool:
    """Whether a classifier with this pooling is a Transformers sequence-classification model."""
    return pooling in ("last", "cls")


def read_after(pooling: str, depth: int) -> list[int]:
    """After how many blocks the states are that a head sees: all `depth`, or with `layers` up to six on the way too."""
    if pooling != "layers":
        return [depth]
    n = min(depth, _READ_AT_MOST)
    return [-(-depth * i // n) for i in range(1, n + 1)]


def build(base: Base, pooling: str, n_classes: int, seed: int, depth: int | None = None) -> Head:
    """The head for a base: the family's own for `last` and `cls`, a new linear layer for the other poolings.

    Args:
        depth: behind how many blocks it stands; all that there are by default.

    Raises:
        SettingError: a decoder has no `cls` token that has seen the text, an encoder's `last` is not special.
    """
    check_pooling(pooling, base.whole)
    reads = read_after(pooling, depth or len(base.blocks))
    if parts := base.family_head(pooling):
        linear = base.model.get_submodule(parts.linear)
        return Head(pooling, reads, parts.projection or nn.Identity(), linear).eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linear = nn.Linear(sum(width(base, pooling, read) for read in reads), n_classes)
    parts_of_all = halves(pooling, base.whole) * len(reads)
    projection = MeansAtOneLength(parts_of_all) if base.means_at_one_length else nn.Identity()
    return Head(pooling, reads, projection, linear).eval()


def check_pooling(pooling: str, whole: str | None) -> None:
    """Raises SettingError where the pooling is unknown or does not suit the kind of model; `whole` as `Base.whole`."""
    if pooling not in POOLINGS:
        raise SettingError(f"`pool` must be one of auto, {', '.join(POOLINGS)}, not {pooling!r}")
    if whole is None and pooling not in ("mean", "layers"):
        raise SettingError(f"`pool={pooling!r}` needs a model with a token for all of the input; use mean or layers")
    if pooling == "cls" and whole != "cls":
        raise SettingError("`pool='cls'` needs an encoder: a decoder's first token has not seen the text; use last")
    if pooling == "last" and whole != "last":
        raise SettingError("`pool='last'` needs a decoder: an encoder is made for its first token; use cls or mean")


def width(base: Base, pooling: str, depth: int) -> int:
    """Of what an input becomes after so many blocks."""
    return len(halves(pooling, base.whole)) * base.width_at(depth)


def halves(pooling: str, whole: str | None) -> list[str]:
    """The poolings side by side in an input's vector: `both` is the token that has seen all of it, and the mean.

    With `layers` each of the blocks' states is pooled that way; where there is no such token, it is the mean alone.
    """
    if pooling not in ("both", "layers"):
        return [pooling]
    return ["mean"] if whole is None else [whole, "mean"]


def part_of_both(both: Tensor, pooling: str, whole: str | None) -> Tensor:
    """Features pooled as `both`, (n, width) → as one of its halves, or as they are (`both`, `layers`)."""
    if whole is None or pooling in ("both", "layers"):
        return both
    first, mean = both.chunk(2, dim=-1)
    return mean if pooling == "mean" else first


def describe(base: Base, head: Head, architectures: list[str], trainable: int) -> str:
    """Says what was replaced: "output layer 576 → 49,152 replaced by 576 → 2; trainable 3,541,824 of ..."."""
    linear = head.linear
    new = f"{linear.in_features:,} → {linear.out_features:,}"
    had_vocabulary = base.whole == "last" or any("MaskedLM" in name or "CausalLM" in name for name in architectures)
    total = parameters(base, head)
    added = f"output layer {new} added"
    if had_vocabulary:
        added = f"output layer {base.hidden_size:,} → {base.config.vocab_size:,} replaced by {new}"
    return f"{added}; trainable {trainable:,} of {total:,}"


def parameters(base: Base, head: Head) -> int:
    """Number of weights of backbone and head together; shared ones count once."""
    return sum(weight.numel() for weight in {*base.backbone.parameters(), *head.parameters()})


def scale_logits(head: Head, factor: float) -> None:
    """Multiplies all logits that the head gives by a factor, in the weights of its linear layer."""
    with torch.no_grad():
        for weight in head.linear.parameters():
            weight.mul_(factor)


def set_linear(head: Head, weights: Mapping[str, Tensor]) -> None:
    """Writes solved weights (`weight`, and `bias` where the layer has one) into the linear layer."""
    with torch.no_grad():
        head.linear.weight.copy_(weights["weight"])
        if head.linear.bias is not None:
            head.linear.bias.copy_(weights["bias"])
