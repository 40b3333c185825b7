"""Put a new output layer behind a backbone: pooling, what the family puts behind it, and one linear layer.

`last` (decoders) and `cls` (encoders) are the family's own sequence-classification head, so that what is
saved is that class. `mean`, `both` and `layers` are rehead's; the last reads what several layers made of the text.

An encoder's mean is brought to one length: that of short texts is longer, which says little about their topic
(docs/decisions/2026-11-28-an-encoders-mean-at-one-length.md).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rehead.models.backbone import Backbone
from rehead.runtime.errors import SettingError

POOLINGS = ("last", "mean", "both", "cls", "layers")

# The most layers whose states a head with `layers` pooling sees.
_READ_AT_MOST = 6
# Log odds of a class that no training example has, where the classifier beside the head has infinite ones.
OVERWHELMING = 27.6
# Rows that the projection takes at once.
_PORTION = 4096
# Against division by zero.
_LEAST = 1e-12


def finite(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return logits that can be added to others, those of a classifier beside a head: infinite odds, of classes that
    all or no training examples have, are very large or small.
    """
    return np.clip(logits, -OVERWHELMING, OVERWHELMING)


class Head(nn.Module):
    """Pooled features → logits.

    Attributes:
        pooling: one of `POOLINGS`.
        reads: after how many layers the states are that it sees, in rising order; the last is the depth.
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

    def seen_by_linear(self, pooled: Tensor) -> npt.NDArray[np.float32]:
        """Return what the linear layer sees of pooled features (n, width): (n, width of the layer).

        A portion at a time: of a million texts, what comes between would be several gigabytes.
        """
        if isinstance(self.projection, nn.Identity):
            return pooled.numpy()
        seen = torch.empty(len(pooled), self.linear.in_features)
        with torch.inference_mode():
            for part, portion in zip(seen.split(_PORTION), pooled.split(_PORTION), strict=True):
                part.copy_(self.projection(portion))
        return seen.numpy()


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


def candidates(summary_position: str | None) -> tuple[str, ...]:
    """Return the poolings of one layer that "auto" measures; the family's own first, so that it is taken in a tie.

    Args:
        summary_position: see `Backbone.summary_position`.
    """
    return ("mean",) if summary_position is None else (summary_position, "mean", "both")


def is_family_head(pooling: str) -> bool:
    """Return whether a classifier with this pooling is a Transformers sequence-classification model."""
    return pooling in ("last", "cls")


def read_after(pooling: str, depth: int) -> list[int]:
    """Return after how many layers a head reads states: all `depth`, or with `layers` up to six on the way too."""
    if pooling != "layers":
        return [depth]
    n = min(depth, _READ_AT_MOST)
    return [-(-depth * i // n) for i in range(1, n + 1)]


def build(backbone: Backbone, pooling: str, n_classes: int, seed: int, depth: int | None = None) -> Head:
    """Return the head for a backbone: the family's own for `last` and `cls`, a new linear layer for the other poolings.

    Args:
        depth: behind how many layers it stands; all that there are by default.

    Raises:
        SettingError: a decoder has no `cls` token that has seen the text, an encoder's `last` is not special.
    """
    check_pooling(pooling, backbone.summary_position)
    reads = read_after(pooling, depth or len(backbone.layers))
    if parts := backbone.family_head(pooling):
        linear = backbone.model.get_submodule(parts.linear)
        return Head(pooling, reads, parts.projection or nn.Identity(), linear).eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linear = nn.Linear(sum(width(backbone, pooling, read) for read in reads), n_classes)
    parts_of_all = halves(pooling, backbone.summary_position) * len(reads)
    projection = MeansAtOneLength(parts_of_all) if backbone.means_at_one_length else nn.Identity()
    return Head(pooling, reads, projection, linear).eval()


def check_pooling(pooling: str, summary_position: str | None) -> None:
    """Raise SettingError where the pooling is unknown or does not suit the model; see `Backbone.summary_position`."""
    if pooling not in POOLINGS:
        raise SettingError(f"`pool` must be one of auto, {', '.join(POOLINGS)}, not {pooling!r}")
    if summary_position is None and pooling not in ("mean", "layers"):
        raise SettingError(f"`pool={pooling!r}` needs a model with a token for all of the input; use mean or layers")
    if pooling == "cls" and summary_position != "cls":
        raise SettingError("`pool='cls'` needs an encoder: a decoder's first token has not seen the text; use last")
    if pooling == "last" and summary_position != "last":
        raise SettingError("`pool='last'` needs a decoder: an encoder is made for its first token; use cls or mean")


def width(backbone: Backbone, pooling: str, depth: int) -> int:
    """Return the width of what an input becomes after `depth` layers."""
    return len(halves(pooling, backbone.summary_position)) * backbone.width_at(depth)


def halves(pooling: str, summary_position: str | None) -> list[str]:
    """Return the poolings side by side in an input's vector: `both` is the token that has seen all of it, and the mean.

    With `layers` each of the layers' states is pooled that way; where there is no such token, it is the mean alone.
    """
    if pooling not in ("both", "layers"):
        return [pooling]
    return ["mean"] if summary_position is None else [summary_position, "mean"]


def part_of_both(both: Tensor, pooling: str, summary_position: str | None) -> Tensor:
    """Turn features pooled as `both`, (n, width), into one of its halves; leave those of `both` and `layers`."""
    if summary_position is None or pooling in ("both", "layers"):
        return both
    first, mean = both.chunk(2, dim=-1)
    return mean if pooling == "mean" else first


def describe(backbone: Backbone, head: Head, architectures: list[str], trainable: int) -> str:
    """Say what was replaced: "output layer 576 → 49,152 replaced by 576 → 2; trainable 3,541,824 of ..."."""
    linear = head.linear
    new = f"{linear.in_features:,} → {linear.out_features:,}"
    had_vocabulary = backbone.summary_position == "last" or any(
        "MaskedLM" in name or "CausalLM" in name for name in architectures
    )
    total = parameters(backbone, head)
    added = f"output layer {new} added"
    if had_vocabulary:
        added = f"output layer {backbone.hidden_size:,} → {backbone.config.vocab_size:,} replaced by {new}"
    return f"{added}; trainable {trainable:,} of {total:,}"


def parameters(backbone: Backbone, head: Head) -> int:
    """Return the number of weights of backbone and head together; shared ones count once."""
    return sum(weight.numel() for weight in {*backbone.body.parameters(), *head.parameters()})


def scale_logits(head: Head, factor: float) -> None:
    """Multiply all logits that the head gives by a factor, in the weights of its linear layer."""
    with torch.no_grad():
        for weight in head.linear.parameters():
            weight.mul_(factor)


def set_linear(head: Head, weights: Mapping[str, Tensor]) -> None:
    """Write solved weights (`weight`, and `bias` where the layer has one) into the linear layer."""
    with torch.no_grad():
        head.linear.weight.copy_(weights["weight"])
        if head.linear.bias is not None:
            head.linear.bias.copy_(weights["bias"])
