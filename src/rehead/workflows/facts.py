"""What a fit or an evaluation found, as JSON can hold it: the parts that need no measuring."""

from __future__ import annotations

import json
from typing import Any

from rehead.data.examples import Dropped, Examples
from rehead.data.preparation import Columns, DataSplits
from rehead.evaluation import likelihood
from rehead.evaluation.scoring import measure
from rehead.runtime import hardware
from rehead.training.finetune import TrainedClassifier
from rehead.training.loop import History
from rehead.training.strategies import Candidate

# So many lines are listed of the rows that were not used, for each reason.
_LISTED_LINES = 100


SETTINGS = (
    "base",
    "tune",
    "depth",
    "cut",
    "pool",
    "labels",
    "multilabel",
    "max_length",
    "long",
    "seed",
    "blocks_of_base",
    "baseline_factor",
    "versions",
)


def rows_used(parts: DataSplits) -> dict[str, Any]:
    used = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    return rows(parts.rows_read, parts.dropped, used)


def rows(read: int, dropped: Dropped, used: dict[str, Examples]) -> dict[str, Any]:
    return {
        "read": read,
        "used": sum(len(examples) for examples in used.values()),
        **{name: len(examples) for name, examples in used.items()},
        "dropped": {reason: len(lines) for reason, lines in dropped.items()},
        "dropped_lines": {reason: lines[:_LISTED_LINES] for reason, lines in dropped.items()},
    }


def told_by(result: TrainedClassifier, parts: DataSplits) -> dict[str, Any]:
    """How the classifier came about, and how it does on the validation examples."""
    labels = parts.validation.labels
    probabilities = likelihood.probabilities(result.validation_logits, parts.validation.multilabel)
    validation = measure(probabilities, labels, parts.train.label_names)
    return {
        "replaced": result.replaced,
        "parameters": result.parameters,
        "profile": result.profile,
        "epochs": _history(result.history, parts.train),
        "stages": [_candidate(candidate, result, parts.train) for candidate in result.candidates],
        "refitted": result.refitted,
        "stopped": result.stopped,
        "validation": validation.to_json(),
        "flops": result.flops,
        **_speed(result),
    }


def saved(facts: dict[str, Any], columns: Columns) -> dict[str, Any]:
    """What of the facts stands in rehead.json."""
    return {
        "text_column": columns.text,
        "label_column": columns.label,
        "label_separator": columns.separator,
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


def _candidate(candidate: Candidate, result: TrainedClassifier, train: Examples) -> dict[str, Any]:
    return {
        "tune": candidate.tune,
        "validation_log_loss": candidate.loss,
        "seconds": candidate.seconds,
        "trainable": candidate.trainable,
        "kept": candidate is result.kept,
        "epochs": _history(candidate.history, train),
    }


def _speed(result: TrainedClassifier) -> dict[str, float | None]:
    """Floating-point operations a second of the trunk pass, and as a share of a plain matrix product's just now."""
    if not result.trunk_speed:
        return {"gflops": None, "peak_share": None}
    peak = hardware.product_speed(hardware.native_dtype())
    return {"gflops": result.trunk_speed / 1e9, "peak_share": result.trunk_speed / peak}


def split_as_json(parts: DataSplits) -> str:
    """Which rows were in which part, as JSON."""
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    rows = {name: {"source": part.source, "rows": part.lines.tolist()} for name, part in named.items()}
    return json.dumps({"how": parts.how, **rows})
