"""Small randomly initialised models of each family, with a tokenizer, saved as Transformers folders."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

N_BLOCKS = 4
_SENTENCE = "the a free prize call now meet you at noon for lunch win cash txt home later ok yes no and to of in"
WORDS = _SENTENCE.split()
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
VOCABULARY = [*SPECIAL.values(), *WORDS]

_DECODER = {
    "num_hidden_layers": N_BLOCKS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
_ENCODER = {
    "num_hidden_layers": N_BLOCKS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
# Windows shorter than the test's texts, so that windowed blocks differ from full ones.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": N_BLOCKS, "n_embd": 32, "n_head": 4, "n_positions": 64},
    "llama": _DECODER,
    "qwen2": {**_DECODER, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    "qwen3": _DECODER,
    "mistral": {**_DECODER, "sliding_window": 4},
    "gemma": _DECODER,
    "gemma2": {**_DECODER, "sliding_window": 4},
    "gemma3_text": {**_DECODER, "sliding_window": 4, "sliding_window_pattern": 2},
    "bert": _ENCODER,
    "roberta": {**_ENCODER, "max_position_embeddings": 66},
    "mpnet": {**_ENCODER, "max_position_embeddings": 66},
    "distilbert": {"n_layers": N_BLOCKS, "dim": 32, "hidden_dim": 48, "n_heads": 4, "max_position_embeddings": 64},
    "modernbert": {**_ENCODER, "local_attention": 4, "global_attn_every_n_layers": 2},
}
DECODERS = ("gpt2", "llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text")
ENCODERS = ("bert", "roberta", "mpnet", "distilbert", "modernbert")


def save_tiny_model(folder: Path, family: str, special: dict[str, str] | None = None, **others: Any) -> Path:
    """Writes a model of `family` and its tokenizer; the weights are spread out so that blocks matter.

    Args:
        others: of its configuration, what is not as in `CONFIGS`.
    """
    torch.manual_seed(0)
    ids = {"vocab_size": len(VOCABULARY), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(family, **{**ids, **CONFIGS[family], **others})
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tiny_tokenizer(family in ENCODERS, special).save_pretrained(folder)
    return folder


def tiny_tokenizer(encoder: bool, special: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """Words separated by spaces; an encoder's texts stand between <s> and </s>."""
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if encoder:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **(SPECIAL if special is None else special)
    )
