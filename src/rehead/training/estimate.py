"""Estimate what a fit will take before it is begun: tokens, operations, seconds, memory, disk."""

from __future__ import annotations

from dataclasses import dataclass

from rehead.models.heads import read_after, width
from rehead.runtime import hardware
from rehead.training.depth_search import sample_rows
from rehead.training.encoding import EncodedData
from rehead.training.features import forward_flops, training_flops
from rehead.training.strategies import cut_for, planned, recipe_for, training_seconds
from rehead.training.tail import activation_bytes

# The trunk pass reaches about this share of a plain matrix product's speed.
_TRUNK_EFFICIENCY = 0.75
# Python, torch and Transformers, before anything is loaded.
_LIBRARIES_BYTES = 700e6
# AdamW's two moments, the gradient, and the best weights so far.
_BYTES_A_TRAINED_WEIGHT = 16


@dataclass(frozen=True)
class Plan:
    """An estimate: with depth "auto" as if all blocks were kept, with nothing in the cache.

    Attributes:
        tokens: of training and validation texts.
        trunk_flops, training_flops: floating-point operations of the trunk pass and of training blocks; with `auto`, of
            the first way beyond the probe, which alone may stop it. The budget bounds the others.
        seconds: of both; not of loading, the probe and the test.
        peak_memory_bytes: of the process.
        features_bytes: that go to the cache.
    """

    tokens: int
    trunk_flops: float
    training_flops: float
    seconds: float
    peak_memory_bytes: float
    features_bytes: float


def estimate(data: EncodedData) -> Plan:
    """Return what `finetune` will take; computes nothing but the speed of a matrix product."""
    base, texts = data.base, data.encoded
    tokens = int(texts.tokens.sum())
    deepest, candidates = max(data.depths), data.candidates
    tune = next(iter(planned(data, deepest)), "head")
    cut, recipe = cut_for(tune, deepest), recipe_for(data, tune)
    poolings = {pooling for pooling, _ in candidates}
    one_width = width(base, next(iter(poolings)) if len(poolings) == 1 else "both", deepest)
    pooled_width = one_width * max(len(read_after(pooling, deepest)) for pooling in poolings)
    trunk = forward_flops(base, tokens, 0, deepest)
    features = 4.0 * pooled_width * len(data.labels)
    if len(candidates) > 1:
        rows, _ = sample_rows(data)
        features += 4.0 * one_width * len(rows) * len(data.depths)
        if tune != "head" and len(data.depths) > 1:
            trunk += forward_flops(base, int(texts.tokens[rows].sum()), 0, deepest)
    pooled = features
    recomputed = 0 < cut < deepest and not data.keeps_tokens(cut)
    if 0 < cut < deepest and not recomputed:
        features += tokens * base.width_at(cut) * hardware.native_dtype().itemsize
    tokens_trained = int(texts.tokens[: data.n_train].sum())
    training = recipe.epochs * training_flops(base, tokens_trained, cut, deepest, kept=not recomputed)
    weights = sum(weight.numel() for weight in base.body.parameters())
    trained = {"head": 0, "lora": 0, "full": weights}.get(
        tune, sum(weight.numel() for block in base.layers[cut:deepest] for weight in block.parameters())
    )
    # What one portion of a training step keeps for its backward pass, unless it is recomputed.
    activations = min(activation_bytes(base, cut, deepest), hardware.free_device_memory() / 2) if cut < deepest else 0
    speed = hardware.product_speed(base.frozen_dtype)
    return Plan(
        tokens=tokens,
        trunk_flops=trunk,
        training_flops=training,
        seconds=trunk / (_TRUNK_EFFICIENCY * speed) + training_seconds(data, recipe, training, deepest - cut),
        # Pooled features are gathered and scaled.
        peak_memory_bytes=_LIBRARIES_BYTES
        + weights * (4 + base.frozen_dtype.itemsize)  # and the frozen copy
        + trained * _BYTES_A_TRAINED_WEIGHT
        + 2 * pooled
        + activations,
        features_bytes=features,
    )
