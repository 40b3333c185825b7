"""Fine-tunes a classifier with transformers.Trainer as its documentation has it; runs in the peers' environment.

Everything that is not named here is the Trainer's default: AdamW at 5e-5, decaying linearly, batches of 8 padded to
their longest text. Checkpoints on the way are turned off, which is to its advantage; the model is saved at the end.
"""

import argparse
from pathlib import Path
from typing import Any

from labelled import read
from peer_answers import Clock, answer, logits_in_order, scores


def main() -> None:
    clock = Clock()
    options = _options()
    # Here and not above, so that the clock sees it.
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    clock.stop("import")
    (texts, labels), (test_texts, test_labels) = read(options.train), read(options.test)
    names = sorted(set(labels))
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, num_labels=len(names), dtype=torch.float32
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    if options.tune == "last-1":
        _freeze_all_but_last_block(model)
    clock.stop("load")

    def examples(texts: list[str], labels: list[str]) -> list[dict[str, Any]]:
        encoded = tokenizer(texts, truncation=True, max_length=512)
        columns = zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
        return [
            {"input_ids": ids, "attention_mask": mask, "labels": names.index(label)} for ids, mask, label in columns
        ]

    arguments = TrainingArguments(
        output_dir=str(options.output),
        num_train_epochs=options.epochs,
        seed=options.seed,
        bf16=options.bf16,
        use_cpu=not torch.accelerator.is_available(),
        train_sampling_strategy="group_by_length" if options.group_by_length else "random",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=examples(texts, labels), processing_class=tokenizer)
    trainer.train()
    clock.stop("train")
    predicted = logits_in_order(trainer, examples(test_texts, test_labels)).argmax(axis=1)
    clock.stop("test")
    trainer.save_model()
    clock.stop("save")
    answer(clock, scores([names[i] for i in predicted], test_labels))


def _freeze_all_but_last_block(model: Any) -> None:
    """The book's recipe: the last block, the final norm and the new head are trained."""
    model.requires_grad_(False)
    for part in (model.model.layers[-1], model.model.norm, model.score):
        part.requires_grad_(True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "train", "test", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--tune", choices=("last-1", "full"), required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--group-by-length", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
