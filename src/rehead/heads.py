"""The new output layer: pooling, what the family puts behind it, and one linear layer.

`last` (decoders) and `cls` (encoders) are the family's own sequence-classification head, so that what is
saved is that class. `mean`, `both` and `layers` are rehead's; the last reads what several blocks made of the text.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rehead.bases.cut import Base
from rehead.errors import SettingError

POOLINGS = ("last", "mean", "both", "cls", "layers")

# So many blocks' states a head with `layers` pooling sees at most.
_READ_AT_MOST = 6


class Head(nn.Module):
    """Pooled features → logits.

    Attributes:
        pooling: one of `POOLINGS`.
        reads: after how many blocks the states are that it sees, in rising order; the last is the depth.
        projection: what the family puts before the linear layer; the identity for most.
        linear: (n_classes, width).
    """

    def __init__(
        self, pooling: str, reads: list[int], projection: nn.Module, dropout: float, linear: nn.Linear
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.reads = reads
        self.projection = projection
        self.dropout = nn.Dropout(dropout)
        self.linear = linear

    def forward(self, pooled: Tensor) -> Tensor:
        """(n, width) float32 → logits (n, n_classes) float32."""
        logits: Tensor = self.linear(self.dropout(self.projection(pooled)))
        return logits


def candidates(causal: bool) -> tuple[str, ...]:
    """The poolings of one block's states that "auto" measures; the family's own first, so that it is taken in a tie."""
    return (_whole_text(causal), "mean", "both")


def _whole_text(causal: bool) -> str:
    """The token whose state stands for the whole text."""
    return "last" if causal else "cls"


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
    check_pooling(pooling, base.family.causal)
    reads = read_after(pooling, depth or len(base.blocks))
    if is_family_head(pooling):
        parts = base.family.head_parts(base.model)
        linear = base.model.get_submodule(parts.linear)
        return Head(pooling, reads, parts.projection or nn.Identity(), parts.dropout, linear).eval()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        linear = nn.Linear(len(reads) * width(base.hidden_size, pooling), n_classes)
    return Head(pooling, reads, nn.Identity(), 0.0, linear).eval()


def check_pooling(pooling: str, causal: bool) -> None:
    """Raises SettingError where the pooling is unknown or does not suit the kind of model."""
    if pooling not in POOLINGS:
        raise SettingError(f"--pool must be one of auto, {', '.join(POOLINGS)}, not {pooling!r}")
    if pooling == "cls" and causal:
        raise SettingError("--pool cls needs an encoder: a decoder's first token has not seen the text; use last")
    if pooling == "last" and not causal:
        raise SettingError("--pool last needs a decoder: an encoder is made for its first token; use cls or mean")


def width(hidden_size: int, pooling: str) -> int:
    """Of what a text becomes after one block."""
    return 2 * hidden_size if pooling in ("both", "layers") else hidden_size


def halves(pooling: str, causal: bool) -> list[str]:
    """The poolings side by side in a text's vector: `both` is the token that has seen the whole text, and the mean.

    With `layers` each of the blocks' states is pooled that way.
    """
    return [_whole_text(causal), "mean"] if pooling in ("both", "layers") else [pooling]


def resolved(pooling: str, causal: bool) -> str:
    """How `Packing.pooled` is to pool."""
    return "+".join(halves(pooling, causal))


def part_of_both(both: Tensor, pooling: str) -> Tensor:
    """Features pooled as `both`, (..., 2 · hidden_size) → as one of its halves, or as they are (`both`, `layers`)."""
    first, mean = both.chunk(2, dim=-1)
    return {"both": both, "layers": both, "mean": mean}.get(pooling, first)


def describe(base: Base, head: Head, architectures: list[str], trainable: int) -> str:
    """Says what was replaced: "output layer 576 → 49,152 replaced by 576 → 2; trainable 3,541,824 of ..."."""
    linear = head.linear
    new = f"{linear.in_features:,} → {linear.out_features:,}"
    had_vocabulary = base.family.causal or any("MaskedLM" in name or "CausalLM" in name for name in architectures)
    old = f"output layer {base.hidden_size:,} → {base.config.vocab_size:,} replaced by {new}"
    total = parameters(base, head)
    return f"{old if had_vocabulary else f'output layer {new} added'}; trainable {trainable:,} of {total:,}"


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
