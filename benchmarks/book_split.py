"""Accuracy and time on the balanced SMS split of Raschka, *Build a Large Language Model (From Scratch)*, 2024, ch. 6.

The 747 spam messages and 747 ham messages (pandas `sample(747, random_state=123)`), shuffled with
random_state=123, cut 70/10/20 into 1,045 / 149 / 300. Messages stand several times in the collection, so 36 of
the 300 test messages are verbatim in the training part; both numbers are shown.

    python benchmarks/book_split.py SMSSpamCollection [--out FILE.md]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

RUNS = {
    "`--tune head`": [],
    "`--tune head --pool last`": ["--pool", "last"],
    "`--tune head --pool last --depth 30`": ["--pool", "last", "--depth", "30"],
    "`--tune last-1 --pool last --depth 30`, 5 epochs": ["--tune", "last-1", "--pool", "last", "--depth", "30"],
}


def split(collection: Path) -> dict[str, pd.DataFrame]:
    """The three parts, in the book's order of rows."""
    # Not splitlines(): some messages hold other characters that count as line breaks there.
    lines = [line.split("\t", 1) for line in collection.read_text(encoding="utf-8").strip("\n").split("\n")]
    everything = pd.DataFrame(lines, columns=["label", "text"])
    spam = everything[everything.label == "spam"]
    ham = everything[everything.label == "ham"].sample(len(spam), random_state=123)
    shuffled = pd.concat([ham, spam]).sample(frac=1, random_state=123).reset_index(drop=True)
    train_end = int(len(shuffled) * 0.7)
    validation_end = train_end + int(len(shuffled) * 0.1)
    return {
        "train": shuffled[:train_end],
        "validation": shuffled[train_end:validation_end],
        "test": shuffled[validation_end:],
    }


def fit(folder: Path, options: list[str]) -> dict:
    """Runs the command as a user would; returns its JSON."""
    files = [str(folder / f"{part}.csv") for part in ("train", "validation", "test")]
    command = [sys.executable, "-m", "rehead.cli", "fit", files[0], "--validation", files[1], "--test", files[2]]
    command += [*options, "-o", str(folder / "model"), "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(finished.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("collection", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [
        "| run | kept | test accuracy (n = 300) | without the overlap | TF-IDF, same texts | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = split(options.collection)
        repeated = parts["test"].text.isin(set(parts["train"].text)).sum()
        sizes = " / ".join(f"{len(part):,}" for part in parts.values())
        print(f"{sizes} messages; {repeated} test messages stand verbatim in the training part")
        for part, frame in parts.items():
            frame.to_csv(folder / f"{part}.csv", index=False)
        for title, arguments in RUNS.items():
            facts = fit(folder, arguments)
            test, overlap, baselines = facts["test"], facts["overlap"], facts["baselines"]
            clean, clean_tfidf = overlap["test_without"], overlap["baselines_without"]["tfidf"]
            rows.append(
                f"| {title} | {facts['depth']} blocks, {facts['pool']} "
                f"| {test['accuracy']:.2%} | {clean['accuracy']:.2%} "
                f"(n = {clean['n']}) | {baselines['tfidf']['accuracy']:.2%} / "
                f"{clean_tfidf['accuracy']:.2%} | {facts['seconds']['total']:.0f} |"
            )
            print(rows[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
