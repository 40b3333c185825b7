"""Data sets that differ: `rehead fit` on each, beside TF-IDF with logistic regression and the majority class.

The samples of the package index, with the published test sets where there are any, and files of your own. One fit each,
features cold; what is told is accuracy, macro F1, calibration before and after, McNemar's test and time.

    python benchmarks/data_sets.py [--sets sms bbc r8] [--base minilm] [--files TRAIN.csv:TEST.csv[:SEPARATOR] ...]
        [--out FILE.md]
"""

import tempfile
from pathlib import Path

import measure
import rehead_runs
import results
from measure import Run
from rehead_runs import Cache

SETS = ("sms", "bbc", "r8", "r52", "20newsgroups")


def main() -> None:
    parser = results.parser(__doc__)
    parser.set_defaults(runs=1)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS), help="samples (all)")
    parser.add_argument("--base", default="minilm", help="(%(default)s)")
    parser.add_argument("--tune", default="head", help="(%(default)s)")
    parser.add_argument(
        "--files", nargs="*", default=[], metavar="TRAIN:TEST[:SEPARATOR]", help="two files of labelled texts"
    )
    options = parser.parse_args()
    data = {f"sample:{name}": [f"sample:{name}"] for name in options.sets}
    for pair in options.files:
        train, test, *separator = pair.split(":")
        several = ["--label-separator", separator[0]] if separator else []
        data[Path(train).parent.name] = [train, "--test", test, *several]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = Cache(folder / "cache")
        how = ["--base", options.base, "--tune", options.tune]

        def contenders(seed: int) -> list[measure.Contender]:
            return [
                rehead_runs.cold(title, source, [*how, "--seed", str(seed)], cache, folder / "model")
                for title, source in data.items()
            ]

        for runs in measure.in_turn([contenders(seed) for seed in range(options.runs)]):
            results.publish([_table(runs), results.conditions(runs)], options.out)


def _table(runs: dict[str, list[Run]]) -> str:
    head = ["data", "test texts", "kept", "accuracy", "TF-IDF", "majority", "p", "macro F1", "TF-IDF's"]
    head += ["ECE before", "ECE", "seconds", "peak GB"]
    rows = []
    for title, own in runs.items():
        facts = own[0].facts
        baselines = facts["baselines"]
        rows.append(
            [
                title,
                f"{facts['test']['n']:,}",
                f"{facts['depth']} blocks, {facts['pool']}",
                results.score(own),
                f"{baselines['tfidf']['accuracy']:.2%}",
                f"{baselines['majority']['accuracy']:.2%}",
                f"{facts['comparison']['p_value']:.2g}",
                results.score(own, "macro_f1"),
                f"{baselines['tfidf']['macro_f1']:.2%}",
                f"{facts['calibration']['ece_before']:.3f}",
                f"{facts['test']['ece']:.3f}",
                results.seconds(own),
                results.gigabytes(own),
            ]
        )
    return results.table(head, rows)


if __name__ == "__main__":
    main()
