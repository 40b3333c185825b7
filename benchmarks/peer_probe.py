"""Learns a head on frozen features, as an informed user writes it in twenty lines: Transformers and scikit-learn.

The encoder runs in bfloat16 where the processor has it, on batches of texts of like length; the last layer's mean over
a text's tokens goes to scikit-learn's logistic regression with its own strength. Runs in the peers' environment.
"""

import argparse
from pathlib import Path
from typing import Any

from labelled import read
from peer_answers import Clock, answer, keep

# The fastest of 16, 32, 64 and 128 on two cores.
BATCH, LONGEST = 32, 512


def main() -> None:
    clock = Clock()
    options = _options()
    # Here and not above, so that the clock sees it.
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from transformers import AutoModel, AutoTokenizer

    clock.stop("import")
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModel.from_pretrained(options.model, dtype=torch.bfloat16 if options.bf16 else torch.float32).eval()
    clock.stop("load")

    def features(texts: list[str]) -> Any:
        ids = tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        means = np.empty((len(ids), model.config.hidden_size), np.float32)
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
            with torch.inference_mode():
                states = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1)
            means[rows] = ((states * mask).sum(1) / mask.sum(1)).numpy()
        return means

    (texts, labels), (test_texts, _) = read(options.train), read(options.test)
    train = features(texts)
    clock.stop("trunk")
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(train, labels)
    clock.stop("probe")
    probabilities = head.predict_proba(features(test_texts))
    clock.stop("test")
    names = [str(name) for name in head.classes_]
    keep(options.predictions, names, [[names[i]] for i in probabilities.argmax(axis=1)], probabilities)
    answer(clock, {}, "scikit-learn")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "train", "test", "predictions"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--validation", type=Path, help="not looked at: its strength is fixed")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
