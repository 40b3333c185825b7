"""Say what differs between model families: where the layers are, what surrounds them, how they call a head.

A family says how Transformers' own forward pass of that architecture falls into embedding, layers and final
norm, so that `rehead.models.text_backbone` can run any stretch of layers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rehead.models import layers as layer_of
from rehead.models.layers import Layer
from rehead.models.packing import Packing, ScoreBias

# Of MPNet's relative positions, as Transformers has them, whatever the configuration says; beyond the farthest distance
# all share a bucket.
_BUCKETS, _FARTHEST = 32, 128


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
class SavedLayout:
    """Under which names a backbone and a linear layer behind it are saved.

    Attributes:
        architecture: the class of Transformers that reads them.
        body: what stands before the names of the backbone's tensors.
        linear: before `weight` and `bias` of the linear layer.
    """

    architecture: str
    body: str
    linear: str


@dataclass(frozen=True)
class Family:
    """How an architecture is cut.

    Attributes:
        layers: dotted name of the list of layers in the model without its head.
        norm: dotted name of the final norm there; None where the family has none.
    """

    layers: str
    norm: str | None


@dataclass(frozen=True)
class TextFamily(Family):
    """How an architecture that reads texts is cut.

    Attributes:
        causal: whether a token sees only what stands before it.
        embed: (backbone, token ids (T,), packing) → states that enter layer 0, (T, hidden_size).
        layer: what a layer computes.
        head_parts: (sequence-classification model) → its head.
        bias: (backbone, packing) → what all layers add to their scores, (heads, longest, longest) float32; None for
            families that add nothing.
        positions_behind_padding: whether positions are counted from behind the padding id, which leaves fewer of them.
    """

    causal: bool
    embed: Callable[[Any, Tensor, Packing], Tensor]
    layer: Layer
    head_parts: Callable[[Any], HeadParts]
    bias: Callable[[Any, Packing], Tensor] | None = None
    positions_behind_padding: bool = False

    def biases(self, backbone: Any, packing: Packing) -> list[ScoreBias]:
        """Return what layers add to the scores of each of the packing's stretches; an empty list for most families."""
        return [] if self.bias is None else ScoreBias.of_stretches(self.bias(backbone, packing), packing)


def rotary(backbone: Any, hidden: Tensor, packing: Packing, kind: str) -> tuple[Tensor, Tensor] | None:
    """Return cosines and sines of a row of tokens, (T, 1, head size); None where positions are in the embedding."""
    if not hasattr(backbone, "rotary_emb"):
        return None
    positions = packing.positions.unsqueeze(0)
    # Gemma 3 and ModernBERT rotate windowed and full layers at different frequencies.
    by_kind = (kind,) if backbone.config.model_type in ("gemma3_text", "modernbert") else ()
    cosine, sine = backbone.rotary_emb(hidden.unsqueeze(0), positions, *by_kind)
    return cosine[0].unsqueeze(1), sine[0].unsqueeze(1)


def window(config: Any, kind: str) -> int | None:
    """Return how many tokens away a layer of this kind sees, or None for all; see `Packing.mask`."""
    size: int | None = getattr(config, "sliding_window", None)
    if config.model_type == "modernbert" and size is not None:
        # Its number is the farthest distance, not the first that is out of sight.
        return size + 1 if kind == "sliding_attention" else None
    # Mistral has a window but no kinds of layers: all of its layers use it.
    windowed = kind == "sliding_attention" or getattr(config, "layer_types", None) is None
    return size if windowed else None


def _token_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    embedded: Tensor = backbone.get_input_embeddings()(input_ids)
    return embedded


def _gpt2_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    embedded: Tensor = backbone.drop(backbone.wte(input_ids) + backbone.wpe(packing.positions))
    return embedded


def _encoder_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    return _at_positions(backbone, input_ids, packing.positions)


def _roberta_embed(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    return _at_positions(backbone, input_ids, _behind_padding(backbone, input_ids, packing))


def _at_positions(backbone: Any, input_ids: Tensor, positions: Tensor) -> Tensor:
    row = input_ids.unsqueeze(0)
    has_types = hasattr(backbone.embeddings, "token_type_embeddings")
    types = {"token_type_ids": torch.zeros_like(row)} if has_types else {}
    embedded: Tensor = backbone.embeddings(row, position_ids=positions.unsqueeze(0), **types)
    return embedded[0]


def _behind_padding(backbone: Any, input_ids: Tensor, packing: Packing) -> Tensor:
    """Return positions (T,) int64 that begin behind the padding id and count, in each text, what is not that id."""
    padding: int = backbone.embeddings.padding_idx
    real = (input_ids != padding).long()
    counted = torch.cat([torch.zeros_like(real[:1]), real.cumsum(0)])
    before = torch.repeat_interleave(counted[packing.offsets[:-1]], packing.lengths, output_size=len(input_ids))
    return (counted[1:] - before) * real + padding


def _mpnet_bias(backbone: Any, packing: Packing) -> Tensor:
    """Return the relative position bias of T5 (Raffel et al., JMLR 2020, arXiv 1910.10683), as MPNet took it over."""
    encoder, longest = backbone.encoder, packing.longest
    distances = torch.arange(1 - longest, longest, device=packing.lengths.device)
    by_distance: Tensor = encoder.relative_attention_bias(_bucket_of(distances))
    # The first token looks at distances 0 to longest - 1, each later one at a window that begins one place before.
    return by_distance.T.unfold(1, longest, 1).flip(1)


def _bucket_of(distances: Tensor) -> Tensor:
    """Return (m,) int64, the bucket of each distance: half of them for each side, near ones with one of their own."""
    half = _BUCKETS // 2
    near, away = half // 2, distances.abs()
    far = near + (torch.log(away.float() / near) / math.log(_FARTHEST / near) * (half - near)).long()
    return (distances > 0).long() * half + torch.where(away < near, away, far.clamp(max=half - 1))


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


_ROTARY_DECODER = TextFamily("layers", "norm", True, _token_embed, layer_of.rotary_decoder, _score_head)
_BERT_LAYERS = "encoder.layer"

# By `config.model_type`.
TEXT_FAMILIES = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text"), _ROTARY_DECODER),
    "gpt2": TextFamily("h", "ln_f", True, _gpt2_embed, layer_of.gpt2, _score_head),
    "bert": TextFamily(_BERT_LAYERS, None, False, _encoder_embed, layer_of.bert, _bert_head),
    "roberta": TextFamily(
        _BERT_LAYERS, None, False, _roberta_embed, layer_of.bert, _roberta_head, positions_behind_padding=True
    ),
    "mpnet": TextFamily(_BERT_LAYERS, None, False, _roberta_embed, layer_of.mpnet, _roberta_head, _mpnet_bias, True),
    "distilbert": TextFamily("transformer.layer", None, False, _encoder_embed, layer_of.distilbert, _distilbert_head),
    "modernbert": TextFamily("layers", "final_norm", False, _modernbert_embed, layer_of.modernbert, _modernbert_head),
}
