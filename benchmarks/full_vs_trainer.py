"""Training all weights: `rehead fit --tune full` against transformers.Trainer, same base, same split, one epoch.

SmolLM2-135M on the book's balanced SMS split (1,045 / 149 / 300 messages), batch 8, AdamW at 5e-5. Wall time of the
whole process: imports, loading, training, test, saving.

    python benchmarks/full_vs_trainer.py SMSSpamCollection [--runs 3] [--base NAME] [--out FILE.md]
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

RECIPE = ["--tune", "full", "--epochs", "1"]
PEERS = {trainer_runs.DEFAULT: [], trainer_runs.BF16: ["--bf16"]}


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    results.add_texts(parser)
    results.add_base(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = book_files.write(options.collection, folder, options.texts)
        peers = trainer_runs.feasible(PEERS)
        base, cache = rehead_runs.base_folder(options.base), Cache(folder / "cold")

        def contenders(seed: int) -> list[Contender]:
            data, seeded = [*book_files.as_arguments(files), "--base", options.base], [*RECIPE, "--seed", str(seed)]
            ours = [*seeded, *trainer_runs.RATE, "--pool", "last", "--depth", "30"]
            return [
                *(
                    trainer_runs.contender(title, files, base, folder / "trainer", [*seeded, *extra])
                    for title, extra in peers.items()
                ),
                rehead_runs.cold(f"`{' '.join(RECIPE)} --pool last --depth 30`", data, ours, cache, folder / "model"),
            ]

        for runs in measure.in_turn([contenders(seed) for seed in range(options.runs)]):
            results.publish([trainer_runs.table(runs), results.conditions(runs)], options.out)


if __name__ == "__main__":
    main()
