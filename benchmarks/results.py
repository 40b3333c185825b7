"""What a benchmark is asked and what it answers: common options, medians, Markdown tables."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import rehead_runs
from measure import Run


def parser(about: str) -> argparse.ArgumentParser:
    """Of every benchmark: `--runs` and `--out`.

    Args:
        about: the benchmark's docstring, of which the first line is shown.
    """
    options = argparse.ArgumentParser(description=about.split("\n")[0])
    options.add_argument("--runs", type=int, default=3, metavar="N", help="rounds (%(default)s)")
    options.add_argument("--out", type=Path, metavar="FILE.md", help="where to write the tables, too")
    return options


def add_collection(options: argparse.ArgumentParser) -> None:
    """For what needs the SMS Spam Collection."""
    options.add_argument("collection", type=Path, help="the file SMSSpamCollection (UCI 228)")


def add_base(options: argparse.ArgumentParser) -> None:
    """For what may start from another base: of random weights, say, where only time counts (see `random_base.py`)."""
    about = "a name in the catalogue, or a Transformers folder (%(default)s)"
    options.add_argument("--base", default="smollm2", metavar="NAME", help=about)


def add_texts(options: argparse.ArgumentParser, default: int | None = None) -> None:
    """For a quick try.

    Args:
        default: all texts if None.
    """
    about = f"only the first N texts of each part, for a quick try ({default or 'all'})"
    options.add_argument("--texts", type=int, default=default, metavar="N", help=about)


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """The median, and the lowest and the highest value where they differ from it."""
    low, middle, high = (format(value, form) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def seconds(runs: Sequence[Run]) -> str:
    return spread([run.seconds for run in runs])


def gigabytes(runs: Sequence[Run]) -> str:
    return spread([run.peak_bytes / 1e9 for run in runs], ".2f")


def score(runs: Sequence[Run], name: str = "accuracy") -> str:
    """A measure on the test texts, which rehead and the peers' scripts name the same."""
    return spread([run.facts["test"][name] for run in runs], ".2%")


def stages(runs: Sequence[Run]) -> str:
    """Medians of the seconds that the command itself counted, by stage."""
    names = [name for name in runs[0].facts["seconds"] if name != "total"]
    return ", ".join(f"{name} {median(run.facts['seconds'][name] for run in runs):.1f}" for name in names)


def times_faster(runs: Sequence[Run], reference: Sequence[Run]) -> str:
    """How many times as long the reference took, median by median."""
    return f"{median(run.seconds for run in reference) / median(run.seconds for run in runs):.1f}×"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def conditions(runs: dict[str, list[Run]]) -> str:
    """One line on how the numbers came about."""
    rounds = max(map(len, runs.values()))
    versions = {
        f"{name} {version}"
        for of_title in runs.values()
        for run in of_title
        for name, version in run.facts.get("versions", {}).items()
    }
    speeds, card = rehead_runs.product_speeds(), rehead_runs.card()
    machine = f"cores and one {card} that multiplies" if card else "cores that multiply"
    return (
        f"Medians of {rounds} (lowest to highest), every run a fresh process, contenders in turn, imports and loading "
        f"included; {os.cpu_count()} {machine} matrices at {speeds['float32']:,.0f} GFLOP/s in float32 and "
        f"{speeds['bfloat16']:,.0f} in bfloat16; OMP_WAIT_POLICY=PASSIVE and GOMP_SPINCOUNT=3000 for all; "
        f"{', '.join(sorted(versions))}."
    )


def publish(parts: Sequence[str], out: Path | None) -> None:
    """Prints paragraphs and tables, and writes them to a file if one is given."""
    text = "\n\n".join(parts)
    print(f"\n{text}", flush=True)
    if out:
        out.write_text(f"{text}\n", encoding="utf-8")
