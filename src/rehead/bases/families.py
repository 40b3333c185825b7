"""What differs between model families: where the blocks are, what surrounds them, how they call a head.

A family says how Transformers' own forward pass of that architecture falls into embedding, blocks and final
norm, so that `rehead.bases.cut` can run any stretch of blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rehead.bases import blocks as block_of
from rehead.bases.blocks import Block
from rehead.bases.packing import Packing


@dataclass(frozen=True)
class HeadParts:
    """What a family's sequence-classification class puts between the pooled token and the logits, without its dropout.

    Attributes:
        projection: layers before the linear one (BERT's pooler, RoBERTa's dense layer), or None.
        linear: dotted name of the linear layer in the sequence-classification model.
    """

    projection: nn.Module | None
    linear: str


@dataclass(frozen=True)
class Family:
    """How an architecture is cut.

    Attributes:
        causal: whether a token sees only what stands before it.
        blocks: dotted name of the list of blocks in the backbone.
        norm: dotted name of the final norm, or None.
        embed: (backbone, token ids (T,), packing) → states that enter block 0, (T, hidden_size).
        block: what a block computes.
        head_parts: (sequence-classification model) → its head.
    """

    causal: bool
    blocks: str
    norm: str | None
    embed: Callable[[Any, Tensor, Packing], Tensor]
    block: Block
    head_parts: Callable[[Any], HeadParts]


def rotary(backbone: Any, hidden: Tensor, packing: Packing, kind: str) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines for a row of tokens, (T, 1, head size) each; None where positions are in the embedding."""
    if not hasattr(backbone, "rotary_emb"):
        return None
    positions = packing.positions.unsqueeze(0)
    # Gemma 3 and ModernBERT rotate windowed and full blocks at different frequencies.
    by_kind = (kind,) if backbone.config.model_type in ("gemma3_text", "modernbert") else ()
    cosine, sine = backbone.rotary_emb(hidden.unsqueeze(0), positions, *by_kind)
    return cosine[0].unsqueeze(1), sine[0].unsqueeze(1)


def window(config: Any, kind: str) -> int | None:
    """How many tokens away a block of this kind sees, or None for all; see `Packing.mask`."""
    size: int | None = getattr(config, "sliding_window", None)
    if config.model_type == "modernbert" and size is not None:
        # Its number is the farthest distance, not the first that is out of sight.
        return size + 1 if kind == "sliding_attention" else None
    # Mistral has a window but no kinds of blocks: all of its blocks use it.
    windowed = kind == "sliding_attention" or getattr(config, "layer_types", None) is None
    return size if windowed else None


def _token_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    embedded: Tensor = backbone.get_input_embeddings()(input_ids)
    return embedded


def _gpt2_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    embedded: Tensor = backbone.drop(backbone.wte(input_ids) + backbone.wpe(packing.positions))
    return embedded


def _bert_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    row = input_ids.unsqueeze(0)
    positions = packing.positions.unsqueeze(0)
    embedded: Tensor = backbone.embeddings(row, position_ids=positions, token_type_ids=torch.zeros_like(row))
    return embedded[0]


def _roberta_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    # Positions begin behind the padding id, and count what is not that id.
    padding = backbone.embeddings.padding_idx
    real = (input_ids != padding).long()
    counted = torch.cat([torch.zeros_like(real[:1]), real.cumsum(0)])
    before = torch.repeat_interleave(counted[packing.offsets[:-1]], packing.lengths, output_size=len(input_ids))
    positions = (counted[1:] - before) * real + padding
    row = input_ids.unsqueeze(0)
    types = torch.zeros_like(row)
    embedded: Tensor = backbone.embeddings(row, position_ids=positions.unsqueeze(0), token_type_ids=types)
    return embedded[0]


def _distilbert_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    embedded: Tensor = backbone.embeddings(input_ids.unsqueeze(0), position_ids=packing.positions.unsqueeze(0))
    return embedded[0]


def _modernbert_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    embedded: Tensor = backbone.embeddings(input_ids=input_ids)
    return embedded


def _score_head(model: Any) -> HeadParts:
    return HeadParts(projection=None, linear="score")


def _bert_head(model: Any) -> HeadParts:
    pooler = model.base_model.pooler
    return HeadParts(nn.Sequential(pooler.dense, pooler.activation), "classifier")


def _roberta_head(model: Any) -> HeadParts:
    head = model.classifier
    return HeadParts(nn.Sequential(head.dense, nn.Tanh()), "classifier.out_proj")


def _distilbert_head(model: Any) -> HeadParts:
    return HeadParts(nn.Sequential(model.pre_classifier, nn.ReLU()), "classifier")


def _modernbert_head(model: Any) -> HeadParts:
    return HeadParts(model.head, "classifier")


_ROTARY_DECODER = Family(True, "layers", "norm", _token_embed, block_of.rotary_decoder, _score_head)
_BERT_BLOCKS = "encoder.layer"

# By `config.model_type`.
FAMILIES = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text"), _ROTARY_DECODER),
    "gpt2": Family(True, "h", "ln_f", _gpt2_embed, block_of.gpt2, _score_head),
    "bert": Family(False, _BERT_BLOCKS, None, _bert_embed, block_of.bert, _bert_head),
    "roberta": Family(False, _BERT_BLOCKS, None, _roberta_embed, block_of.bert, _roberta_head),
    "distilbert": Family(False, "transformer.layer", None, _distilbert_embed, block_of.distilbert, _distilbert_head),
    "modernbert": Family(False, "layers", "final_norm", _modernbert_embed, block_of.modernbert, _modernbert_head),
}
