"""Use a `TextBackbone` as a language model: its own output layer stands where a classification head would."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from rehead.models.text_backbone import TextBackbone

# Logits that are computed at a time: a vocabulary has many times the width of a layer.
_LOGITS = 2**26


def next_token_logits(base: TextBackbone, states: Tensor) -> Tensor:
    """Turn states behind the final norm, (T, hidden_size), into logits of the next token, (T, vocabulary) float32."""
    logits: Tensor = base.model.get_output_embeddings()(states).float()
    cap = getattr(base.config, "final_logit_softcapping", None)  # Gemma 2
    return torch.tanh(logits / cap) * cap if cap else logits


def summed_loss(base: TextBackbone, states: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of the tokens that follow, added up.

    Where the logits are many, they are computed in portions and once more in the backward pass.

    Args:
        states: (T, hidden_size) behind the final norm.
        targets: (T,) int64.
    """

    def loss(some: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(next_token_logits(base, some), wanted, reduction="sum")

    portion = max(1, _LOGITS // int(base.config.vocab_size))
    if len(states) <= portion:
        return loss(states, targets)
    parts = [
        checkpoint(loss, some, wanted, use_reentrant=False) if torch.is_grad_enabled() else loss(some, wanted)
        for some, wanted in zip(states.split(portion), targets.split(portion), strict=True)
    ]
    return torch.stack(parts).sum()


def is_tied(base: TextBackbone) -> bool:
    """Return whether the output layer is the embedding."""
    return base.model.get_output_embeddings().weight is base.model.get_input_embeddings().weight
