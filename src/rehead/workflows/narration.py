"""What a fit or an evaluation says on its way, one line at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.data.examples import Dropped
from rehead.data.findings import Finding
from rehead.data.parts import Parts
from rehead.evaluation.baselines import said_beside
from rehead.evaluation.comparison import SIGNIFICANT
from rehead.models.heads import is_family_head
from rehead.models.vision_backbone import VisionBackbone
from rehead.runtime import progress
from rehead.training.estimate import Plan
from rehead.training.finetune import TrainedClassifier, TrainedNetwork

# Losses of more epochs than that are told by the first and the last.
_SHOWN_EPOCHS = 12


def say_estimate(plan: Plan) -> None:
    progress.say(
        f"{plan.tokens:,} tokens, {(plan.trunk_flops + plan.training_flops) / 1e12:.1f} TFLOP: about "
        f"{plan.seconds:.0f} s and {plan.peak_memory_bytes / 1e9:.1f} GB of memory, if no features are in the cache"
    )


def say_candidates(result: TrainedClassifier) -> None:
    """Say what was tried, how it did on validation after calibration, and what stands beside the head."""
    for candidate in result.candidates:
        line = f"{candidate.tune}: calibrated validation loss {candidate.loss:.4f} after {candidate.seconds:.0f} s"
        if candidate.history:
            told = [f"{loss:.4f}" for loss in candidate.history.validation_losses]
            losses = ", ".join(told if len(told) <= _SHOWN_EPOCHS else [*told[:3], "...", *told[-3:]])
            line += f" (by epoch, from the start: {losses}; epoch {candidate.history.best_epoch} is the best"
            line += f"; stopped early, {candidate.history.stopped})" if candidate.history.stopped else ")"
        progress.say(line + ("" if candidate is result.kept else ": not kept"))
    if isinstance(result, TrainedNetwork) and result.baseline_factor:
        what = "images" if isinstance(result.base, VisionBackbone) else "texts"
        # Of other poolings Transformers has no class for the head either.
        is_family = what == "texts" and is_family_head(result.head.pooling)
        alone = ", so the folder is not all of the classifier in Transformers alone; --no-ngrams gives one that is"
        progress.say(said_beside(what, result.baseline_factor) + (alone if is_family else ""))
    if result.stopped:
        progress.say(f"went no further: {result.stopped}")


def say_findings(findings: list[Finding]) -> None:
    """Errors and warnings; rows that are not used are said already, and notes stand in the report."""
    for finding in findings:
        if finding.grade != "note" and not finding.kind.startswith("rows with"):
            rows = [str(example["row"]) for example in finding.examples if "row" in example]
            where = f" (row {', '.join(rows)}{', ...' if finding.count > len(rows) else ''})" if rows else ""
            progress.warn(f"{finding.count:,} {finding.kind}{where}: {finding.advice}")


def say_what_is_used(parts: Parts) -> None:
    say_dropped(parts.dropped)
    progress.say(f"training {len(parts.train):,}, validation {len(parts.validation):,}, test {len(parts.test):,}")


def say_dropped(dropped: Dropped) -> None:
    for reason, lines in dropped.items():
        shown = ", ".join(map(str, lines[:5])) + (", ..." if len(lines) > 5 else "")
        progress.warn(f"{len(lines):,} rows not used, {reason} (row{'s' if len(lines) > 1 else ''} {shown})")


def say_cut(tokens_cut: npt.NDArray[np.int64]) -> None:
    n = int((tokens_cut > 0).sum())
    if n:
        progress.warn(
            f"{n:,} of {len(tokens_cut):,} test texts are too long and lose {tokens_cut.sum():,} tokens in all"
        )


def say_overlap(facts: dict[str, Any], where: str) -> None:
    overlap = facts["overlap"]
    if overlap is None:
        return
    without = overlap["test_without"]
    clean = f"accuracy without them {without['accuracy']:.2%}" if without else "none is left without them"
    nearly = f", {overlap['near']:,} of them with small changes" if overlap["near"] else ""
    progress.warn(
        f"{overlap['n'] + overlap['near']:,} of {facts['test']['n']:,} test {facts['what']} are also in "
        f"{where}{nearly}, so the test flatters: accuracy {facts['test']['accuracy']:.2%}, {clean}"
    )


# Which base to try where another is no better than counting words: they fail on different data.
_OTHER = {"smollm2": "minilm", "minilm": "smollm2"}


def say_what_may_help(facts: dict[str, Any]) -> None:
    """Name another base where this one is worse than the baseline, or so near to it that no test could tell.

    A tie that more examples would break is no reason to change anything.
    """
    comparison = (facts["overlap"] or {}).get("comparison_without") or facts["comparison"]
    is_worse = comparison["p_value"] < SIGNIFICANT and comparison["difference"] < 0
    if not is_worse and comparison["more_needed"] is not None:
        return
    if other := _OTHER.get(facts["base"]):
        progress.say(f"--base {other} may suit these data better than {facts['base']}")
