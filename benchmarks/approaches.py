"""The page of approaches side by side, from what `rehead compare -o DIR` has written.

    python benchmarks/approaches.py DIR [DIR ...] [--out FILE.md]

The figure lies beside the page: accuracy against seconds of learning, and against labelled examples.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import results

# Seconds that are drawn of what took next to none.
_SHORTEST = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    told = [json.loads((folder / "comparison.json").read_text(encoding="utf-8")) for folder in options.folders]
    parts = [part for facts in told for part in _section(facts)]
    if options.out:
        figure = options.out.with_suffix(".svg")
        _draw(told, figure)
        parts.append(f"![accuracy against seconds of learning and against labelled examples]({figure.name})")
    results.publish(parts, options.out)


def _section(facts: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"**{row['title']}**" if row["name"] == facts["recommended"] else row["title"],
            f"{row['accuracy']:.1%} ({row['accuracy_ci'][0]:.1%} to {row['accuracy_ci'][1]:.1%})",
            f"{row['macro_f1']:.3f}",
            "" if row["p_value"] is None else f"{row['p_value']:.4f}",
            f"{row['n']:,}",
            f"{row['n_learned']:,}",
            f"{row['seconds']:.0f}" + (f" (+{row['cached_seconds']:.0f})" if row["cached_seconds"] >= 1 else ""),
            f"{row['tflops']:.1f}",
            f"{row['milliseconds']:.1f}",
            f"{row['megabytes']:.0f}",
            "" if row["outside"] is None else f"{row['outside']:.0%}",
            "" if row["enough"] is None else f"{row['enough']:,}",
            "" if row["lost_by"] is None else " / ".join(f"{100 * lost:.1f}" for lost in row["lost_by"].values()),
        ]
        for row in facts["approaches"]
    ]
    head = ["approach", "accuracy", "macro F1", "p", "tested on", "learned from", "seconds", "TFLOP", "ms a text", "MB"]
    head += ["outside", "labels for 95 % of the best", "lost by typos / capitals / omissions"]
    left_out = [f"Not tried: {name}, {reason}." for name, reason in facts["not_tried"].items()]
    n_train = f"{facts['n_train']:,} of {facts['rows']['train']:,}"
    title = f"## {facts['data']}: {len(facts['labels'])} classes, {n_train} texts to learn from"
    return [title, results.table(head, rows), " ".join(left_out), "\n".join(f"> {line}" for line in facts["reasons"])]


def _draw(told: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(told), 7.5), layout="constrained")
    axes = figure.subplots(2, len(told), squeeze=False)
    names = list(dict.fromkeys(row["title"] for facts in told for row in facts["approaches"]))
    for column, facts in enumerate(told):
        above, below = axes[0][column], axes[1][column]
        for row in facts["approaches"]:
            style = {"color": f"C{names.index(row['title']) % 10}", "marker": "o", "markersize": 4}
            seconds = max(_SHORTEST, row["seconds"] + row["cached_seconds"])
            above.plot([seconds], [row["accuracy"]], linestyle="", label=row["title"], **style)
            if row["curve"]:
                below.plot(facts["curve_sizes"], row["curve"], **style)
            elif row["n_learned"]:
                below.plot([row["n_learned"]], [row["accuracy"]], linestyle="", **style)
            else:
                below.axhline(row["accuracy"], color=style["color"], linestyle=":", linewidth=1)
        above.set(
            title=f"{facts['data']}, {facts['n_train']:,} examples",
            xlabel="seconds of learning",
            ylabel="test accuracy",
            xscale="log",
        )
        below.set(xlabel="labelled examples", ylabel="accuracy", xscale="log")
    handles: dict[str, Any] = {}
    for one in axes[0]:
        handles |= {label: handle for handle, label in zip(*one.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
