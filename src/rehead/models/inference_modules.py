"""Build the backbones that are used most as plain modules, for prediction and frozen layers without Transformers.

Importing Transformers' model classes takes twice as long as importing torch, and then they draw random numbers for
weights that are read from a file anyway. What is here has the names of Transformers' parameters and what
`rehead.models.layers` and `rehead.models.families` call, and no forward pass of its own. Whatever a configuration asks
for beyond that is left to Transformers (`is_plain`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

# What names of Transformers' classes begin with.
_CLASSES = {"bert": "Bert", "roberta": "Roberta", "mpnet": "MPNet", "llama": "Llama"}
# The most that a configuration may ask for of anything; what is more is for Transformers to refuse.
_LARGEST = 2**24
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_BERT_SIZES = (*_SIZES, "max_position_embeddings", "type_vocab_size")
_REQUIRED_SIZES = {
    "bert": _BERT_SIZES,
    "roberta": _BERT_SIZES,
    "mpnet": (*_SIZES, "max_position_embeddings", "relative_attention_num_buckets"),
    "llama": (*_SIZES, "max_position_embeddings", "num_key_value_heads", "head_dim"),
}
# What a configuration may only say in these words.
_REQUIRED_VALUES: dict[str, dict[str, tuple[Any, ...]]] = {
    "bert": {"is_decoder": (False, None), "add_cross_attention": (False, None)},
    "roberta": {"is_decoder": (False, None), "add_cross_attention": (False, None)},
    "mpnet": {},
    "llama": {"attention_bias": (False, None), "mlp_bias": (False, None)},
}


def is_plain(config: Mapping[str, Any]) -> bool:
    """Return whether a model of this configuration (the content of config.json) can be built here."""
    model_type = config.get("model_type")
    if model_type not in _REQUIRED_SIZES:
        return False
    sizes = [config.get(name) for name in _REQUIRED_SIZES[model_type]]
    values = _REQUIRED_VALUES[model_type].items()
    epsilon = config.get("rms_norm_eps" if model_type == "llama" else "layer_norm_eps")
    return (
        all(type(size) is int and 1 <= size <= _LARGEST for size in sizes)
        and config["num_hidden_layers"] <= 1000
        and config["hidden_size"] % config["num_attention_heads"] == 0
        and all(config.get(name) in allowed for name, allowed in values)
        and type(epsilon) is float
        and 0 <= epsilon < 1
        and config.get("hidden_act") in _ACTIVATIONS
        and (model_type != "llama" or _has_plain_heads(config))
        and (model_type != "roberta" or (type(config.get("pad_token_id")) is int and 0 <= config["pad_token_id"] < 100))
    )


def _has_plain_heads(config: Mapping[str, Any]) -> bool:
    rope = config.get("rope_parameters")
    return (
        isinstance(rope, dict)
        and rope.keys() == {"rope_theta", "rope_type"}
        and rope["rope_type"] == "default"
        and type(rope["rope_theta"]) in (int, float)
        and 1 < rope["rope_theta"] < 1e12
        and config["head_dim"] % 2 == 0
        and config["num_attention_heads"] % config["num_key_value_heads"] == 0
    )


class PlainConfig(SimpleNamespace):
    """What config.json says, and what has been changed of it."""

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json as Transformers reads it; what it has a default for may be missing."""
        content = {**vars(self), "dtype": "float32", "transformers_version": version("transformers")}
        content.pop("_name_or_path", None)  # of whoever published it
        (folder / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class InferenceModel(nn.Module):
    """A backbone with its family's sequence-classification head, or without one.

    Args:
        content: of config.json; one that `is_plain` allows.
        n_classes: of the family's head; None for a model without one.
    """

    def __init__(self, content: Mapping[str, Any], n_classes: int | None) -> None:
        super().__init__()
        self.config = PlainConfig(**content)
        family, width = self.config.model_type, self.config.hidden_size
        self.base_model_prefix = "model" if family == "llama" else family
        body = _Llama(self.config) if family == "llama" else _Encoder(self.config, with_pooler=n_classes is not None)
        self.add_module(self.base_model_prefix, body)
        if n_classes is None:
            return
        if family == "llama":
            self.score = _Linear(width, n_classes, bias=False)
        elif family == "bert":
            self.classifier: nn.Module = _Linear(width, n_classes)
        else:
            self.classifier = nn.ModuleDict({"dense": _Linear(width, width), "out_proj": _Linear(width, n_classes)})

    @property
    def base_model(self) -> nn.Module:
        return self.get_submodule(self.base_model_prefix)

    @property
    def body_class(self) -> str:
        """The class of Transformers that is the model without its head."""
        return f"{_CLASSES[self.config.model_type]}Model"

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        """Write the folder of the family's sequence-classification class, but no tokenizer."""
        self.config.architectures = [f"{_CLASSES[self.config.model_type]}ForSequenceClassification"]
        self.config.save_pretrained(folder)
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    def draw_head(self, seed: int) -> None:
        """Give an encoder's head the random weights that Transformers would give it; it is published without any."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for layer in [module for module in self.classifier.modules() if isinstance(module, nn.Linear)]:
                drawn = torch.empty(layer.weight.shape).normal_(std=getattr(self.config, "initializer_range", 0.02))
                layer.weight = nn.Parameter(drawn, requires_grad=False)
                layer.bias = nn.Parameter(torch.zeros(len(drawn)), requires_grad=False)


class _Linear(nn.Linear):
    """Without first weights: drawing them imports half of torch."""

    def reset_parameters(self) -> None:
        pass


class _Embedding(nn.Embedding):
    """As `_Linear`."""

    def reset_parameters(self) -> None:
        pass


class _Encoder(nn.Module):
    """BERT, RoBERTa or MPNet; a pooler belongs to BERT's classification head alone."""

    def __init__(self, config: Any, with_pooler: bool) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        layers = nn.ModuleList([_encoder_layer(config) for _ in range(config.num_hidden_layers)])
        self.encoder = nn.ModuleDict({"layer": layers})
        if config.model_type == "mpnet":
            n_buckets, n_heads = config.relative_attention_num_buckets, config.num_attention_heads
            self.encoder["relative_attention_bias"] = _Embedding(n_buckets, n_heads)
        if with_pooler and config.model_type == "bert":
            dense = _Linear(config.hidden_size, config.hidden_size)
            self.pooler = nn.ModuleDict({"dense": dense, "activation": nn.Tanh()})

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings


class _Embeddings(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        # MPNet counts positions from behind its own padding id, whatever the configuration says.
        self.padding_idx = 1 if config.model_type == "mpnet" else config.pad_token_id
        self.word_embeddings = _Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = _Embedding(config.max_position_embeddings, config.hidden_size)
        if config.model_type != "mpnet":
            self.token_type_embeddings = _Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor, position_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the states (1, T, hidden_size) of token ids (1, T)."""
        embedded = self.word_embeddings(input_ids)
        if token_type_ids is not None:
            embedded = embedded + self.token_type_embeddings(token_type_ids)
        normed: Tensor = self.LayerNorm(embedded + self.position_embeddings(position_ids))
        return normed


class _EncoderAttention(nn.Module):
    """That of BERT and RoBERTa, or of MPNet, which has other names and its output inside."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        for name in ("q", "k", "v", "o") if config.model_type == "mpnet" else ("query", "key", "value"):
            self.add_module(name, _Linear(config.hidden_size, config.hidden_size))
        self.dropout = nn.Dropout(0.0)


class _AddAndNorm(nn.Module):
    """A linear layer, whose output is added to the states before it and brought to norm 1."""

    def __init__(self, config: Any, width_in: int) -> None:
        super().__init__()
        self.dense = _Linear(width_in, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor, before: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(hidden) + before)
        return normed


class _Intermediate(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = _Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = _ACTIVATIONS[config.hidden_act]()

    def forward(self, hidden: Tensor) -> Tensor:
        activated: Tensor = self.intermediate_act_fn(self.dense(hidden))
        return activated


def _encoder_layer(config: Any) -> nn.Module:
    if config.model_type == "mpnet":
        norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        attention = {"attn": _EncoderAttention(config), "LayerNorm": norm, "dropout": nn.Dropout(0.0)}
    else:
        attention = {"self": _EncoderAttention(config), "output": _AddAndNorm(config, config.hidden_size)}
    return nn.ModuleDict(
        {
            "attention": nn.ModuleDict(attention),
            "intermediate": _Intermediate(config),
            "output": _AddAndNorm(config, config.intermediate_size),
        }
    )


class _Llama(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = _Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([_llama_layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = _norm(config)
        self.rotary_emb = _Rotary(config)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens


def _norm(config: Any) -> nn.Module:
    return nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class _Rotary(nn.Module):
    """Cosines and sines of rotary positions (Su et al., arXiv 2104.09864)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self._base, self._size = config.rope_parameters["rope_theta"], config.head_dim

    def forward(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return two tables (1, T, head size) for positions (1, T)."""
        exponents = torch.arange(0, self._size, 2, dtype=torch.float32, device=positions.device) / self._size
        angles = positions[..., None].float() * (1.0 / self._base**exponents)
        twice = torch.cat((angles, angles), dim=-1)
        return twice.cos(), twice.sin()


class _LlamaAttention(nn.Module):
    attention_dropout = 0.0

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config, self.head_dim, self.scaling = config, config.head_dim, config.head_dim**-0.5
        width, n_keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = _Linear(config.hidden_size, width, bias=False)
        self.k_proj, self.v_proj = (_Linear(config.hidden_size, n_keys, bias=False) for _ in range(2))
        self.o_proj = _Linear(width, config.hidden_size, bias=False)


class _GatedFeedForward(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj, self.up_proj = (_Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = _Linear(inner, width, bias=False)
        self.act_fn = _ACTIVATIONS[config.hidden_act]()

    def forward(self, hidden: Tensor) -> Tensor:
        fed: Tensor = self.down_proj(self.act_fn(self.gate_proj(hidden)) * self.up_proj(hidden))
        return fed


def _llama_layer(config: Any) -> nn.Module:
    return nn.ModuleDict(
        {
            "self_attn": _LlamaAttention(config),
            "mlp": _GatedFeedForward(config),
            "input_layernorm": _norm(config),
            "post_attention_layernorm": _norm(config),
        }
    )
