"""The choices of the book's table of additional experiments (chapter 6, 19 rows), made with rehead on SmolLM2-135M.

The book fine-tunes GPT-2 with 124 million parameters; the base here has 135 million. Same split, 5 epochs, batch 8.
rehead solves the head before it trains blocks and keeps the epoch with the least validation loss, which the book does
not. What cannot be had here is listed with the reason.

    python benchmarks/book_table.py SMSSpamCollection [--larger FOLDER] [--runs 3] [--out FILE.md]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import book_files
import measure
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import Cache

LAST, MEAN = ["--pool", "last"], ["--pool", "mean"]
ROWS = {
    "1, 14 to 16: last block, last token": ["--tune", "last-1", *LAST],
    "3: output layer alone, last token": ["--tune", "head", *LAST],
    "4: last two blocks, last token": ["--tune", "last-2", *LAST],
    "5: all layers, last token": ["--tune", "full", *LAST],
    "11: LoRA, last token": ["--tune", "lora", *LAST],
    "19: last block, mean of all tokens": ["--tune", "last-1", *MEAN],
}
RANDOM = "10: random weights, all layers, last token"
LARGER = "6 to 8: larger base, last block, last token"
NOT_HERE = {
    "2: first token": "the first token of a decoder has seen nothing of the text; rehead refuses it",
    "9, 12: all layers or LoRA of GPT-2 with 1.5 billion parameters": "hours on a CPU",
    "13: padded to the context's length": "rehead pads nothing; to SmolLM2's 8,192 it would be 200 times the tokens",
    "17: no causal mask": "the saved folder would not be the Transformers model that it says it is",
    "18: padding left out of the loss": "there is no padding, and one label a text",
}
NO_LARGER = {LARGER: "none in the catalogue; give a Transformers folder with --larger"}


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    results.add_texts(parser)
    parser.add_argument("--larger", type=Path, metavar="FOLDER", help="a larger decoder, as a Transformers folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = book_files.as_arguments(book_files.write(options.collection, folder, options.texts))
        cache = Cache(folder / "cache")
        without = folder / "random"
        script = Path(__file__).with_name("random_base.py")
        subprocess.run([sys.executable, script, rehead_runs.base_folder("smollm2"), without], check=True)

        def contenders(seed: int) -> list[Contender]:
            rows = {title: [*choice, "--depth", "30"] for title, choice in ROWS.items()}
            rows[RANDOM] = [*rows["5: all layers, last token"], "--base", str(without)]
            if options.larger:
                rows[LARGER] = ["--tune", "last-1", *LAST, "--base", str(options.larger)]
            seeded = ["--epochs", "5", "--seed", str(seed)]
            return [
                rehead_runs.cold(title, data, [*row, *seeded], cache, folder / "model") for title, row in rows.items()
            ]

        missing = NOT_HERE if options.larger else {**NO_LARGER, **NOT_HERE}
        reasons = results.table(["not here", "because"], [list(row) for row in missing.items()])
        for runs in measure.in_turn([contenders(seed) for seed in range(options.runs)]):
            results.publish([_table(runs), reasons, results.conditions(runs)], options.out)


def _table(runs: dict[str, list[Run]]) -> str:
    rows = [
        [
            title,
            results.spread([run.facts["validation"]["accuracy"] for run in own], ".2%"),
            results.score(own),
            results.seconds(own),
            results.gigabytes(own),
        ]
        for title, own in runs.items()
    ]
    head = ["row of the book, and choice", "validation accuracy", "test accuracy", "seconds", "peak GB"]
    return results.table(head, rows)


if __name__ == "__main__":
    main()
