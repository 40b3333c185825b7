"""Trains and tests a SetFit classifier on a sentence encoder; runs in the peers' environment.

SetFit's defaults, but for the number of pairs: 20 an example and kind, as in its paper (Tunstall et al. 2022). With
--frozen its contrastive stage is left out, and the head alone is trained on the encoder as it is.
"""

import argparse
import tempfile
from pathlib import Path

from labelled import read
from peer_answers import Clock, answer, keep, scores

# What all-MiniLM-L6-v2 is published with.
LONGEST_INPUT = 256


def main() -> None:
    clock = Clock()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "train", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--pairs", type=int, default=20, help="of an example and kind (%(default)s)")
    parser.add_argument("--predictions", type=Path, help="where to write what was predicted for each test text")
    parser.add_argument("--steps", type=int, default=-1, help="of the contrastive stage, for a quick try")
    options = parser.parse_args()
    # Here and not above, so that the clock sees it.
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    clock.stop("import")
    (texts, labels), (test_texts, test_labels) = read(options.train), read(options.test)
    # A folder without sentence-transformers' own files gets mean pooling, which is MiniLM's.
    model = SetFitModel.from_pretrained(str(options.model), labels=sorted(set(labels)))
    model.model_body.max_seq_length = LONGEST_INPUT
    clock.stop("load")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=options.pairs,
            max_steps=options.steps,
            seed=options.seed,
            save_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        trainer = Trainer(model, arguments, train_dataset=Dataset.from_dict({"text": texts, "label": labels}))
        if options.frozen:
            trainer.train_classifier(texts, labels)
        else:
            trainer.train()
    clock.stop("train")
    predicted = [str(label) for label in model.predict(test_texts)]
    if options.predictions:
        keep(
            options.predictions, sorted(set(labels)), [[label] for label in predicted], model.predict_proba(test_texts)
        )
    clock.stop("test")
    answer(clock, scores(predicted, test_labels), "setfit", "sentence-transformers")


if __name__ == "__main__":
    main()
