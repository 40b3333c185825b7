"""Few examples: `rehead fit` against SetFit, with the same encoder, examples and test texts.

MiniLM (all-MiniLM-L6-v2) on sample:sms (2 classes) and R8 (8 classes), with 8, 16 and 64 examples a class and with all;
each run draws examples of its own. SetFit trains its encoder on pairs of texts first; where that would take more than
half an hour a run on two cores, it gets its encoder frozen instead, and the table says so. rehead takes its validation
examples out of those that it is given.

    python benchmarks/vs_setfit.py [--sets sms r8] [--runs 3] [--out FILE.md]
"""

import tempfile
from pathlib import Path

import few_shots
import measure
import peers
import rehead_runs
import results
from few_shots import Task
from measure import Contender, Run
from rehead_runs import Cache

TASKS = {"sms": few_shots.sms, "r8": few_shots.r8}
SHOTS = (8, 16, 64, None)
# Where SetFit's pairs take less than half an hour a run: 40 an example, 16 a step, and on two cores a step took 1.3 s
# with text messages and 8 s with news articles.
PAIRS_FEASIBLE = {("sms", 8), ("sms", 16), ("sms", 64), ("r8", 8)}
OURS = {"`rehead fit --tune head`": ["--tune", "head"], "`rehead fit --tune auto`": ["--tune", "auto"]}


def main() -> None:
    parser = results.parser(__doc__)
    parser.add_argument("--sets", nargs="+", choices=TASKS, default=list(TASKS), help="(both)")
    parser.add_argument("--texts", type=int, metavar="N", help="only N test texts, for a quick try")
    parser.add_argument("--steps", type=int, default=-1, metavar="N", help="of SetFit's pairs, for a quick try")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, cache = rehead_runs.base_folder("minilm"), Cache(folder / "cache")
        tasks = {name: TASKS[name]() for name in options.sets}
        tests = {
            name: few_shots.write(task.test[: options.texts], folder / f"{name}-test.csv")
            for name, task in tasks.items()
        }

        def contenders(name: str, task: Task, shots: int | None, seed: int) -> list[Contender]:
            file = folder / f"{name}-{shots}-{seed}.csv"
            train = few_shots.write(few_shots.draw(task.train, shots, seed), file)
            which = f"{name}, {f'{shots} a class' if shots else 'all'}"
            pairs = (name, shots) in PAIRS_FEASIBLE
            setfit = ["--model", base, "--train", train, "--test", tests[name], "--seed", str(seed)]
            setfit += ["--steps", str(options.steps)] if pairs else ["--frozen"]
            peer = f"{which}: SetFit{'' if pairs else ', encoder frozen'}"
            ours = ["--base", "minilm", "--seed", str(seed)]
            return [
                Contender(peer, peers.command("peer_setfit.py", *setfit)),
                *(
                    rehead_runs.cold(
                        f"{which}: {title}", [train, "--test", tests[name]], [*ours, *how], cache, folder / "model"
                    )
                    for title, how in OURS.items()
                ),
            ]

        rounds = [
            [
                contender
                for name, task in tasks.items()
                for shots in SHOTS
                for contender in contenders(name, task, shots, seed)
            ]
            for seed in range(options.runs)
        ]
        for runs in measure.in_turn(rounds):
            results.publish([_table(runs), results.conditions(runs)], options.out)


def _table(runs: dict[str, list[Run]]) -> str:
    rows = [
        [
            title,
            results.score(own),
            results.score(own, "macro_f1"),
            results.seconds(own),
            results.gigabytes(own),
            results.stages(own),
        ]
        for title, own in runs.items()
    ]
    return results.table(["run", "test accuracy", "macro F1", "seconds", "peak GB", "stages (seconds)"], rows)


if __name__ == "__main__":
    main()
