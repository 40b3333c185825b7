"""Makes the page of what `accuracy.py` has measured: tables, tests, targets met and missed, and a figure.

Of a set, method, base, seed and number of examples the row that was measured last counts.

    python benchmarks/accuracy_page.py [--results FILE.jsonl] [--out docs/results/accuracy.md] [--base auto]
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import accuracy_scores
import numpy as np
from accuracy import FEW_SHOT_SETS, METHODS, OUT, SHOTS, read_results
from accuracy_sets import SETS
from results import table

Row = dict[str, Any]
TITLES = {
    "quick": "`rehead --preset quick`",
    "balanced": "`rehead --preset balanced`",
    "best": "`rehead --preset best`",
    "tfidf-logistic": "TF-IDF, logistic regression",
    "tfidf-svm": "TF-IDF, linear SVM",
    "finetuned": "plain fine-tuning",
    "setfit": "SetFit",
}
CHEAP = ("tfidf-logistic", "tfidf-svm")
# What a difference must be less probable than, by chance alone, to be told.
SIGNIFICANT = 0.05
# Of what a preset must reach on a set: preset, set, metric, least.
REACHED = (
    ("balanced", "tweet_emotion", "macro_f1", 0.77),
    ("balanced", "cr", "accuracy", 0.91),
    ("balanced", "mr", "accuracy", 0.87),
    ("balanced", "tweet_irony", "f1", 0.65),
    ("balanced", "r8", "accuracy", 0.975),
    ("balanced", "r52", "accuracy", 0.95),
    ("balanced", "20newsgroups", "accuracy", 0.86),
    ("balanced", "bbc", "accuracy", 0.98),
    ("balanced", "sms", "f1", 0.985),
    ("best", "cr", "accuracy", 0.93),
    ("best", "tweet_emotion", "accuracy", 0.83),
    ("best", "tweet_emotion", "macro_f1", 0.80),
)
TIMES_FASTER, BEST_GAIN, CALIBRATION_ERROR, SHARE_OF_SETFIT = 5, 0.01, 0.04, 1 / 5
_METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1", "f1": "F1 of {positive}"}
_CELLS = {"accuracy": ".2%", "macro_f1": ".3f", "micro_f1": ".3f", "f1": ".3f", "log_loss": ".3f", "ece": ".3f"}


@dataclass(frozen=True)
class Target:
    """Something that was set out to be reached, what was found, and whether it was; None where rows are missing."""

    told: str
    found: str
    met: bool | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=OUT / "results.jsonl", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/accuracy.md"), help="(%(default)s)")
    parser.add_argument("--base", default="auto", help="of the rows that count (%(default)s: what rehead chose)")
    options = parser.parse_args()
    told = Results(read_results(options.results), options.base)
    figure = options.out.with_suffix(".svg")
    options.out.write_text(page(told, figure.name), encoding="utf-8")
    draw(told, figure)


class Results:
    """The rows that count, by set, method, seed and number of examples.

    Args:
        rows: in the order in which they were measured.
        base: the pretrained model of the rows that count, or `auto`; rows of others are left to `others`.
    """

    def __init__(self, rows: Iterable[Row], base: str) -> None:
        latest = {tuple(row[key] for key in ("set", "method", "base", "seed", "shots")): row for row in rows}
        self.base = base
        self.rows = [row for row in latest.values() if row["base"] in (None, base)]
        self.others = [row for row in latest.values() if row["base"] not in (None, base)]

    def of(self, name: str, method: str, shots: int | None = None) -> list[Row]:
        """Returns the rows that have answers, by rising seed."""
        found = [row for row in self.all_of(name, method, shots) if row["status"] == "ok"]
        return sorted(found, key=lambda row: row["seed"])

    def without_answers(self, name: str, method: str, shots: int | None = None) -> list[Row]:
        """Returns the rows that failed, took too long or were skipped."""
        return [row for row in self.all_of(name, method, shots) if row["status"] != "ok"]

    def mean(self, name: str, method: str, metric: str, shots: int | None = None) -> float | None:
        """Returns a metric's mean over seeds; None where there are none."""
        values = [row["metrics"][metric] for row in self.of(name, method, shots)]
        return mean(values) if values else None

    def seconds(self, name: str, method: str, shots: int | None = None) -> float | None:
        """Returns the median over seeds of what a row took; None where there are none."""
        values = [row["seconds"] for row in self.of(name, method, shots)]
        return median(values) if values else None

    def test(self, name: str, first: str, second: str) -> tuple[int, int, float] | None:
        """Tests two methods on the seeds that both have; see `accuracy_scores.mcnemar`."""
        seeds = {row["seed"]: row for row in self.of(name, second)}
        pairs = [(row, seeds[row["seed"]]) for row in self.of(name, first) if row["seed"] in seeds]
        # Of files that were divided differently no two rows belong together.
        pairs = [(one, two) for one, two in pairs if one["data"]["digest"] == two["data"]["digest"]]
        if not pairs:
            return None
        right = [np.concatenate([_right(row) for row in side]) for side in zip(*pairs, strict=True)]
        return accuracy_scores.mcnemar(*right)

    def all_of(self, name: str, method: str, shots: int | None = None) -> list[Row]:
        """Returns the rows, with answers or without."""
        return [row for row in self.rows if (row["set"], row["method"], row["shots"]) == (name, method, shots)]


def page(told: Results, figure: str) -> str:
    """Writes the page in Markdown.

    Args:
        figure: the name of the file that `draw` writes beside it.
    """
    goals = targets(told)
    met, missed = (sum(goal.met is found for goal in goals) for found in (True, False))
    parts = [
        "# Accuracy, side by side",
        _about(told),
        f"![accuracy against seconds, a panel a set]({figure})",
        "## Targets",
        f"{met} met, {missed} missed, {len(goals) - met - missed} not measured yet.",
        table(["target", "found", ""], [[goal.told, goal.found, _verdict(goal.met)] for goal in goals]),
        "## Sets",
    ]
    for name in SETS:
        parts += [f"### {name}", _of_set(told, name)]
    parts += ["## `balanced` against each other method", _tests(told), "## Calibration", _calibration(told)]
    parts += ["## Few examples", _few(told), "## Rows without answers", _without(told)]
    return "\n\n".join(parts) + "\n"


def targets(told: Results) -> list[Target]:
    """Compares what was found with what was set out to be reached."""
    return [
        _not_worse(told),
        _faster(told),
        *(_reached(told, *goal) for goal in REACHED),
        _best_gain(told),
        *_few_targets(told),
        _calibrated(told),
    ]


def _not_worse(told: Results) -> Target:
    tests = [(name, other, told.test(name, "balanced", other)) for name in SETS for other in (*CHEAP, "finetuned")]
    known = [(name, other, *test) for name, other, test in tests if test]
    worse = [
        f"{name} than {TITLES[other]} (p = {p:.2g})"
        for name, other, better, worse, p in known
        if p < SIGNIFICANT and worse > better
    ]
    goal = "`balanced` on no set significantly worse than counting words or plain fine-tuning"
    found = f"{len(known)} comparisons; worse on " + (", ".join(worse) or "none")
    return Target(goal, found, not worse if known else None)


def _faster(told: Results) -> Target:
    ratios = [ratio for name in SETS if (ratio := _ratio(told, name, "balanced"))]
    found = f"{median(ratios):.1f} times, {len(ratios)} sets" if ratios else "missing"
    goal = f"`balanced` at least {TIMES_FASTER} times as fast as plain fine-tuning of the same base, median of the sets"
    return Target(goal, found, median(ratios) >= TIMES_FASTER if ratios else None)


def _ratio(told: Results, name: str, method: str) -> float | None:
    """Returns how many times as long plain fine-tuning took."""
    own, plain = told.seconds(name, method), told.seconds(name, "finetuned")
    return plain / own if own and plain else None


def _reached(told: Results, preset: str, name: str, metric: str, least: float) -> Target:
    found = told.mean(name, preset, metric)
    what = _METRICS[metric].format(positive=SETS[name].positive)
    goal = f"`{preset}` on {name}: {what} of {format(least, '.1%' if metric == 'accuracy' else '.3f')} or more"
    if found is None:
        return Target(goal, "missing", None)
    return Target(goal, format(found, _CELLS[metric]), found >= least)


def _best_gain(told: Results) -> Target:
    pairs = [(told.mean(name, "best", "accuracy"), told.mean(name, "balanced", "accuracy")) for name in SETS]
    gains = [best - balanced for best, balanced in pairs if best is not None and balanced is not None]
    found = f"{100 * mean(gains):+.2f} points, {len(gains)} sets" if gains else "missing"
    goal = f"`best` at least {100 * BEST_GAIN:.0f} point more accurate than `balanced`, mean of the sets"
    return Target(goal, found, mean(gains) >= BEST_GAIN if gains else None)


def _few_targets(told: Results) -> list[Target]:
    accuracies, times = [], []
    for name in FEW_SHOT_SETS:
        for shots in SHOTS:
            pair = [told.mean(name, method, "accuracy", shots) for method in ("balanced", "setfit")]
            if None not in pair:
                accuracies.append(pair)
                seconds = [told.seconds(name, method, shots) for method in ("balanced", "setfit")]
                times.append(seconds[0] / seconds[1])
    goals = (
        "`balanced` with few examples: accuracy not below SetFit's, mean of sets and sizes",
        f"`balanced` with few examples: at most {SHARE_OF_SETFIT:.0%} of SetFit's seconds, median",
    )
    if not accuracies:
        return [Target(goal, "missing", None) for goal in goals]
    ours, theirs = (mean(column) for column in zip(*accuracies, strict=True))
    pairs = f"{len(accuracies)} of {len(SHOTS) * len(FEW_SHOT_SETS)} pairs"
    return [
        Target(goals[0], f"{ours:.2%} and {theirs:.2%}, {pairs}", ours >= theirs),
        Target(goals[1], f"{median(times):.0%}, {pairs}", median(times) <= SHARE_OF_SETFIT),
    ]


def _calibrated(told: Results) -> Target:
    errors = [error for name in SETS if (error := told.mean(name, "balanced", "ece")) is not None]
    goal = f"`balanced`: calibration error on the test part of {CALIBRATION_ERROR} or less, median of the sets"
    if not errors:
        return Target(goal, "missing", None)
    return Target(goal, f"{median(errors):.3f}, {len(errors)} sets", median(errors) <= CALIBRATION_ERROR)


def _of_set(told: Results, name: str) -> str:
    data = SETS[name]
    methods = [method for method in METHODS if METHODS[method].can_learn(data)]
    methods = [method for method in methods if method != "setfit" or name in FEW_SHOT_SETS]
    measures = ["accuracy", "macro_f1", *(["f1"] if data.positive else []), *(["micro_f1"] if data.multilabel else [])]
    heads = {
        "accuracy": "subset accuracy" if data.multilabel else "accuracy",
        "macro_f1": "macro F1",
        "f1": f"F1 of {data.positive}",
        "micro_f1": "micro F1",
    }
    rows = []
    for method in methods:
        own = told.of(name, method)
        if not own:
            why = sorted({row["status"] for row in told.without_answers(name, method)})
            rows.append([TITLES[method], "", ", ".join(why) or "missing", *[""] * (len(measures) + 4)])
            continue
        ratio = _ratio(told, name, method)
        rows.append(
            [
                TITLES[method],
                ", ".join(sorted({row["facts"]["base"] for row in own if "base" in row["facts"]})),
                *(_spread([row["metrics"][metric] for row in own], _CELLS[metric]) for metric in measures),
                _mean([row["metrics"]["log_loss"] for row in own]),
                f"{median(row['seconds'] for row in own):,.0f}",
                "" if ratio is None else f"{1 / ratio:.2f}",
                f"{median(row['peak_bytes'] for row in own) / 1e9:.1f}",
                str(len(own)),
            ]
        )
    if data.images:
        rows += _colours(told, name, len(measures))
    head = [
        "method",
        "base",
        *(heads[metric] for metric in measures),
        "log loss",
        "seconds",
        "of plain fine-tuning's",
        "GB",
    ]
    return f"{_origin(told, name)}\n\n{table([*head, 'seeds'], rows)}"


def _colours(told: Results, name: str, n_measures: int) -> list[list[str]]:
    """Returns the row of rehead's own cheap baseline for images, as its JSON tells it."""
    found = [row["facts"]["baselines"]["hog"] for row in told.of(name, "quick") if "baselines" in row["facts"]]
    if not found:
        return []
    cells = [_spread([one[metric] for one in found], _CELLS[metric]) for metric in ("accuracy", "macro_f1")]
    return [["colours and edges, logistic regression", "", *cells, *[""] * (n_measures + 2), str(len(found))]]


def _origin(told: Results, name: str) -> str:
    data = SETS[name]
    rows = [row for row in told.rows if row["set"] == name and "data" in row]
    sizes = rows[-1]["data"]["rows"] if rows else {}
    how = "The published test part." if data.published else "A fifth of each class for the test, seed 0."
    told_sizes = ", ".join(f"{n:,} for {part}" for part, n in sizes.items())
    digests = sorted({row["data"]["digest"] for row in rows})
    warning = " **Rows of different divisions; they cannot be compared.**" if len(digests) > 1 else ""
    unit = "images" if data.images else "texts"
    return f"{how}{f' {unit.capitalize()}: {told_sizes} (digest {digests[0]}).' if rows else ''}{warning}"


def _tests(told: Results) -> str:
    rows = []
    for name in SETS:
        for other in METHODS:
            test = told.test(name, "balanced", other) if other != "balanced" else None
            if test:
                better, worse, p = test
                verdict = "no difference shown" if p >= SIGNIFICANT else "better" if better > worse else "**worse**"
                rows.append([name, TITLES[other], f"{better:,}", f"{worse:,}", f"{p:.2g}", verdict])
    about = (
        "McNemar's exact test, two-sided, over the test rows of all seeds that both have; where a text may have "
        "several labels, a row is right if all of them are. The same rows come once a seed, so with several seeds p is "
        "smaller than with as many rows of their own. Not corrected for the number of comparisons."
    )
    head = ["set", "against", "only `balanced` right", "only the other", "p", "`balanced` is"]
    return f"{about}\n\n{table(head, rows)}" if rows else f"{about}\n\nRows missing."


def _calibration(told: Results) -> str:
    rows = []
    for name in SETS:
        own = told.of(name, "balanced")
        if own:
            before = [(row["facts"].get("calibration") or {}).get("ece_before") for row in own]
            plain = [row["metrics"]["ece"] for row in told.of(name, "finetuned")]
            rows.append([name, _mean(before), _mean([row["metrics"]["ece"] for row in own]), _mean(plain)])
    about = "Expected calibration error, 15 bins of equal width. Before is as rehead tells it of itself."
    head = ["set", "`balanced`, before scaling", "`balanced`", "plain fine-tuning"]
    return f"{about}\n\n{table(head, rows)}" if rows else f"{about}\n\nRows missing."


def _few(told: Results) -> str:
    rows = []
    for name in FEW_SHOT_SETS:
        for shots in SHOTS:
            for method in METHODS:
                own = told.of(name, method, shots)
                if own:
                    scores = [_spread([row["metrics"][m] for row in own], _CELLS[m]) for m in ("accuracy", "macro_f1")]
                    seconds = f"{median(row['seconds'] for row in own):,.0f}"
                    rows.append([name, str(shots), TITLES[method], *scores, seconds, str(len(own))])
    about = "The same draws for every method; the mean over draws ± their standard deviation, seconds the median."
    head = ["set", "examples a class", "method", "accuracy", "macro F1", "seconds", "draws"]
    return f"{about}\n\n{table(head, rows)}" if rows else f"{about}\n\nRows missing."


def _without(told: Results) -> str:
    """Lists rows that failed, took too long or were skipped, and those that nobody has run yet."""
    rows = []
    for row in told.rows:
        if row["status"] != "ok":
            reason = row["reason"].strip().split("\n")[-1].replace("|", "\\|")
            shots = "all" if row["shots"] is None else str(row["shots"])
            rows.append([row["set"], TITLES[row["method"]], str(row["seed"]), shots, row["status"], reason[:200]])
    missing = [
        f"{name}: {', '.join(methods)}"
        for name, data in SETS.items()
        if (
            methods := [
                TITLES[method]
                for method in METHODS
                if METHODS[method].can_learn(data)
                and (method != "setfit" or name in FEW_SHOT_SETS)
                and not told.all_of(name, method)
            ]
        )
    ]
    head = ["set", "method", "seed", "examples a class", "what", "why"]
    parts = [table(head, rows)] if rows else ["None failed."]
    parts.append("Missing: " + "; ".join(missing) + "." if missing else "No set lacks a method.")
    return "\n\n".join(parts)


def _about(told: Results) -> str:
    rows = [row for row in told.rows if row["status"] == "ok"]
    if not rows:
        return "Nothing was measured yet."
    machines = sorted({"{cores} cores of {processor} ({flags})".format(**row["machine"]) for row in rows})
    commits = sorted({row["commit"] for row in rows})
    versions = sorted({f"{name} {number}" for row in rows for name, number in row["versions"].items()})
    bases, times = {row["base"] for row in told.others}, [row["time"] for row in rows]
    return (
        f"`python benchmarks/accuracy.py`, {len(rows)} rows, "
        f"{'each set with the base that rehead chose' if told.base == 'auto' else f'base {told.base}'}, "
        f"{' to '.join(sorted({min(times)[:10], max(times)[:10]}))}. Every method gets the "
        "same files. Means over seeds ± standard deviation; seconds are the median of whole processes, from Enter to "
        "the saved model and a tested one, nothing computed before and the pretrained model on the disk. rehead's "
        "answers to each row come from `rehead predict`, whose seconds are not in it. Plain fine-tuning: all weights, "
        "4 epochs of `transformers.Trainer` (`benchmarks/peer_finetuned.py`), on images 10 of a plain loop. "
        f"{'; '.join(machines)}. Commits {', '.join(commits)}. {', '.join(versions)}."
        + (f" Rows of other bases, not shown: {', '.join(sorted(bases))}." if bases else "")
    )


def draw(told: Results, file: Path) -> None:
    """Draws accuracy against seconds, a small panel a set, and all panels' legend below."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    names = [name for name in SETS if any(told.of(name, method) for method in METHODS)]
    # Three panels beside each other can still be read on a telephone.
    columns = 3
    lines = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(7.5, 2.3 * lines + 0.8), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    markers = dict(zip(METHODS, "osD^v*P", strict=True))
    handles: dict[str, Any] = {}
    for panel, name in zip(panels, names, strict=False):
        for i, method in enumerate(METHODS):
            seconds, accuracy = told.seconds(name, method), told.mean(name, method, "accuracy")
            if seconds is not None and accuracy is not None:
                # Filled and dark is rehead; the others are hollow, so that the eye finds the two groups.
                own = method in ("quick", "balanced", "best")
                face = f"C{i}" if own else "none"
                style = {"marker": markers[method], "color": f"C{i}", "markerfacecolor": face, "linestyle": ""}
                (handle,) = panel.plot([seconds], [100 * accuracy], markersize=6, **style)
                handles[TITLES[method].strip("`")] = handle
        panel.set_title(name, fontsize=9)
        panel.set_xscale("log")
        # Whole seconds: powers of ten are hard to read where all methods lie within one of them.
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel("seconds", fontsize=8)
        panel.margins(0.15)
        panel.grid(alpha=0.3, linewidth=0.5)
        panel.tick_params(labelsize=7, which="both")
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    figure.supylabel("accuracy, %", fontsize=9)
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.savefig(file, metadata={"Date": None})


def _right(row: Row) -> Any:
    sides = (accuracy_scores.unpack(row[side], row["n_test"]) for side in ("truth", "predicted"))
    return accuracy_scores.are_right(*sides)


def _spread(values: Sequence[float], form: str) -> str:
    told = format(mean(values), form)
    if len(values) == 1:
        return told
    return f"{told} ± {format(stdev(values), form)}"


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{mean(known):.3f}" if known else ""


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: "missing"}[met]


if __name__ == "__main__":
    main()
