"""Fine-tunes all weights of a base with transformers.Trainer, as a careful user does it for the best accuracy.

AdamW with 10 % warm-up and linear decay, batches of 16 texts of like length padded to the longest, 4 epochs, dropout
on, texts cut at 512 tokens; with a validation part the epoch whose macro F1 is best there is kept. Other than
`peer_trainer.py`, which is the Trainer's defaults and measures time, this one is after accuracy.
"""

import argparse
from pathlib import Path
from typing import Any

from labelled import read
from peer_answers import Clock, answer, keep, logits_in_order

EPOCHS, BATCH, WARMUP, LONGEST = 4, 16, 0.1, 512


def main() -> None:
    clock = Clock()
    options = _options()
    # Here and not above, so that the clock sees it.
    import numpy as np
    import torch
    from sklearn.metrics import f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    clock.stop("import")
    parts = {"train": read(options.train), "test": read(options.test)}
    if options.validation:
        parts["validation"] = read(options.validation)
    learned = [parts[part][1] for part in ("train", "validation") if part in parts]
    names = sorted({name for labels in learned for label in labels for name in _split(label, options.separator)})
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model,
        num_labels=len(names),
        problem_type="multi_label_classification" if options.separator else "single_label_classification",
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
    )
    model.config.pad_token_id = tokenizer.pad_token_id
    clock.stop("load")

    def target(label: str) -> Any:
        given = _split(label, options.separator)
        if options.separator:
            return [float(name in given) for name in names]
        # A label that no training text has cannot be predicted, and its loss is of no interest.
        return names.index(given[0]) if given[0] in names else 0

    def examples(part: str) -> list[dict[str, Any]]:
        texts, labels = parts[part]
        encoded = tokenizer(texts, truncation=True, max_length=LONGEST)
        columns = zip(encoded["input_ids"], encoded["attention_mask"], labels, strict=True)
        return [{"input_ids": ids, "attention_mask": mask, "labels": target(label)} for ids, mask, label in columns]

    def measured(prediction: Any) -> dict[str, float]:
        scores, labels = prediction.predictions, prediction.label_ids
        guesses = scores > 0 if options.separator else scores.argmax(axis=1)
        return {"macro_f1": float(f1_score(labels, guesses, average="macro", zero_division=0))}

    chosen = {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "save_only_model": True,
        "load_best_model_at_end": True,
        "metric_for_best_model": "macro_f1",
    }
    arguments = TrainingArguments(
        output_dir=str(options.output),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=options.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=WARMUP,
        train_sampling_strategy="group_by_length",
        seed=options.seed,
        bf16=options.bf16,
        use_cpu=not torch.accelerator.is_available(),
        report_to="none",
        disable_tqdm=True,
        **(chosen if options.validation else {"save_strategy": "no"}),
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=examples("train"),
        eval_dataset=examples("validation") if options.validation else None,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=measured,
    )
    trainer.train()
    clock.stop("train")
    logits = torch.from_numpy(logits_in_order(trainer, examples("test"))).float()
    clock.stop("test")
    trainer.save_model()
    clock.stop("save")
    probabilities = (logits.sigmoid() if options.separator else logits.softmax(dim=1)).numpy()
    if options.separator:
        predicted = [[names[i] for i in np.flatnonzero(row > 0.5)] for row in probabilities]
    else:
        predicted = [[names[i]] for i in probabilities.argmax(axis=1)]
    keep(options.predictions, names, predicted, probabilities)
    answer(clock, {})


def _split(label: str, separator: str | None) -> list[str]:
    return label.split(separator) if separator else [label]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "train", "test", "output", "predictions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--separator", help="between the labels of a text that may have several")
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
