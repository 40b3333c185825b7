"""`rehead compare`: several approaches on one split within a budget of time, and which of them to use."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rehead.artifact.saving import new_folder, require_replaceable
from rehead.comparison import approaches, curves, figures
from rehead.comparison.approaches import CHEAP, TITLES, Approach, ComparisonTask, NotTriedError
from rehead.comparison.identity import digest
from rehead.comparison.recommendation import best_cheap, p_value, recommend
from rehead.comparison.results import ApproachResult, ComparisonResult
from rehead.comparison.trial import run_trial, title
from rehead.data.containers import Source
from rehead.data.preparation import DataConfig, DataSplits, prepare
from rehead.evaluation.rendering import render
from rehead.models.families import TEXT_FAMILIES
from rehead.models.loading import locate, model_type_of
from rehead.runtime import files, hardware, progress
from rehead.runtime.errors import DataError, RheadError, SettingError
from rehead.training.checkpoint import Resumption
from rehead.workflows import messages
from rehead.workflows.results import rows_of

BUDGET = 600.0
BASES = ("minilm", "smollm2")
_DESCRIPTION = "comparison.json"
_LEAST_EXAMPLES = 20
# The share of the best accuracy with which an approach has learned from enough examples.
_ENOUGH = 0.95


def compare(
    sources: DataConfig | Source,
    *,
    names: Sequence[str] = tuple(TITLES),
    bases: Sequence[str] = BASES,
    n_examples: int | None = None,
    budget: float = BUDGET,
    max_length: int = 512,
    random_state: int = 0,
    output: str | Path | None = None,
    resume: bool = False,
) -> ComparisonResult:
    """Run approaches on the same training, validation and test examples, and recommend one.

    Args:
        sources: labelled texts, as for `rehead.fit`.
        names: of the approaches, see `rehead.comparison.approaches.TITLES`; they are tried in that order.
        bases: probes are tried on each; the other heads on the first; the first decoder is asked in words.
        n_examples: learn from at most this many training examples, each class in its share, so that costly approaches
            can be tried, too.
        budget: seconds in all; what would take longer is not tried, prompts are tried on fewer texts.
        max_length: of a text, in tokens.
        random_state: seed of the split and of everything random in the approaches.
        output: folder for comparison.json and report.html; nothing is written if None.
        resume: go on from where an interrupted comparison with the same `output` stood.

    Raises:
        RheadError: a child of it, for whatever the user can mend.
    """
    begun = time.perf_counter()
    requested = _requested(names, bases, n_examples, budget, output)
    chosen_data = DataConfig.of(sources)
    parts = _parts(chosen_data, random_state)
    task = ComparisonTask(
        train=parts.train if n_examples is None else approaches.drawn(parts.train, n_examples, random_state),
        validation=parts.validation,
        test=parts.test,
        bases=tuple(bases),
        writer=_first_language_model(bases),
        max_length=max_length,
        seed=random_state,
        deadline=begun + budget,
    )
    with nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption:
        results, not_tried = _try_all(task, requested, resumption)
        chosen, reasons = recommend(results)
        result = ComparisonResult(
            data=chosen_data.name,
            labels=task.train.label_names,
            rows=rows_of(parts),
            n_train=len(task.train),
            bases=task.bases,
            budget=budget,
            seed=random_state,
            approaches=_beside_each_other(task, results),
            cheap=best_cheap(results).name,
            curve_sizes=curves.totals(task),
            recommended=chosen,
            reasons=reasons,
            not_tried=not_tried,
            versions={name: version(name) for name in ("rehead", "torch", "transformers")},
            seconds={"total": time.perf_counter() - begun},
            peak_rss_bytes=hardware.peak_rss_bytes(),
        )
        return result if output is None else _written(result, Path(output).resolve())


def _requested(
    names: Sequence[str], bases: Sequence[str], n_examples: int | None, budget: float, output: str | Path | None
) -> list[tuple[str, Approach]]:
    """Return the approaches by name, after a look at all that can be refused before the data are read."""
    if not bases:
        raise SettingError("`bases`: name one at least")
    requested = [pair for name in names for pair in approaches.of(name, tuple(bases))]
    if not any(name in CHEAP for name in names):
        raise SettingError("`names`: leave majority or tfidf in; the others are compared with them")
    if n_examples is not None and n_examples < _LEAST_EXAMPLES:
        raise SettingError(f"`n_examples` must be {_LEAST_EXAMPLES} or more, not {n_examples}")
    if not budget > 0:
        raise SettingError(f"`budget` must be above 0, not {budget}")
    if output is not None:
        require_replaceable(Path(output), _DESCRIPTION, "no comparison")
    return requested


def _parts(sources: DataConfig, seed: int) -> DataSplits:
    """Read and split the examples, and say what is used of them."""
    parts = prepare(sources, seed)
    if parts.train.multilabel or parts.train.images is not None:
        raise DataError(f"{sources.name}: approaches are compared on texts with one label each")
    messages.say_what_is_used(parts)
    messages.say_findings(parts.findings)
    return parts


def _first_language_model(bases: Sequence[str]) -> str | None:
    for base in bases:
        family = TEXT_FAMILIES.get(model_type_of(locate(base), base))
        if family is not None and family.causal:
            return base
    return None


def _try_all(
    task: ComparisonTask, requested: Sequence[tuple[str, Approach]], resumption: Resumption | None
) -> tuple[list[ApproachResult], dict[str, str]]:
    """Try each approach, or take its result from an interrupted comparison.

    Returns:
        The results, and by name why an approach was not tried.
    """
    results: list[ApproachResult] = []
    not_tried: dict[str, str] = {}
    settings = [task.writer, task.max_length, task.seed]
    parts = task.train, task.validation, task.test
    common = None if resumption is None else digest(settings, [locate(base) for base in task.bases], parts)
    for name, approach in requested:
        kept = resumption and resumption.folder / f"{hashlib.sha256(f'{name} {common}'.encode()).hexdigest()}.json"
        if resumption and resumption.resume and kept and kept.is_file():
            try:
                results.append(ApproachResult.from_state(files.read_with_checksum(kept)))
                continue
            except (OSError, ValueError):
                progress.warn(f"{kept}, the result of {title(name)}, is damaged; the approach is tried again")
        progress.say(f"{title(name)} ({max(0, task.seconds_left()):.0f} s of the budget are left)")
        try:
            if name not in CHEAP and task.seconds_left() <= 0:  # one of the cheap is there for the rules
                raise NotTriedError("nothing of the budget is left")
            results.append(run_trial(task, name, approach))
        except (NotTriedError, RheadError) as reason:
            not_tried[name] = str(reason)
            progress.say(f"not tried: {reason}")
            continue
        if kept:
            files.write_with_checksum(kept, results[-1].to_state())
    return results, not_tried


def _beside_each_other(task: ComparisonTask, results: Sequence[ApproachResult]) -> tuple[ApproachResult, ...]:
    """Return the results with what only all of them together show: p-values, and how many examples are enough."""
    cheap = best_cheap(results)
    best = max(result.accuracy for result in results)
    sizes = curves.totals(task)
    return tuple(
        replace(
            result,
            p_value=None if result.name == cheap.name else p_value(result, cheap),
            enough=None if result.curve is None else curves.enough(sizes, result.curve, _ENOUGH * best),
        )
        for result in results
    )


def _written(result: ComparisonResult, folder: Path) -> ComparisonResult:
    """Write comparison.json and report.html, and return the result with the report's path."""
    result = replace(result, report=str(folder / "report.html"))
    drawn = {
        "compute": figures.by_compute(result.approaches),
        "curves": figures.by_examples(result.approaches, result.curve_sizes),
    }
    with new_folder(folder) as partial:
        text = json.dumps(result.to_json(), indent=2, ensure_ascii=False) + "\n"
        (partial / _DESCRIPTION).write_text(text, encoding="utf-8")
        page = render("comparison.html.jinja", result=result, drawn=drawn)
        (partial / "report.html").write_text(page, encoding="utf-8")
    return result
