"""Fine-tunes a language model with trl's SFTTrainer as its documentation has it; runs in the peers' environment.

Reads JSON Lines with `prompt` and `completion`, so that both sides learn from the same words; the loss is that of the
completions. What is not named here is trl's default. Prints one JSON object with the loss on the test file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from peer_answers import Clock, answer


def main() -> None:
    clock = Clock()
    options = _options()
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    clock.stop("import")
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    clock.stop("load")
    adapters = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    arguments = SFTConfig(
        output_dir=str(options.output),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=8,
        learning_rate=options.learning_rate,
        max_length=1024,
        bf16=options.bf16,
        use_cpu=not torch.accelerator.is_available(),
        gradient_checkpointing=False,  # on by default; off is to its advantage here
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=options.seed,
    )
    trainer = SFTTrainer(
        model,
        args=arguments,
        train_dataset=Dataset.from_list(_read(options.train)),
        processing_class=tokenizer,
        peft_config=adapters if options.tune == "lora" else None,
    )
    trainer.train()
    clock.stop("train")
    loss = _loss(trainer.model.eval(), tokenizer, _read(options.test))
    clock.stop("test")
    answer(clock, {"loss": loss}, "trl", "peft")


def _loss(model: Any, tokenizer: Any, rows: list[dict[str, str]]) -> float:
    """Cross-entropy a token of the completions and their ends."""
    import torch

    total, n = 0.0, 0
    with torch.inference_mode():
        for row in rows:
            prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
            completion = tokenizer(row["completion"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            ids = torch.tensor([prompt + completion], device=model.device)
            labels = torch.tensor([[-100] * len(prompt) + completion], device=model.device)
            total += float(model(input_ids=ids, labels=labels).loss) * len(completion)
            n += len(completion)
    return total / n


def _read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "train", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--tune", choices=("lora", "full"), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
