"""Small randomly initialised language models with their output layer, saved as Transformers folders."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tiny_models import CONFIGS, VOCABULARY, tiny_tokenizer


def save_tiny_language_model(
    folder: Path, family: str, *, tied: bool = True, template: str | None = None, reach: int = 64
) -> Path:
    """Takes so many tokens as `reach` says."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(VOCABULARY),
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        tie_word_embeddings=tied,
        **{**CONFIGS[family], **({} if family == "gpt2" else {"max_position_embeddings": reach})},
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer(encoder=False)
    tokenizer.chat_template = template
    tokenizer.model_max_length = reach
    tokenizer.save_pretrained(folder)
    return folder
