"""Compares approaches on one split: runs each, keeps what it found, and recommends one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.artifact.saving import new_folder, require_replaceable
from rehead.comparison import approaches, curves, robustness
from rehead.comparison.approaches import CHEAP, IN_WORDS, TITLES, Approach, Learned, NotTriedError, Task
from rehead.comparison.identity import digest
from rehead.comparison.recommendation import Result, best_cheap, p_value, recommend
from rehead.data.examples import Examples
from rehead.data.parts import Sources, prepare
from rehead.evaluation import metrics, plots, report
from rehead.evaluation.intervals import bootstrap, wilson
from rehead.models.families import FAMILIES
from rehead.models.loading import locate, model_type_of
from rehead.runtime import files, hardware, progress
from rehead.runtime.errors import DataError, RheadError, SettingError
from rehead.training.resumption import Resumption
from rehead.workflows import messages
from rehead.workflows.results import rows_of

BUDGET = 600.0
BASES = ("minilm", "smollm2")
_DESCRIPTION = "comparison.json"
_LEAST_EXAMPLES = 20
# Of the best accuracy: what the number of examples is told for.
_ENOUGH = 0.95
# Of what is left of the budget: what one approach may take to be tried with noise.
_SHARE_FOR_NOISE = 0.1


@dataclass(frozen=True)
class Tried:
    """An approach on the test examples, as JSON can hold it.

    Attributes:
        predicted: class ids of the test examples that it was tried on.
        tested: which these are; None for all.
        intervals: of accuracy and macro F1.
        curve: accuracy by number of labelled examples, at `totals`; None for those that are too slow to learn again.
    """

    name: str
    title: str
    predicted: list[int]
    tested: list[int] | None
    accuracy: float
    accuracy_ci: tuple[float, float]
    macro_f1: float
    macro_f1_ci: tuple[float, float]
    n_learned: int
    seconds: float
    cached_seconds: float
    tflops: float
    milliseconds: float
    megabytes: float
    outside: float | None
    takes_new_labels: bool
    new_label_recall: float | None
    lost_by: dict[str, float] | None
    notices_other_subjects: float | None
    curve: list[float] | None


def compare(
    sources: Sources | str,
    *,
    names: Sequence[str] = tuple(TITLES),
    bases: Sequence[str] = BASES,
    n_examples: int | None = None,
    budget: float = BUDGET,
    max_length: int = 512,
    random_state: int = 0,
    output: str | Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Runs approaches on the same training, validation and test examples; gives the facts, as JSON can hold them.

    Args:
        names: of the approaches, see `rehead.comparison.approaches.TITLES`; they are tried in that order.
        bases: probes are tried on each; the other heads on the first; the first decoder is asked in words.
        n_examples: learn from so many training examples at most, each class in its share, so that costly approaches
            can be tried, too.
        budget: seconds in all; what would take longer is not tried, prompts are tried on fewer texts.
        output: folder for comparison.json and report.html; nothing is written if None.
        resume: go on from where an interrupted comparison with the same `output` stood.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    begun = time.perf_counter()
    sources = Sources(sources) if isinstance(sources, str) else sources
    wanted = [pair for name in names for pair in approaches.of(name, tuple(bases))]
    if not bases:
        raise SettingError("--base: name one at least")
    if not any(name in CHEAP for name in names):
        raise SettingError("--approaches: leave majority or tfidf in; the others are compared with them")
    if n_examples is not None and n_examples < _LEAST_EXAMPLES:
        raise SettingError(f"--examples must be {_LEAST_EXAMPLES} or more, not {n_examples}")
    if not budget > 0:
        raise SettingError(f"--budget must be above 0, not {budget}")
    if output is not None:
        require_replaceable(Path(output), _DESCRIPTION, "no comparison")
    parts = prepare(sources, random_state)
    if parts.train.multilabel or parts.train.pictures is not None:
        raise DataError(f"{sources.data}: approaches are compared on texts with one label each")
    messages.say_what_is_used(parts)
    messages.say_findings(parts.findings)
    task = Task(
        parts.train if n_examples is None else approaches.drawn(parts.train, n_examples, random_state),
        parts.validation,
        parts.test,
        tuple(bases),
        _writer(bases),
        max_length,
        random_state,
        lambda: budget - (time.perf_counter() - begun),
    )
    with nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption:
        folder = None if resumption is None else resumption.folder
        tried, not_tried = _all_tried(task, wanted, folder, resume)
        facts = {
            "data": sources.data,
            "labels": list(task.train.label_names),
            "rows": rows_of(parts).to_json(),
            "n_train": len(task.train),
            "bases": list(bases),
            "budget": budget,
            "seed": random_state,
            **_told(task, tried),
            "not_tried": not_tried,
            "versions": {name: version(name) for name in ("rehead", "torch", "transformers")},
            "seconds": {"total": time.perf_counter() - begun},
            "peak_rss_bytes": hardware.peak_rss_bytes(),
        }
        if output is not None:
            facts["report"] = str(Path(output).resolve() / "report.html")
            _write(Path(output).resolve(), facts)
    return facts


def _writer(bases: Sequence[str]) -> str | None:
    """The first base that is a language model."""
    for base in bases:
        family = FAMILIES.get(model_type_of(locate(base), base))
        if family is not None and family.causal:
            return base
    return None


def _all_tried(
    task: Task, wanted: Sequence[tuple[str, Approach]], folder: Path | None, resume: bool
) -> tuple[list[Tried], dict[str, str]]:
    tried: list[Tried] = []
    not_tried: dict[str, str] = {}
    decides = [task.writer, task.max_length, task.seed]
    parts = task.train, task.validation, task.test
    common = None if folder is None else digest(decides, [locate(base) for base in task.bases], parts)
    for name, approach in wanted:
        kept = None if folder is None else folder / f"{hashlib.sha256(f'{name} {common}'.encode()).hexdigest()}.json"
        if resume and kept is not None and kept.is_file():
            tried.append(Tried(**json.loads(kept.read_text(encoding="utf-8"))))
            continue
        progress.say(f"{_title(name)} ({max(0, task.seconds_left()):.0f} s of the budget are left)")
        try:
            result = _tried(task, name, approach(task))
        except (NotTriedError, RheadError) as reason:
            not_tried[name] = str(reason)
            progress.say(f"not tried: {reason}")
            continue
        tried.append(result)
        if kept is not None:
            files.write_file(kept, json.dumps(asdict(result)).encode())
    return tried, not_tried


def _tried(task: Task, name: str, learned: Learned) -> Tried:
    test = task.test if learned.tested is None else task.test.take(learned.tested)
    begun = time.perf_counter()
    probabilities = learned.scores(test.texts)
    seconds = time.perf_counter() - begun
    predicted = probabilities.argmax(1)
    # Disturbed texts are answered several times over.
    again = robustness.ANSWERED * len(robustness.DISTURBANCES) + len(task.validation)
    quick = name not in IN_WORDS and again * seconds / len(test) < _SHARE_FOR_NOISE * task.seconds_left()
    drawn = bootstrap(probabilities, test.labels)
    return Tried(
        name=name,
        title=_title(name),
        predicted=predicted.tolist(),
        tested=None if learned.tested is None else learned.tested.tolist(),
        accuracy=float((predicted == test.labels).mean()),
        accuracy_ci=wilson(predicted == test.labels),
        macro_f1=metrics.macro_f1(test.labels, predicted),
        macro_f1_ci=drawn["macro_f1"],
        n_learned=learned.n_learned,
        seconds=learned.seconds,
        cached_seconds=learned.cached_seconds,
        tflops=learned.flops / 1e12,
        milliseconds=1000 * seconds / len(test),
        megabytes=learned.megabytes,
        outside=None if learned.outside is None else learned.outside(test.texts),
        takes_new_labels=name in IN_WORDS,
        new_label_recall=None if learned.new_label is None else learned.new_label(),
        lost_by=robustness.losses_of_accuracy(learned.scores, test, predicted, task.seed) if quick else None,
        notices_other_subjects=robustness.noticed(learned.scores, task.validation) if quick else None,
        curve=_curve(task, name, learned),
    )


def _curve(task: Task, name: str, learned: Learned) -> list[float] | None:
    """None where learning again and again would take too much of what is left of the budget."""
    if name == "tfidf":
        often = curves.REPEATS * len(curves.totals(task))  # most of it with fewer examples
        affordable = often * learned.seconds < 2 * _SHARE_FOR_NOISE * task.seconds_left()
        return curves.of_words(task) if affordable else None
    if learned.model is not None and name.startswith("probe:"):
        return curves.of_features(task, learned.model)
    return None


def _told(task: Task, tried: Sequence[Tried]) -> dict[str, Any]:
    """The table, its p-values, how many examples are enough, and the recommendation."""
    results = {one.name: _result(task.test, one) for one in tried}
    cheap = best_cheap(results.values())
    best = max(one.accuracy for one in results.values())
    at = curves.totals(task)
    chosen, reasons = recommend(list(results.values()))
    rows = []
    for one in tried:
        row = {key: value for key, value in asdict(one).items() if key not in ("predicted", "tested")}
        row["n"] = len(one.predicted)
        row["p_value"] = None if one.name == cheap.name else p_value(results[one.name], cheap)
        row["enough"] = None if one.curve is None else curves.enough(at, one.curve, _ENOUGH * best)
        rows.append(row)
    return {
        "approaches": rows,
        "cheap": cheap.name,
        "curve_sizes": at,
        "recommended": chosen,
        "reasons": reasons,
    }


def _result(test: Examples, one: Tried) -> Result:
    tested = np.zeros(len(test), bool)
    rows = np.arange(len(test)) if one.tested is None else np.array(one.tested, dtype=np.int64)
    tested[rows] = True
    right: npt.NDArray[np.bool_] = np.zeros(len(test), bool)
    right[rows] = np.array(one.predicted) == test.labels[rows]
    return Result(one.name, one.title, right, tested, one.seconds + one.cached_seconds, one.milliseconds)


def _title(name: str) -> str:
    kind, _, base = name.partition(":")
    return f"{TITLES[kind]}, {Path(base).name}" if base else TITLES[kind]


def _write(folder: Path, facts: dict[str, Any]) -> None:
    drawn = {"compute": plots.by_compute(facts["approaches"]), "curves": plots.by_examples(facts)}
    with new_folder(folder) as partial:
        told = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        (partial / _DESCRIPTION).write_text(told, encoding="utf-8")
        page = report.render("comparison.html.jinja", facts=facts, drawn=drawn)
        (partial / "report.html").write_text(page, encoding="utf-8")
