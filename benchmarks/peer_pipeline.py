"""Classifies texts with transformers.pipeline from a saved folder; runs in the peers' environment.

Writes one JSON object a text, {label: probability}, and prints the seconds by stage.
"""

import argparse
import json
from pathlib import Path

from labelled import read
from peer_answers import Clock, answer


def main() -> None:
    clock = Clock()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("model", "texts", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    # Here and not above, so that the clock sees it.
    from transformers import pipeline

    clock.stop("import")
    texts, _ = read(options.texts)
    classify = pipeline("text-classification", model=str(options.model), dtype=options.dtype, top_k=None)
    clock.stop("load")
    scored = classify(texts, batch_size=options.batch_size, truncation=True)
    clock.stop("score")
    with options.output.open("w", encoding="utf-8") as output:
        for scores in scored:
            output.write(json.dumps({each["label"]: each["score"] for each in scores}) + "\n")
    answer(clock, {})


if __name__ == "__main__":
    main()
