"""What `rehead fit` and `rehead evaluate` do, from the data to the saved folder, each as one function.

The data's way: read → drop duplicates → split → fine-tune → evaluate beside the baselines → save → verify.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead import artifact, hardware, progress
from rehead.artifact import Reference
from rehead.classifier import Classifier
from rehead.cross_validation import OutOfFold, cross_validate
from rehead.data.audit import Finding, cut_off, in_order
from rehead.data.duplicates import fingerprints, seen_before
from rehead.data.examples import Dropped, Examples, Index
from rehead.data.parts import Columns, Parts, Sources, prepare, read_examples
from rehead.errors import SettingError
from rehead.evaluation import baselines, report
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.decisions import Rule, Wanted, require_possible, rule_for, tell
from rehead.evaluation.metrics import evaluate as measure
from rehead.evaluation.metrics import softmax
from rehead.evaluation.scoring import Seen, calibration, measured
from rehead.explanation import contributions, shades
from rehead.label_study import of_training
from rehead.tuning.estimate import Plan, estimate
from rehead.tuning.finetune import Finetuned
from rehead.tuning.loop import History
from rehead.tuning.run import Run
from rehead.tuning.settings import Resumption
from rehead.tuning.stages import Stage

# So many mistakes are explained, each with so many pieces.
_EXPLAINED, _PIECES = 10, 20
# So many lines are listed of the rows that were not used, for each reason.
_LISTED_LINES = 100


@dataclass(frozen=True)
class Fitted:
    """A trained classifier, and everything that is to be said about it, as JSON can hold it."""

    model: Classifier
    facts: dict[str, Any] = field(repr=False)


def fit(
    sources: Sources | str,
    model: Classifier | None = None,
    output: str | Path | None = None,
    *,
    resume: bool = False,
    n_folds: int | None = None,
    wanted: Wanted | None = None,
    full_report: bool = False,
) -> Fitted:
    """Trains, evaluates and saves a classifier.

    Args:
        sources: what to learn from and to test on.
        model: an unfitted classifier with the wanted settings; the default settings if None.
        output: folder to save to; nothing is saved if None.
        resume: go on from where an interrupted fit to the same `output` stood.
        n_folds: test by cross-validation with so many folds instead of on a part that is not learned from; what is
            saved has then learned from all examples.
        wanted: of the decisions that are made of probabilities.
        full_report: look for labels that may be wrong, draw a learning curve and explain mistakes; takes longer.

    Raises:
        RheadError: a child of it, for whatever the user can mend; nothing is written then.
    """
    start = time.perf_counter()
    sources = Sources(sources) if isinstance(sources, str) else sources
    model = model or Classifier()
    model.settings()
    if output is not None:
        artifact.require_replaceable(Path(output))
    if n_folds and (sources.validation or sources.test or sources.time_column):
        raise SettingError("--cv tests on every example in turn: leave --validation, --test and --time-column out")
    parts = prepare(sources, model.random_state, with_test=not n_folds)
    _say_what_is_used(parts)
    wanted = wanted or Wanted()
    require_possible(wanted, parts.train.label_names, len(parts.validation))
    held_out = cross_validate(parts.pool, n_folds, model) if n_folds else None
    run = model.prepare(parts.train, parts.validation)
    findings = in_order([*parts.findings, *_cut_off(run)])
    _say_findings(findings)
    _say_estimate(estimate(run))
    with nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption:
        result = model.fit_examples(parts.train, parts.validation, resumption, run)
        _say_stages(result)
        rule = _rule(wanted, result, parts)
        learned = baselines.learn(parts.train, parts.validation)
        test_start = time.perf_counter()
        tested = _tested_by(held_out, parts) if held_out else _tested(model, learned, parts)
        _say_cut(tested.tokens_cut)
        facts = {
            "model": None if output is None else str(Path(output).resolve()),
            **{key: model.artifact_.description[key] for key in _SETTINGS},
            "data": sources.data,
            "rows": _used(parts),
            "truncated": {"training and validation": result.truncated, "test": int((tested.tokens_cut > 0).sum())},
            **_told_by(result, parts),
            **measured(tested.probabilities, tested.test, tested.seen, tested.answers),
            "folds": held_out and held_out.folds,
            "calibration": None
            if held_out
            else calibration(tested.probabilities, tested.test, model.artifact_.description["temperature"]),
            "decisions": {
                **rule.to_json(parts.train.label_names),
                "test": tell(rule, tested.probabilities, tested.test.labels, parts.train.label_names),
            },
            "findings": [finding.to_json() for finding in findings],
            "split": f"cross-validation with {n_folds} folds, {parts.how}" if n_folds else parts.how,
            "seconds": {**result.seconds, "test": time.perf_counter() - test_start},
        }
        _say_overlap(facts, "training")
        if full_report:
            facts["label_study"] = of_training(parts.train, parts.validation, model.artifact_.description)
        if output is not None:
            facts["seconds"]["total"] = time.perf_counter() - start
            documents = {
                "report.html": _report(
                    facts, tested.probabilities, tested.test, model.artifact_ if full_report else None
                ),
                "README.md": report.render_model_card(facts),
                "split.json": _split(parts),
            }
            seen = fingerprints([*parts.train.texts, *parts.validation.texts])
            model.save(
                output, reference=Reference(learned, seen), facts=_saved(facts, parts.columns), documents=documents
            )
            facts["report"] = str(Path(output).resolve() / "report.html")
    facts["seconds"]["total"] = time.perf_counter() - start
    facts["peak_rss_bytes"] = peak_rss_bytes()
    return Fitted(model, facts)


@dataclass(frozen=True)
class _Tested:
    """What the test examples were given, by the classifier and by the baselines."""

    test: Examples
    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]
    answers: dict[str, Index]
    seen: Seen


def _tested(model: Classifier, learned: Baselines, parts: Parts) -> _Tested:
    scores = model.artifact_.scores(parts.test.texts)
    seen = Seen(parts.in_training, parts.near_training)
    return _Tested(parts.test, scores.probabilities, scores.tokens_cut, learned.predict(parts.test.texts), seen)


def _tested_by(held_out: OutOfFold, parts: Parts) -> _Tested:
    nothing = np.zeros(len(parts.pool), dtype=np.bool_)
    return _Tested(parts.pool, held_out.probabilities, held_out.tokens_cut, held_out.answers, Seen(nothing, nothing))


def _rule(wanted: Wanted, result: Finetuned, parts: Parts) -> Rule:
    probabilities = softmax(result.validation_logits)
    return rule_for(wanted, probabilities, parts.validation.labels, parts.train.label_names)


def plan(sources: Sources | str, model: Classifier | None = None) -> dict[str, Any]:
    """What a fit would take, without doing it: reads the data, loads the base and tokenises.

    Raises:
        RheadError: what the fit would raise before it computes anything.
    """
    sources = Sources(sources) if isinstance(sources, str) else sources
    model = model or Classifier()
    parts = prepare(sources, model.random_state)
    _say_what_is_used(parts)
    expected = estimate(model.prepare(parts.train, parts.validation))
    rows = _used(parts)
    return {"data": sources.data, "base": model.base, "tune": model.tune, "rows": rows, **asdict(expected)}


def evaluate(folder: str | Path, sources: Sources | str, report_file: str | Path | None = None) -> dict[str, Any]:
    """Measures a saved classifier on labelled data, beside the baselines that were saved with it.

    Args:
        sources: `data` and the columns are used.
        report_file: an HTML report is written there, if given.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    start = time.perf_counter()
    sources = Sources(sources) if isinstance(sources, str) else sources
    loaded = artifact.load(Path(folder))
    load_seconds = time.perf_counter() - start
    trained_on = (loaded.description.get("text_column"), loaded.description.get("label_column"))
    test, dropped, _, rows_read = read_examples(sources.data, sources, loaded.labels, trained_on)
    seen = loaded.reference.seen if loaded.reference else np.array([], dtype=np.int64)
    in_training = seen_before(test.texts, seen)
    _say_dropped(dropped)
    test_start = time.perf_counter()
    scores = loaded.scores(test.texts)
    probabilities = scores.probabilities
    rule = loaded.rule
    _say_cut(scores.tokens_cut)
    test_seconds = time.perf_counter() - test_start
    facts = {
        "model": str(Path(folder).resolve()),
        **{key: loaded.description[key] for key in _SETTINGS},
        "data": sources.data,
        "rows": _rows(rows_read, dropped, {"test": test}),
        "truncated": {"test": int((scores.tokens_cut > 0).sum())},
        "profile": {},
        "epochs": None,
        "validation": loaded.description.get("metrics", {}).get("validation"),
        **measured(
            probabilities,
            test,
            Seen(in_training, in_training),
            loaded.reference.baselines.predict(test.texts) if loaded.reference else None,
        ),
        "decisions": {
            **rule.to_json(loaded.labels),
            "test": tell(rule, probabilities, test.labels, loaded.labels),
        },
        "seconds": {"load": load_seconds, "trunk": test_seconds, "tail": 0.0, "test": test_seconds},
        "flops": scores.flops,
    }
    _say_overlap(facts, "the training data")
    facts["seconds"]["total"] = time.perf_counter() - start
    facts["peak_rss_bytes"] = peak_rss_bytes()
    if report_file is not None:
        report.write(Path(report_file), _report(facts, probabilities, test))
        facts["report"] = str(Path(report_file).resolve())
    return facts


def _split(parts: Parts) -> str:
    """Which rows were in which part, as JSON."""
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    rows = {name: {"source": part.source, "rows": part.lines.tolist()} for name, part in named.items()}
    return json.dumps({"how": parts.how, **rows})


def _report(
    facts: dict[str, Any],
    probabilities: npt.NDArray[np.float64],
    test: Examples,
    explained_by: artifact.Artifact | None = None,
) -> str:
    drawn = report.figures(probabilities, test, facts)
    mistakes = report.mistakes(probabilities, test)
    if explained_by is not None:
        first = mistakes[:_EXPLAINED]
        pieces, _ = contributions(explained_by, [mistake.text for mistake in first], _PIECES)
        shaded = [
            replace(mistake, shaded=shades(mistake.text, parts)) for mistake, parts in zip(first, pieces, strict=True)
        ]
        mistakes = [*shaded, *mistakes[_EXPLAINED:]]
    return report.render_html(facts, mistakes, drawn)


def peak_rss_bytes() -> int:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_SETTINGS = (
    "base",
    "tune",
    "depth",
    "cut",
    "pool",
    "labels",
    "max_length",
    "long",
    "seed",
    "blocks_of_base",
    "versions",
)


def _used(parts: Parts) -> dict[str, Any]:
    used = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return _rows(parts.rows_read, parts.dropped, used)


def _rows(read: int, dropped: Dropped, used: dict[str, Examples]) -> dict[str, Any]:
    return {
        "read": read,
        "used": sum(len(examples) for examples in used.values()),
        **{name: len(examples) for name, examples in used.items()},
        "dropped": {reason: len(lines) for reason, lines in dropped.items()},
        "dropped_lines": {reason: lines[:_LISTED_LINES] for reason, lines in dropped.items()},
    }


def _cut_off(run: Run) -> list[Finding]:
    """Of the training texts, which lose their ends."""
    used, lost = run.encoded.tokens.numpy(), run.encoded.tokens_cut
    return list(cut_off(run.train, used[: run.n_train], lost[: run.n_train]))


def _told_by(result: Finetuned, parts: Parts) -> dict[str, Any]:
    """How the classifier came about, and how it does on the validation examples."""
    validation = measure(softmax(result.validation_logits), parts.validation.labels, parts.train.label_names)
    return {
        "replaced": result.replaced,
        "parameters": result.parameters,
        "profile": result.profile,
        "epochs": _history(result.history, parts.train),
        "stages": [_stage(stage, parts.train) for stage in result.stages],
        "stopped": result.stopped,
        "validation": validation.to_json(),
        "flops": result.flops,
        **_speed(result),
    }


def _saved(facts: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """What of the facts stands in rehead.json."""
    return {
        "text_column": columns[0],
        "label_column": columns[1],
        "data": facts["data"],
        "rows": facts["rows"],
        "decisions": {key: value for key, value in facts["decisions"].items() if key != "test"},
        "metrics": {key: facts[key] for key in ("validation", "test", "baselines", "comparison", "overlap")},
    }


def _history(history: History | None, train: Examples) -> dict[str, Any] | None:
    if history is None:
        return None
    return {
        "validation_losses": history.validation_losses,
        "kept": history.best_epoch,
        "stopped": history.stopped,
        "lost_rows": train.lines[history.lost_rows].tolist() if history.lost_rows else [],
    }


def _stage(stage: Stage, train: Examples) -> dict[str, Any]:
    return {
        "tune": stage.tune,
        "validation_log_loss": stage.validation_log_loss,
        "seconds": stage.seconds,
        "trainable": stage.trainable,
        "kept": stage.kept,
        "epochs": _history(stage.history, train),
    }


def _speed(result: Finetuned) -> dict[str, float | None]:
    """Floating-point operations a second of the trunk pass, and as a share of a plain matrix product's just now."""
    if not result.trunk_speed:
        return {"gflops": None, "peak_share": None}
    peak = hardware.product_speed(hardware.native_dtype())
    return {"gflops": result.trunk_speed / 1e9, "peak_share": result.trunk_speed / peak}


def _say_estimate(plan: Plan) -> None:
    progress.say(
        f"{plan.tokens:,} tokens, {(plan.trunk_flops + plan.training_flops) / 1e12:.1f} TFLOP: about "
        f"{plan.seconds:.0f} s and {plan.peak_memory_bytes / 1e9:.1f} GB of memory, if no features are in the cache"
    )


def _say_stages(result: Finetuned) -> None:
    for stage in result.stages:
        line = f"{stage.tune}: validation loss {stage.validation_log_loss:.4f} after {stage.seconds:.0f} s"
        if stage.history:
            losses = ", ".join(f"{loss:.4f}" for loss in stage.history.validation_losses)
            line += f" (by epoch, from the start: {losses}; epoch {stage.history.best_epoch} is the best"
            line += f"; stopped early, {stage.history.stopped})" if stage.history.stopped else ")"
        progress.say(line + ("" if stage.kept else ": not kept"))
    if result.stopped:
        progress.say(f"went no further: {result.stopped}")


def _say_findings(findings: list[Finding]) -> None:
    """Errors and warnings; rows that are not used are said already, and notes stand in the report."""
    for finding in findings:
        if finding.grade != "note" and not finding.kind.startswith("rows with"):
            rows = [str(example["row"]) for example in finding.examples if "row" in example]
            where = f" (row {', '.join(rows)}{', ...' if finding.count > len(rows) else ''})" if rows else ""
            progress.warn(f"{finding.count:,} {finding.kind}{where}: {finding.advice}")


def _say_what_is_used(parts: Parts) -> None:
    _say_dropped(parts.dropped)
    progress.say(f"training {len(parts.train):,}, validation {len(parts.validation):,}, test {len(parts.test):,}")


def _say_dropped(dropped: Dropped) -> None:
    for reason, lines in dropped.items():
        shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
        progress.warn(f"{len(lines):,} rows not used, {reason} (row{'s' if len(lines) > 1 else ''} {shown})")


def _say_cut(tokens_cut: npt.NDArray[np.int64]) -> None:
    n = int((tokens_cut > 0).sum())
    if n:
        progress.warn(
            f"{n:,} of {len(tokens_cut):,} test texts are too long and lose {tokens_cut.sum():,} tokens in all"
        )


def _say_overlap(facts: dict[str, Any], where: str) -> None:
    overlap = facts["overlap"]
    if overlap is None:
        return
    without = overlap["test_without"]
    clean = f"accuracy without them {without['accuracy']:.2%}" if without else "none is left without them"
    nearly = f", {overlap['near']:,} more nearly so" if overlap["near"] else ""
    progress.warn(
        f"{overlap['n']:,} of {facts['test']['n']:,} test texts are also in {where}{nearly}, so the test flatters: "
        f"accuracy {facts['test']['accuracy']:.2%}, {clean}"
    )
