"""What each idea of the engine buys: the same work with it and without it, in turn, in one process.

Messages of the book's SMS split, SmolLM2-135M with 30 blocks. What is turned off is replaced by what one would have
without the idea: the Transformers model on padded batches of 8, float32, a head that starts at random, and so on.

    python benchmarks/ideas.py SMSSpamCollection [--runs 3] [--out FILE.md]
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median

import book_files
import measure
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import Cache

TIMINGS, SHORTLY, ASLEEP = "ideas", "waiting threads spin shortly", "waiting threads asleep at once"
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
        timings = Contender(TIMINGS, command, cache.environment, before=cache.forget_features)
        data, how = book_files.as_arguments(files), ["--tune", "last-1", "--pool", "last", "--depth", "2"]
        shortly, at_once = (rehead_runs.cold(title, data, how, cache, folder / "model") for title in (SHORTLY, ASLEEP))
        asleep = replace(at_once, environment={**at_once.environment, "GOMP_SPINCOUNT": "0"})
        for runs in measure.in_turn([[timings, shortly, asleep]] * options.runs):
            parts = [_table(runs), _losses(runs[TIMINGS]), results.conditions(runs)]
            results.publish(parts, options.out)


def _table(runs: dict[str, list[Run]]) -> str:
    rows = []
    for number, idea in enumerate(runs[TIMINGS][0].facts["ideas"]):
        own = [run.facts["ideas"][number] for run in runs[TIMINGS]]
        rows.append(
            _row(idea["idea"], idea["instead"], *([each[which] for each in own] for which in ("with", "without")))
        )
    tails = ([run.facts["seconds"]["tail"] for run in runs[title]] for title in (SHORTLY, ASLEEP))
    rows.append(_row(f"{SHORTLY} (training)", ASLEEP, *tails))
    return results.table(["idea", "without it", "seconds with", "seconds without", "buys"], rows)


def _row(idea: str, instead: str, seconds_with: list[float], seconds_without: list[float]) -> list[str]:
    ratio = median(without / own for own, without in zip(seconds_with, seconds_without, strict=True))
    return [idea, instead, *(results.spread(each, ".2f") for each in (seconds_with, seconds_without)), f"{ratio:.1f}×"]


def _losses(runs: list[Run]) -> str:
    rows = [
        [start, *(results.spread([run.facts["losses"][start][epoch] for run in runs], ".3f") for epoch in range(6))]
        for start in runs[0].facts["losses"]
    ]
    return results.table(["validation loss by epoch, head starts", *map(str, range(6))], rows)


if __name__ == "__main__":
    main()
