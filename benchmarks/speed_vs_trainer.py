"""Time to a classifier: `rehead fit` against transformers.Trainer, same base, same split, same recipe.

SmolLM2-135M on the book's balanced SMS split (1,045 / 149 / 300 messages); last block, final norm and head trained for
5 epochs, batch 8, AdamW at 5e-5. Wall time of the whole process: imports, loading, training, test, saving.

    python benchmarks/speed_vs_trainer.py SMSSpamCollection [--runs 3] [--base NAME] [--short] [--out FILE.md]
"""

import tempfile
from pathlib import Path

import book_files
import measure
import rehead_runs
import results
import trainer_runs
from measure import Contender
from rehead_runs import Cache

BY_LENGTH = "--group-by-length"
PEERS = {
    trainer_runs.DEFAULT: [],
    "Trainer, fp32, grouped by length": [BY_LENGTH],
    trainer_runs.BF16: ["--bf16"],
    "Trainer, bf16, grouped by length": ["--bf16", BY_LENGTH],
}
LAST_TOKEN = ["--pool", "last", "--depth", "30"]
RECIPE = ["--tune", "last-1", "--epochs", "5"]
SAME = [*RECIPE, *trainer_runs.RATE, *LAST_TOKEN]
OURS = {
    "`--tune last-1 --pool last --depth 30`": SAME,
    "`--tune head --pool last --depth 30`": ["--tune", "head", *LAST_TOKEN],
    "`--tune last-1`": RECIPE,
    "`--tune head`": ["--tune", "head"],
}
WARM = "`--tune last-1 --pool last --depth 30`, features cached"


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    results.add_texts(parser)
    results.add_base(parser)
    parser.add_argument(
        "--short", action="store_true", help="no batches by length, no depth and pooling of rehead's own choice"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = book_files.write(options.collection, folder, options.texts)
        peers = {
            title: extra
            for title, extra in trainer_runs.feasible(PEERS).items()
            if not options.short or BY_LENGTH not in extra
        }
        ours = {title: extra for title, extra in OURS.items() if not options.short or "--depth" in extra}
        base, cache, kept = rehead_runs.base_folder(options.base), Cache(folder / "cold"), Cache(folder / "warm")

        def contenders(seed: int) -> list[Contender]:
            data, seeded = [*book_files.as_arguments(files), "--base", options.base], ["--seed", str(seed)]
            return [
                *(
                    trainer_runs.contender(title, files, base, folder / "trainer", [*RECIPE, *seeded, *extra])
                    for title, extra in peers.items()
                ),
                *(
                    rehead_runs.cold(title, data, [*extra, *seeded], cache, folder / "model")
                    for title, extra in ours.items()
                ),
                rehead_runs.warm(WARM, data, [*SAME, *seeded], kept, folder / "model"),
            ]

        measure.run(contenders(0)[-1])  # fills the cache that is to be warm
        for runs in measure.in_turn([contenders(seed) for seed in range(options.runs)]):
            results.publish([trainer_runs.table(runs), results.conditions(runs)], options.out)


if __name__ == "__main__":
    main()
