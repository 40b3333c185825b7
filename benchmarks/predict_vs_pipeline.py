"""Classifying many texts: `rehead predict` against transformers.pipeline, with the same saved classifiers.

5,000 different messages of the SMS Spam Collection, a SmolLM2 classifier of the book's split. The pipeline is timed on
500 of them, drawn at random, for each of its batch sizes: all 5,000 would take it hours and not change its messages a
second. For it these count scoring alone; for rehead the whole process, with imports and loading. In the rows "the same
500", both do the same in the same circumstances, and the seconds are those of the whole process.

    python benchmarks/predict_vs_pipeline.py SMSSpamCollection [--runs 3] [--out FILE.md]
"""

import csv
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import book_files
import measure
import peers
import rehead_runs
import results
from measure import Contender, Run
from rehead_runs import REHEAD, Cache

MESSAGES, SUBSET = 5000, 500
FULL, AUTO = "30 blocks, pool last", "auto depth, pool last"
MODELS = {
    FULL: ["--pool", "last", "--depth", "30"],
    AUTO: ["--pool", "last"],
    "auto depth and pool": [],
}
PIPELINES = [
    (FULL, 1, "float32"),
    (FULL, 8, "float32"),
    (FULL, 32, "float32"),
    (FULL, 8, "bfloat16"),
    (AUTO, 8, "float32"),
]


@dataclass(frozen=True)
class Scoring:
    """One way to classify a file.

    Attributes:
        model: a key of `MODELS`.
        n: how many messages.
        output: one line of JSON a message.
        dtype: of the pipeline; None for rehead.
    """

    contender: Contender
    model: str
    n: int
    output: Path
    dtype: str | None = None

    def speeds(self, runs: list[Run]) -> list[float]:
        """Messages a second, in each run."""
        return [self.n / (run.facts["seconds"]["score"] if self.dtype else run.seconds) for run in runs]


def main() -> None:
    parser = results.parser(__doc__)
    results.add_collection(parser)
    parser.add_argument("--texts", type=int, default=MESSAGES, metavar="N", help="how many messages (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        everything, subset = _messages(options.collection, options.texts, folder)
        models = _train(options.collection, folder)
        pipelines = [wanted for wanted in PIPELINES if wanted[2] == "float32" or rehead_runs.has_bf16()]
        peer = [_pipeline(models, subset, min(SUBSET, options.texts), *wanted, folder) for wanted in pipelines]
        few = [_rehead(models, model, subset, min(SUBSET, options.texts), "the same 500", folder) for model in MODELS]
        all_of_them = [_rehead(models, model, everything, options.texts, "all", folder) for model in MODELS]
        scorings = [*peer, *few, *all_of_them]
        for runs in measure.in_turn([[scoring.contender for scoring in scorings]] * options.runs):
            agreement = _agreement(peer, {scoring.model: scoring.output for scoring in all_of_them})
            results.publish([_table(scorings, runs), agreement, results.conditions(runs)], options.out)


def _messages(collection: Path, n: int, folder: Path) -> tuple[Path, Path]:
    """All messages and the subset; each message once, because rehead would score a repeated one but once."""
    lines = collection.read_text(encoding="utf-8").strip("\n").split("\n")
    different = sorted({line.split("\t", 1)[1] for line in lines})
    chosen = random.Random(0).sample(different, n)  # noqa: S311
    files = folder / "all.csv", folder / "subset.csv"
    for file, texts in zip(files, (chosen, chosen[:SUBSET]), strict=True):
        with file.open("w", encoding="utf-8", newline="") as output:
            csv.writer(output).writerows([("number", "text"), *enumerate(texts)])
    return files


def _train(collection: Path, folder: Path) -> dict[str, Path]:
    """The classifiers, one for each of `MODELS`."""
    data = book_files.as_arguments(book_files.write(collection, folder))
    cache = Cache(folder / "cache")
    models = {}
    for title, options in MODELS.items():
        models[title] = folder / title
        measure.run(rehead_runs.warm(title, data, ["--tune", "head", *options], cache, models[title]))
    return models


def _pipeline(models: dict[str, Path], file: Path, n: int, model: str, size: int, dtype: str, folder: Path) -> Scoring:
    title = f"pipeline, {model}, the same 500, batch {size}, {dtype}"
    output = folder / f"{title}.jsonl"
    data = ["--model", models[model], "--texts", file, "--output", output]
    command = peers.command("peer_pipeline.py", *data, "--batch-size", str(size), "--dtype", dtype)
    return Scoring(Contender(title, command), model, n, output, dtype)


def _rehead(models: dict[str, Path], model: str, file: Path, n: int, which: str, folder: Path) -> Scoring:
    title = f"rehead predict, {model}, {which}"
    output = folder / f"{title}.jsonl"
    return Scoring(Contender(title, [*REHEAD, "predict", models[model], file, "-o", output]), model, n, output)


def _table(scorings: list[Scoring], runs: dict[str, list[Run]]) -> str:
    """With the ratio to the pipeline's best batch size at full depth in float32, its default."""
    speeds = {scoring.contender.title: scoring.speeds(runs[scoring.contender.title]) for scoring in scorings}
    references = [s.contender.title for s in scorings if s.model == FULL and s.dtype == "float32"]
    best = max(median(speeds[title]) for title in references)
    rows = [
        [
            title,
            results.seconds(runs[title]),
            results.spread(values),
            f"{median(values) / best:.1f}×",
            results.gigabytes(runs[title]),
        ]
        for title, values in speeds.items()
    ]
    head = ["run", "seconds, whole process", "messages a second", "to pipeline's best, 30 blocks, fp32", "peak GB"]
    return results.table(head, rows)


def _agreement(peer: list[Scoring], ours: dict[str, Path]) -> str:
    """How far the pipeline's answers are from those that rehead gave to the same messages among all of them."""
    rows = []
    for scoring in peer:
        theirs = [json.loads(line) for line in scoring.output.read_text(encoding="utf-8").splitlines()]
        lines = ours[scoring.model].read_text(encoding="utf-8").splitlines()[: len(theirs)]
        pairs = list(zip(map(_probabilities, lines), theirs, strict=True))
        same = sum(max(a, key=a.get) == max(b, key=b.get) for a, b in pairs)
        largest = max(abs(a[label] - b[label]) for a, b in pairs for label in b)
        rows.append([scoring.contender.title, f"{same} of {len(pairs)}", f"{largest:.2g}"])
    return results.table(["compared with rehead predict", "labels equal", "largest difference of a probability"], rows)


def _probabilities(line: str) -> dict[str, float]:
    """Of a line that `rehead predict -o` has written, whose columns are called p(LABEL)."""
    return {name[2:-1]: value for name, value in json.loads(line).items() if name.startswith("p(")}


if __name__ == "__main__":
    main()
