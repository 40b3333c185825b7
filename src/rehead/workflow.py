"""What `rehead fit` and `rehead evaluate` do, from the data to the saved folder, each as one function.

The data's way: read → drop duplicates → split → fine-tune → evaluate beside the baselines → save → verify.
"""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead import artifact, hardware, progress
from rehead.artifact import Reference
from rehead.classifier import Classifier
from rehead.data import samples
from rehead.data.audit import drop_duplicates, fingerprints, seen_before
from rehead.data.examples import Dropped, Examples, from_table, require_learnable
from rehead.data.splits import FRACTIONS, stratified
from rehead.data.tables import infer_columns
from rehead.errors import DataError
from rehead.evaluation import baselines, report
from rehead.evaluation.baselines import Baselines
from rehead.evaluation.metrics import evaluate as measure
from rehead.evaluation.metrics import softmax
from rehead.tuning.estimate import estimate
from rehead.tuning.finetune import Finetuned
from rehead.tuning.loop import History
from rehead.tuning.settings import Resumption
from rehead.tuning.stages import Stage

# So many lines are listed of the rows that were not used, for each reason.
_LISTED_LINES = 100


# The names of the text and the label column, where they are known.
Columns = tuple[str | None, str | None]


@dataclass(frozen=True)
class Sources:
    """Where labelled examples come from; each is a file or `sample:NAME`.

    Attributes:
        data: what to learn from, and to test on where `test` is None.
        validation: examples that choose regularisation, depth and epoch; taken out of `data` if None.
        test: examples to measure on; taken out of `data` if None.
        text_column, label_column: found by name and content if None.
    """

    data: str
    validation: str | None = None
    test: str | None = None
    text_column: str | None = None
    label_column: str | None = None


@dataclass(frozen=True)
class Parts:
    """Examples divided for a fit.

    Attributes:
        columns: where the texts and the labels were.
        rows_read: rows of all sources.
        dropped: why and at which lines rows are not used, over all sources.
        in_training: (n_test,) bool, test texts that training or validation has too (up to case and white space).
    """

    train: Examples
    validation: Examples
    test: Examples
    columns: Columns
    rows_read: int
    dropped: Dropped
    in_training: npt.NDArray[np.bool_]


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
) -> Fitted:
    """Trains, evaluates and saves a classifier.

    Args:
        sources: what to learn from and to test on.
        model: an unfitted classifier with the wanted settings; the default settings if None.
        output: folder to save to; nothing is saved if None.
        resume: go on from where an interrupted fit to the same `output` stood.

    Raises:
        RheadError: a child of it, for whatever the user can mend; nothing is written then.
    """
    start = time.perf_counter()
    sources = Sources(sources) if isinstance(sources, str) else sources
    model = model or Classifier()
    model.settings()
    if output is not None:
        artifact.require_replaceable(Path(output))
    parts = prepare(sources, model.random_state)
    _say_what_is_used(parts)
    resumption = None if output is None else Resumption.beside(Path(output), resume)
    result = model.fit_examples(parts.train, parts.validation, resumption)
    _say_stages(result)
    learned = baselines.learn(parts.train, parts.validation)
    test_start = time.perf_counter()
    scores = model.artifact_.scores(parts.test.texts)
    probabilities = scores.probabilities
    _say_cut(scores.tokens_cut)
    seconds = {**result.seconds, "test": time.perf_counter() - test_start}
    validation = measure(softmax(result.validation_logits), parts.validation.labels, parts.train.label_names)
    facts = {
        "model": None if output is None else str(Path(output).resolve()),
        **{key: model.artifact_.description[key] for key in _SETTINGS},
        "data": sources.data,
        "rows": _rows(parts, {"train": parts.train, "validation": parts.validation, "test": parts.test}),
        "truncated": {"training and validation": result.truncated, "test": int((scores.tokens_cut > 0).sum())},
        "replaced": result.replaced,
        "parameters": result.parameters,
        "profile": result.profile,
        "epochs": _history(result.history),
        "stages": [_stage(stage) for stage in result.stages],
        "stopped": result.stopped,
        "validation": validation.to_json(),
        **_measured(probabilities, parts.test, parts.in_training, learned),
        "seconds": seconds,
        "flops": result.flops,
        **_speed(result),
    }
    _say_overlap(facts, "training")
    if output is not None and resumption is not None:
        seen = fingerprints([*parts.train.texts, *parts.validation.texts])
        metrics = {key: facts[key] for key in ("validation", "test", "baselines", "overlap")}
        saved_facts = {
            "text_column": parts.columns[0],
            "label_column": parts.columns[1],
            "data": facts["data"],
            "rows": facts["rows"],
            "metrics": metrics,
        }
        seconds["total"] = time.perf_counter() - start
        documents = {
            "report.html": report.render_html(facts, report.mistakes(probabilities, parts.test)),
            "README.md": report.render_model_card(facts),
        }
        model.save(output, reference=Reference(learned, seen), facts=saved_facts, documents=documents)
        facts["report"] = str(Path(output).resolve() / "report.html")
        resumption.forget()
    seconds["total"] = time.perf_counter() - start
    facts["peak_rss_bytes"] = peak_rss_bytes()
    return Fitted(model, facts)


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
    rows = _rows(parts, {"train": parts.train, "validation": parts.validation, "test": parts.test})
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
    test, dropped, _, rows_read = _read(sources.data, sources, loaded.labels, trained_on)
    seen = loaded.reference.seen if loaded.reference else np.array([], dtype=np.int64)
    in_training = seen_before(test.texts, seen)
    empty = test.take(np.array([], dtype=np.int64))
    parts = Parts(empty, empty, test, trained_on, rows_read, dropped, in_training)
    _say_dropped(dropped)
    test_start = time.perf_counter()
    scores = loaded.scores(test.texts)
    probabilities = scores.probabilities
    _say_cut(scores.tokens_cut)
    test_seconds = time.perf_counter() - test_start
    facts = {
        "model": str(Path(folder).resolve()),
        **{key: loaded.description[key] for key in _SETTINGS},
        "data": sources.data,
        "rows": _rows(parts, {"test": test}),
        "truncated": {"test": int((scores.tokens_cut > 0).sum())},
        "profile": {},
        "epochs": None,
        "validation": loaded.description.get("metrics", {}).get("validation"),
        **_measured(probabilities, test, in_training, loaded.reference.baselines if loaded.reference else None),
        "seconds": {"load": load_seconds, "trunk": test_seconds, "tail": 0.0, "test": test_seconds},
        "flops": scores.flops,
    }
    _say_overlap(facts, "the training data")
    facts["seconds"]["total"] = time.perf_counter() - start
    facts["peak_rss_bytes"] = peak_rss_bytes()
    if report_file is not None:
        report.write(Path(report_file), report.render_html(facts, report.mistakes(probabilities, test)))
        facts["report"] = str(Path(report_file).resolve())
    return facts


def prepare(sources: Sources, seed: int) -> Parts:
    """Reads all sources, drops duplicates and divides.

    A text of the training part is never in a validation part, and not in a test part that is divided off
    here. A test set that was given is measured as it is; its overlap is found and reported.
    """
    pool, dropped, columns, rows_read = _read(sources.data, sources, None, (None, None))
    pool, repeated = drop_duplicates(pool)
    dropped |= repeated
    require_learnable(pool)
    fractions = np.array(FRACTIONS) * [1, sources.validation is None, sources.test is None]
    train_share, validation_share, test_share = (fractions / fractions.sum()).tolist()
    split = stratified(pool.labels, seed, (train_share, validation_share, test_share))
    train, validation, test = pool.take(split.train), pool.take(split.validation), pool.take(split.test)
    if sources.test is not None:
        test, unusable, _, n = _read(sources.test, sources, pool.label_names, columns)
        dropped, rows_read = _merged(dropped, unusable, "test"), rows_read + n
    if sources.validation is not None:
        validation, unusable, n = _given_validation(sources, train, columns)
        dropped, rows_read = _merged(dropped, unusable, "validation"), rows_read + n
    if not len(validation) or not len(test):
        raise DataError(
            f"{pool.source}: {len(pool)} different texts are too few to divide into training, validation and test; "
            "give 10 or more a class"
        )
    in_training = seen_before(test.texts, fingerprints([*train.texts, *validation.texts]))
    return Parts(train, validation, test, columns, rows_read, dropped, in_training)


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
    "seed",
    "blocks_of_base",
    "versions",
)


def _read(
    data: str, sources: Sources, label_names: tuple[str, ...] | None, known: Columns
) -> tuple[Examples, Dropped, Columns, int]:
    """Examples, rows not used, columns used, rows read; columns that are `known` are preferred to a guess."""
    table = samples.read_any(data)
    text_column, label_column = (name if name in table.columns else None for name in known)
    text, label = infer_columns(table, sources.text_column or text_column, sources.label_column or label_column)
    progress.say(f"{table.source}: {len(table.rows):,} rows; texts from {text!r}, labels from {label!r}")
    examples, dropped = from_table(table, text, label, label_names)
    return examples, dropped, (text, label), len(table.rows)


def _given_validation(sources: Sources, train: Examples, columns: Columns) -> tuple[Examples, Dropped, int]:
    assert sources.validation is not None
    given, unusable, _, n = _read(sources.validation, sources, train.label_names, columns)
    unique, repeated = drop_duplicates(given)
    leaked = seen_before(unique.texts, fingerprints(train.texts))
    if leaked.any():
        repeated["text of the training part"] = unique.lines[leaked].tolist()
    return unique.take(np.flatnonzero(~leaked)), unusable | repeated, n


def _merged(dropped: Dropped, more: Dropped, part: str) -> Dropped:
    return dropped | {f"{part}: {reason}": lines for reason, lines in more.items()}


def _rows(parts: Parts, used: dict[str, Examples]) -> dict[str, Any]:
    return {
        "read": parts.rows_read,
        "used": sum(len(examples) for examples in used.values()),
        **{name: len(examples) for name, examples in used.items()},
        "dropped": {reason: len(lines) for reason, lines in parts.dropped.items()},
        "dropped_lines": {reason: lines[:_LISTED_LINES] for reason, lines in parts.dropped.items()},
    }


def _measured(
    probabilities: npt.NDArray[np.float64],
    test: Examples,
    in_training: npt.NDArray[np.bool_],
    learned: Baselines | None,
) -> dict[str, Any]:
    """`test`, `baselines`, and `overlap`: both again without the test texts that the training has too."""
    facts: dict[str, Any] = {
        "test": measure(probabilities, test.labels, test.label_names).to_json(),
        "baselines": learned.evaluate(test.texts, test.labels) if learned else None,
        "overlap": None,
    }
    if in_training.any():
        unseen = np.flatnonzero(~in_training)
        rest = test.take(unseen)
        facts["overlap"] = {
            "n": int(in_training.sum()),
            "test_without": measure(probabilities[unseen], rest.labels, rest.label_names).to_json()
            if len(rest)
            else None,
            "baselines_without": learned.evaluate(rest.texts, rest.labels) if learned and len(rest) else None,
        }
    return facts


def _history(history: History | None) -> dict[str, Any] | None:
    if history is None:
        return None
    return {
        "validation_losses": history.validation_losses,
        "kept": history.best_epoch,
        "stopped": history.stopped,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "tune": stage.tune,
        "validation_log_loss": stage.validation_log_loss,
        "seconds": stage.seconds,
        "trainable": stage.trainable,
        "kept": stage.kept,
        "epochs": _history(stage.history),
    }


def _speed(result: Finetuned) -> dict[str, float | None]:
    """Floating-point operations a second of the trunk pass, and as a share of a plain matrix product's just now."""
    if not result.trunk_speed:
        return {"gflops": None, "peak_share": None}
    peak = hardware.product_speed(hardware.native_dtype())
    return {"gflops": result.trunk_speed / 1e9, "peak_share": result.trunk_speed / peak}


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
    progress.warn(
        f"{overlap['n']:,} of {facts['test']['n']:,} test texts are also in {where}, so the test flatters: "
        f"accuracy {facts['test']['accuracy']:.2%}, {clean}"
    )
