"""From Enter to an answer: seconds, accuracy and memory of rehead and of what else a user would do, in one run.

All start from the same base and get the same files (see `accuracy_sets.py`). Each run is a fresh process, whose seconds
hold imports, loading, learning and the answers to the test part; rehead also saves, verifies and reports in them.

    python benchmarks/enter_to_answer.py [--sets sms cr] [--contenders TITLE ...] [--base NAME] [--runs 3] [--out FILE]
"""

import sys
import tempfile
from pathlib import Path

import results
from accuracy import METHODS, OUT, Job, files_of, plain_probe, scored
from accuracy_sets import SETS
from measure import Run

PROBE = "a probe in twenty lines"
CONTENDERS = {
    PROBE: plain_probe,
    "`rehead fit --preset quick`": METHODS["quick"].run,
    "`rehead fit`": METHODS["balanced"].run,
    "transformers.Trainer, all weights": METHODS["finetuned"].run,
    "SetFit": METHODS["setfit"].run,
}
# SetFit's pairs of long articles take hours.
NOT_MEASURED = {("SetFit", "bbc"), ("SetFit", "r8")}


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["sms", "cr", "bbc", "r8"], help="(%(default)s)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="(all)")
    parser.add_argument("--base", default="minilm", metavar="NAME", help="(%(default)s)")
    parser.add_argument("--row-timeout", type=float, default=5400, metavar="SECONDS", help="(%(default)s)")
    results.add_texts(parser)
    options = parser.parse_args()
    folder = OUT / f"try-{options.texts}" if options.texts else OUT
    runs: dict[tuple[str, str], list[Run]] = {}
    accuracies: dict[tuple[str, str], list[float]] = {}
    for seed in range(options.runs):
        for name in options.sets:
            files = files_of(name, folder / name, options.texts)
            for title in options.contenders:
                if (title, name) in NOT_MEASURED:
                    continue
                with tempfile.TemporaryDirectory() as scratch:
                    job = Job(
                        name=name,
                        data=SETS[name],
                        **files,
                        seed=seed,
                        shots=None,
                        base=options.base,
                        scratch=Path(scratch),
                        timeout=options.row_timeout,
                    )
                    outcome = CONTENDERS[title](job)
                    accuracy = scored(outcome, job)["metrics"]["accuracy"]
                runs.setdefault((name, title), []).append(outcome.run)
                accuracies.setdefault((name, title), []).append(accuracy)
                print(f"{name}, {title}: {outcome.run.seconds:.1f} s, {accuracy:.2%}", file=sys.stderr, flush=True)
        by_title = {f"{name}, {title}": of_row for (name, title), of_row in runs.items()}
        results.publish([_table(runs, accuracies), f"Base {options.base}. {results.conditions(by_title)}"], options.out)


def _table(runs: dict[tuple[str, str], list[Run]], accuracies: dict[tuple[str, str], list[float]]) -> str:
    head = ["set", "contender", "seconds", "as fast as the probe", "accuracy", "GB"]
    rows = []
    for (name, title), of_row in runs.items():
        probe = runs.get((name, PROBE))
        faster = results.times_faster(of_row, probe) if probe else ""
        accuracy = results.spread(accuracies[name, title], ".2%")
        rows.append([name, title, results.seconds(of_row), faster, accuracy, results.gigabytes(of_row)])
    return results.table(head, rows)


if __name__ == "__main__":
    main()
