"""What each idea of the engine buys: the same work with it and without it, in turn, in one process.

Messages of the book's SMS split, SmolLM2-135M with 30 blocks. What is turned off is replaced by what one would have
without the idea: the Transformers model on padded batches of 8, float32, a head that starts at random, and so on.

    python benchmarks/ideas.py SMSSpamCollection [--runs 3] [--out FILE.md]
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

import book_files
import measure
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import Cache

# So many messages are enough for times that differ by a tenth.
TEXTS = 400


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    results.add_texts(parser, TEXTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = book_files.write(options.collection, folder, options.texts)
        cache = Cache(folder / "cache")
        rehead_runs.base_folder("smollm2")
        script = Path(__file__).with_name("idea_timings.py")
        command = [sys.executable, script, files["train"], files["validation"]]
        contender = Contender("ideas", command, cache.environment, before=cache.forget_features)
        for runs in measure.in_turn([[contender]] * options.runs):
            parts = [_table(runs["ideas"]), _losses(runs["ideas"]), results.conditions(runs)]
            results.publish(parts, options.out)


def _table(runs: list[Run]) -> str:
    rows = []
    for number, idea in enumerate(runs[0].facts["ideas"]):
        own = [run.facts["ideas"][number] for run in runs]
        ratio = median(each["without"] / each["with"] for each in own)
        times = [results.spread([each[which] for each in own], ".2f") for which in ("with", "without")]
        rows.append([idea["idea"], idea["instead"], *times, f"{ratio:.1f}×"])
    return results.table(["idea", "without it", "seconds with", "seconds without", "buys"], rows)


def _losses(runs: list[Run]) -> str:
    rows = [
        [start, *(results.spread([run.facts["losses"][start][epoch] for run in runs], ".3f") for epoch in range(6))]
        for start in runs[0].facts["losses"]
    ]
    return results.table(["validation loss by epoch, head starts", *map(str, range(6))], rows)


if __name__ == "__main__":
    main()
