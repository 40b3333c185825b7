"""What differs between model families: where the blocks are, what surrounds them, how they call a head.

A family says how Transformers' own forward pass of that architecture falls into embedding, blocks and final
norm, so that `rehead.bases.cut` can run any stretch of blocks. The blocks themselves are Transformers'.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_bidirectional_sliding_window_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
)

# Keyword arguments for each kind of block (`config.layer_types`; one kind, "full_attention", where it has none).
BlockArguments = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class HeadParts:
    """What a family's sequence-classification class puts between the pooled token and the logits.

    Attributes:
        projection: layers before the linear one (BERT's pooler, RoBERTa's dense layer), or None.
        dropout: probability, just before the linear layer, while training.
        linear: dotted name of the linear layer in the sequence-classification model.
    """

    projection: nn.Module | None
    dropout: float
    linear: str


@dataclass(frozen=True)
class Family:
    """How an architecture is cut.

    Attributes:
        causal: whether a token sees only what stands before it.
        blocks: dotted name of the list of blocks in the backbone.
        norm: dotted name of the final norm, or None.
        embed: (backbone, input_ids, attention_mask) → hidden states that enter block 0.
        arguments: (backbone, hidden, attention_mask) → what a block is called with beside the hidden states.
        head_parts: (sequence-classification model) → its head.
    """

    causal: bool
    blocks: str
    norm: str | None
    embed: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
    arguments: Callable[[Any, Tensor, Tensor | None], BlockArguments]
    head_parts: Callable[[Any], HeadParts]


def _positions(hidden: Tensor) -> Tensor:
    return torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)


def _mask_arguments(backbone: Any, hidden: Tensor, attention_mask: Tensor | None) -> dict[str, Any]:
    return {"config": backbone.config, "inputs_embeds": hidden, "attention_mask": attention_mask}


def _rotary_embed(backbone: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    embedded: Tensor = backbone.get_input_embeddings()(input_ids)
    return embedded


def _rotary_arguments(backbone: Any, hidden: Tensor, attention_mask: Tensor | None) -> BlockArguments:
    """Llama and its kin: causal masks, full or windowed, and rotary positions that all blocks share."""
    config = backbone.config
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    positions = _positions(hidden)
    masks = {
        **_mask_arguments(backbone, hidden, attention_mask),
        "past_key_values": None,
        "position_ids": positions,
    }
    # Mistral has a window but no layer types: all of its blocks use it.
    windowed_throughout = getattr(config, "layer_types", None) is None and getattr(config, "sliding_window", None)
    arguments = {}
    for kind in kinds:
        windowed = kind == "sliding_attention" or windowed_throughout
        arguments[kind] = {
            "attention_mask": (create_sliding_window_causal_mask if windowed else create_causal_mask)(**masks),
            "position_ids": positions,
            "position_embeddings": _rotary(backbone, hidden, positions, kind),
        }
    return arguments


def _rotary(backbone: Any, hidden: Tensor, positions: Tensor, kind: str) -> Any:
    # Gemma 3 and ModernBERT rotate windowed and full blocks at different frequencies.
    if backbone.config.model_type in ("gemma3_text", "modernbert"):
        return backbone.rotary_emb(hidden, positions, kind)
    return backbone.rotary_emb(hidden, positions)


def _gpt2_embed(backbone: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    tokens = backbone.wte(input_ids)
    embedded: Tensor = backbone.drop(tokens + backbone.wpe(_positions(tokens)))
    return embedded


def _gpt2_arguments(backbone: Any, hidden: Tensor, attention_mask: Tensor | None) -> BlockArguments:
    positions = _positions(hidden)
    masks = {
        **_mask_arguments(backbone, hidden, attention_mask),
        "past_key_values": None,
        "position_ids": positions,
    }
    return {"full_attention": {"attention_mask": create_causal_mask(**masks), "position_ids": positions}}


def _bert_embed(backbone: Any, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    embedded: Tensor = backbone.embeddings(input_ids=input_ids)
    return embedded


def _bert_arguments(backbone: Any, hidden: Tensor, attention_mask: Tensor | None) -> BlockArguments:
    mask = create_bidirectional_mask(**_mask_arguments(backbone, hidden, attention_mask))
    return {"full_attention": {"attention_mask": mask}}


def _modernbert_arguments(backbone: Any, hidden: Tensor, attention_mask: Tensor | None) -> BlockArguments:
    makers = {
        "full_attention": create_bidirectional_mask,
        "sliding_attention": create_bidirectional_sliding_window_mask,
    }
    positions = _positions(hidden)
    return {
        kind: {
            "attention_mask": makers[kind](**_mask_arguments(backbone, hidden, attention_mask)),
            "position_embeddings": _rotary(backbone, hidden, positions, kind),
        }
        for kind in set(backbone.config.layer_types)
    }


def _score_head(model: Any) -> HeadParts:
    return HeadParts(projection=None, dropout=0.0, linear="score")


def _bert_head(model: Any) -> HeadParts:
    pooler = model.base_model.pooler
    return HeadParts(nn.Sequential(pooler.dense, pooler.activation), model.dropout.p, "classifier")


def _roberta_head(model: Any) -> HeadParts:
    head = model.classifier
    return HeadParts(
        nn.Sequential(nn.Dropout(head.dropout.p), head.dense, nn.Tanh()),
        head.dropout.p,
        "classifier.out_proj",
    )


def _distilbert_head(model: Any) -> HeadParts:
    return HeadParts(nn.Sequential(model.pre_classifier, nn.ReLU()), model.dropout.p, "classifier")


def _modernbert_head(model: Any) -> HeadParts:
    return HeadParts(model.head, model.drop.p, "classifier")


_ROTARY_DECODER = Family(
    causal=True,
    blocks="layers",
    norm="norm",
    embed=_rotary_embed,
    arguments=_rotary_arguments,
    head_parts=_score_head,
)

# By `config.model_type`.
FAMILIES = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text"), _ROTARY_DECODER),
    "gpt2": Family(True, "h", "ln_f", _gpt2_embed, _gpt2_arguments, _score_head),
    "bert": Family(False, "encoder.layer", None, _bert_embed, _bert_arguments, _bert_head),
    "roberta": Family(False, "encoder.layer", None, _bert_embed, _bert_arguments, _roberta_head),
    "distilbert": Family(False, "transformer.layer", None, _bert_embed, _bert_arguments, _distilbert_head),
    "modernbert": Family(False, "layers", "final_norm", _bert_embed, _modernbert_arguments, _modernbert_head),
}
