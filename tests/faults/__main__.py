"""Try all faults: python -m tests.faults [--commands fit,predict] [--kills N] ...; exit code 1 unless all survive."""

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from itertools import repeat
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults import children, trials
from tests.faults.commands import COMMANDS
from tests.faults.trials import FLIPPABLE, Outcome

# Read by libraries while they are imported: two trials side by side with two threads each take six times as long.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--commands", default=",".join(COMMANDS), help="beginnings of names (all)")
    parser.add_argument(
        "--flipped", default=",".join(FLIPPABLE), help="in what bits are flipped, beginnings of names (all)"
    )
    for name, default in (("kills", 20), ("disks", 3), ("limits", 3), ("clocks", 2), ("flips", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    options = parser.parse_args()
    begun = time.monotonic()
    children.import_everything()
    with tempfile.TemporaryDirectory(prefix="rehead-faults-") as folder:
        outcomes = try_all(options, Path(folder))
    show(outcomes)
    used = sum(os.times()[:4])
    print(f"{time.monotonic() - begun:.0f} seconds, {used:.0f} of processors, seed {options.seed}")
    return int(any(outcome.wrong for outcome in outcomes))


def try_all(options: argparse.Namespace, folder: Path) -> list[Outcome]:
    """Draw the faults and try them, as many side by side as there are processors."""
    inputs = folder / "inputs"
    (inputs / "cache").mkdir(parents=True)
    names, flipped = _beginning(COMMANDS, options.commands), _beginning(FLIPPABLE, options.flipped)
    counts = {"kill": options.kills, "file limit": options.limits, "clock": options.clocks}
    if trials.can_mount(inputs / "cache"):
        counts["full disk"] = options.disks
    elif options.disks:
        print("full disks are not tried: only who may mount file systems has small ones")
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork")) as pool:
        pool.submit(trials.prepare, inputs).result()
        references = dict(zip(names, pool.map(trials.reference_of, names, repeat(folder), repeat(inputs)), strict=True))
        folders = [folder / name for name in flipped]
        made = dict(zip(flipped, pool.map(trials.make, flipped, folders, repeat(inputs)), strict=True))
        drawn = trials.draw_trials(names, counts, options.seed)
        flips = [flip for of in flipped for flip in trials.draw_flips(of, made[of], options.flips, options.seed)]
        waiting = [pool.submit(trials.run_flip, flip, made[flip.of], inputs) for flip in flips]
        # The first of each kind first: whoever stops this early has seen something of everything.
        drawn.sort(key=lambda trial: trial.number)
        waiting += [pool.submit(trials.run_trial, trial, references[trial.command], inputs) for trial in drawn]
        return list(_as_they_end(waiting))


def _beginning(names: Iterable[str], beginnings: str) -> list[str]:
    return [name for name in names if name.startswith(tuple(filter(None, beginnings.split(","))))]


def _as_they_end(waiting: list[Future[Outcome]]) -> Iterator[Outcome]:
    for future in as_completed(waiting):
        outcome = future.result()
        print(
            f"{outcome.command}: {outcome.fault} {outcome.moment}: "
            f"{'; '.join(outcome.wrong) or ('refused' if outcome.refused else 'survived')}",
            flush=True,
        )
        yield outcome


def show(outcomes: list[Outcome]) -> None:
    """Print the table, a row for each command and fault."""
    table = Table(
        "what", "fault", "tried", "survived", "of these refused", "rows lost", "rows doubled", "silently different"
    )
    kinds = sorted({(outcome.command, outcome.fault) for outcome in outcomes})
    for kind in [*kinds, None]:
        of_kind = [each for each in outcomes if kind in (None, (each.command, each.fault))]
        numbers = [
            len(of_kind),
            sum(not each.wrong for each in of_kind),
            sum(not each.wrong and each.refused for each in of_kind),
            sum(each.lost for each in of_kind),
            sum(each.doubled for each in of_kind),
            sum(each.different for each in of_kind),
        ]
        table.add_row(*(kind or ("all", "")), *map(str, numbers))
    Console(width=120).print(table)


if __name__ == "__main__":
    if not os.environ.items() >= ENVIRONMENT.items():
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], os.environ | ENVIRONMENT)  # noqa: S606
    sys.exit(main())
