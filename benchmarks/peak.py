"""The trunk pass as a share of what the machine can do: its GFLOP/s on real tokens against a plain matrix product's.

All messages of the book's balanced SMS split through the 30 blocks of SmolLM2-135M, in float32 and in bfloat16. Counted
are the products with the weights (2 operations a weight and token); attention's own come for free. Beside it what
`rehead fit` says of the same texts, in the type that it has chosen.

    python benchmarks/peak.py SMSSpamCollection [--runs 3] [--out FILE.md]
"""

import sys
import tempfile
from pathlib import Path

import book_files
import measure
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import Cache

PASSES, FIT = "trunk pass", "rehead fit"


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    results.add_texts(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = book_files.write(options.collection, folder, options.texts)
        cache = Cache(folder / "cache")
        script = [sys.executable, Path(__file__).with_name("trunk_speed.py"), *files.values()]
        data, how = book_files.as_arguments(files), ["--tune", "head", "--pool", "mean", "--depth", "30"]
        contenders = [
            Contender(PASSES, script, cache.environment),
            rehead_runs.cold(FIT, data, how, cache, folder / "model"),
        ]
        for runs in measure.in_turn([contenders] * options.runs):
            results.publish([_table(runs), results.conditions(runs)], options.out)


def _table(runs: dict[str, list[Run]]) -> str:
    passes = [run.facts["passes"] for run in runs[PASSES]]
    rows = [
        [
            f"{PASSES}, {dtype}",
            results.spread([each[dtype]["gflops"] for each in passes], ".0f"),
            results.spread([each[dtype]["product_gflops"] for each in passes], ".0f"),
            results.spread([each[dtype]["share"] for each in passes], ".0%"),
        ]
        for dtype in passes[0]
    ]
    said = [run.facts for run in runs[FIT]]
    rows.append(
        [
            f"{FIT} --pool mean --depth 30, its own figure",
            results.spread([each["gflops"] for each in said], ".0f"),
            results.spread([each["gflops"] / each["peak_share"] for each in said], ".0f"),
            results.spread([each["peak_share"] for each in said], ".0%"),
        ]
    )
    tokens = runs[PASSES][0].facts["tokens"]
    return results.table([f"{tokens:,} tokens", "GFLOP/s", "matrix product, GFLOP/s", "share"], rows)


if __name__ == "__main__":
    main()
