"""What `rehead fit` and `rehead evaluate` do, from the data to the saved folder, each as one function.

The data's way: read → drop duplicates → split → fine-tune → evaluate beside the baselines → save → verify.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.analysis.explanation import contributions, ngram_weights, shades
from rehead.analysis.image_explanation import coloured, heat_map
from rehead.analysis.label_study import of_training
from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.saving import require_replaceable
from rehead.classifier import Classifier
from rehead.data.audit import cut_off
from rehead.data.duplicates import seen_before
from rehead.data.examples import Examples
from rehead.data.findings import Finding, in_order
from rehead.data.labels import Labels
from rehead.data.parts import Columns, Parts, Sources, prepare, read_examples
from rehead.drift import sampling
from rehead.drift.fingerprint import Fingerprint
from rehead.evaluation import baselines, decisions, likelihood, multilabel_decisions, report
from rehead.evaluation.decisions import Rule, Wanted
from rehead.evaluation.multilabel_decisions import MultilabelRule
from rehead.evaluation.scoring import Seen, calibration, measured
from rehead.runtime import hardware
from rehead.runtime.errors import SettingError
from rehead.training.encoding import EncodedData
from rehead.training.estimate import estimate
from rehead.training.finetune import Limits, TrainedClassifier
from rehead.training.ngrams_alone import NgramData
from rehead.training.resumption import Resumption
from rehead.workflows import narration
from rehead.workflows.cross_validation import OutOfFold, cross_validate
from rehead.workflows.facts import SETTINGS, rows, rows_used, saved, split_as_json, told_by

# How many times as long as in the trunk pass a test example takes: where native bf16 is several times as fast as
# float32, the tenth that is scored again takes as long as the first pass.
_PASSES_OF_A_TEST = 2.0
# So many mistakes are explained, each with so many pieces.
_EXPLAINED, _PIECES = 10, 20


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
    config = model.config()
    if output is not None:
        require_replaceable(Path(output))
    if n_folds and (sources.validation or sources.test or sources.time_column):
        raise SettingError("--cv tests on every example in turn: leave --validation, --test and --time-column out")
    parts = prepare(sources, model.random_state, with_test=not n_folds)
    narration.say_what_is_used(parts)
    wanted = wanted or Wanted()
    if parts.train.multilabel:
        multilabel_decisions.require_possible(wanted, parts.train.label_names)
    else:
        decisions.require_possible(wanted, parts.train.label_names, len(parts.validation))
    narration.say_findings(parts.findings)
    held_out = cross_validate(parts.pool, n_folds, model, start + config.budget) if n_folds else None
    data = model.prepare(parts.train, parts.validation)
    findings = in_order([*parts.findings, *_say_what_is_ahead(data)])
    with nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption:
        learned = baselines.learn(parts.train, parts.validation)
        limits = Limits(start + config.budget, _share_of_test(parts)) if config.tune == "auto" else None
        result = model.fit_encoded(data, learned, limits, resumption, refits=sources.validation is None)
        del data  # and with it the features, and the weights that they were computed with
        narration.say_candidates(result)
        rule = _rule(wanted, result, parts)
        test_start = time.perf_counter()
        tested = _tested_by(held_out, parts) if held_out else _tested(model, parts)
        narration.say_cut(tested.tokens_cut)
        facts = {
            "model": None if output is None else str(Path(output).resolve()),
            **{key: getattr(model.artifact_.manifest, key) for key in SETTINGS},
            "data": sources.data,
            "rows": rows_used(parts),
            "truncated": {"training and validation": result.truncated, "test": int((tested.tokens_cut > 0).sum())},
            **told_by(result, parts),
            **measured(tested.probabilities, tested.test, tested.seen, tested.answers, model.artifact_.manifest.base),
            "folds": held_out and held_out.folds,
            "calibration": None
            if held_out
            else calibration(tested.probabilities, tested.test, model.artifact_.manifest.temperature),
            "decisions": _told_of(rule, tested.probabilities, tested.test),
            "findings": [finding.to_json() for finding in findings],
            "split": f"cross-validation with {n_folds} folds, {parts.how}" if n_folds else parts.how,
            "seconds": {**result.seconds, "test": time.perf_counter() - test_start},
        }
        hardware.give_back_freed_memory()  # that of the test
        narration.say_overlap(facts, "training")
        narration.say_what_may_help(facts)
        if full_report:
            facts["label_study"] = of_training(parts.train, parts.validation, model.artifact_.manifest)
        if output is not None:
            facts["seconds"]["total"] = time.perf_counter() - start
            documents = {
                "report.html": _report(
                    facts, tested.probabilities, tested.test, model.artifact_ if full_report else None
                ),
                "README.md": report.render_model_card(facts),
                "split.json": split_as_json(parts),
            }
            model.save(
                output,
                sidecars=[_fingerprint(model, result, parts, tested)],
                entries=saved(facts, parts.columns),
                documents=documents,
            )
            facts["report"] = str(Path(output).resolve() / "report.html")
    facts["seconds"]["total"] = time.perf_counter() - start
    facts["peak_rss_bytes"] = hardware.peak_rss_bytes()
    return Fitted(model, facts)


@dataclass(frozen=True)
class _Tested:
    """What the test examples were given, by the classifier and by the baselines.

    Attributes:
        features: (m, width) that the head saw of some of them; None where other classifiers were tested.
    """

    test: Examples
    probabilities: npt.NDArray[np.float64]
    tokens_cut: npt.NDArray[np.int64]
    answers: dict[str, Labels]
    seen: Seen
    features: npt.NDArray[np.float32] | None = None


def _tested(model: Classifier, parts: Parts) -> _Tested:
    test = parts.test
    reference = model.artifact_.reference
    assert reference is not None
    looked_at = sampling.rows(len(test), sampling.MOST_FEATURES)
    scores = model.artifact_.predictor().scores(test.inputs, keep_features=looked_at)
    seen = Seen(parts.in_training, parts.near_training)
    answers = reference.baselines.predict(test)
    return _Tested(test, scores.probabilities, scores.tokens_cut, answers, seen, scores.features)


def _tested_by(held_out: OutOfFold, parts: Parts) -> _Tested:
    nothing = np.zeros(len(parts.pool), dtype=np.bool_)
    return _Tested(parts.pool, held_out.probabilities, held_out.tokens_cut, held_out.answers, Seen(nothing, nothing))


def _fingerprint(model: Classifier, result: TrainedClassifier, parts: Parts, tested: _Tested) -> Fingerprint:
    """Of the validation and test examples, or where there is no test part of the validation examples alone."""
    held_out = parts.validation
    probabilities = likelihood.probabilities(result.validation_logits, held_out.multilabel)
    features = tested.features
    if features is None:
        some = sampling.drawn(held_out.inputs, sampling.MOST_FEATURES)
        features = model.artifact_.predictor().scores(some, keep_features=True).features
        assert features is not None
    else:
        held_out = held_out.followed_by(tested.test)
        probabilities = np.concatenate([probabilities, tested.probabilities])
    return Fingerprint.of(parts.train.inputs, held_out.inputs, probabilities, features, multilabel=held_out.multilabel)


def _rule(wanted: Wanted, result: TrainedClassifier, parts: Parts) -> Rule | MultilabelRule:
    labels = parts.validation.labels
    probabilities = likelihood.probabilities(result.validation_logits, parts.validation.multilabel)
    if parts.validation.multilabel:
        return multilabel_decisions.rule_for(wanted, probabilities, labels, parts.train.label_names)
    return decisions.rule_for(wanted, probabilities, labels, parts.train.label_names)


def _told_of(rule: Rule | MultilabelRule, probabilities: npt.NDArray[np.float64], test: Examples) -> dict[str, Any]:
    """A rule, and what it comes to on the test examples."""
    told = rule.tell(probabilities, test.labels, test.label_names)
    return {**rule.to_json(test.label_names), "test": told}


def plan(sources: Sources | str, model: Classifier | None = None) -> dict[str, Any]:
    """What a fit would take, without doing it: reads the data, loads the base and tokenises.

    Raises:
        RheadError: what the fit would raise before it computes anything.
    """
    sources = Sources(sources) if isinstance(sources, str) else sources
    model = model or Classifier()
    parts = prepare(sources, model.random_state)
    narration.say_what_is_used(parts)
    encoded = model.encode(parts.train, parts.validation)
    expected = estimate(encoded)
    told = {"data": sources.data, "base": encoded.base.name, "tune": model.tune, "rows": rows_used(parts)}
    return told | asdict(expected)


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
    loaded = load_artifact(Path(folder))
    load_seconds = time.perf_counter() - start
    trained_on = Columns.of(loaded.manifest.to_json())
    test, dropped, _, rows_read = read_examples(sources.data, sources, loaded.labels, trained_on)
    seen = loaded.reference.seen if loaded.reference else np.array([], dtype=np.int64)
    in_training = seen_before(test.inputs, seen)
    narration.say_dropped(dropped)
    test_start = time.perf_counter()
    scores = loaded.scores(test.inputs)
    probabilities = scores.probabilities
    rule = loaded.rule
    narration.say_cut(scores.tokens_cut)
    test_seconds = time.perf_counter() - test_start
    facts = {
        "model": str(Path(folder).resolve()),
        **{key: getattr(loaded.manifest, key) for key in SETTINGS},
        "data": sources.data,
        "rows": rows(rows_read, dropped, {"test": test}),
        "truncated": {"test": int((scores.tokens_cut > 0).sum())},
        "profile": {},
        "epochs": None,
        "validation": (loaded.manifest.metrics or {}).get("validation"),
        **measured(
            probabilities,
            test,
            Seen(in_training, in_training),
            loaded.reference.baselines.predict(test) if loaded.reference else None,
            loaded.manifest.base,
        ),
        "decisions": _told_of(rule, probabilities, test),
        "seconds": {"load": load_seconds, "trunk": test_seconds, "tail": 0.0, "test": test_seconds},
        "flops": scores.flops,
    }
    narration.say_overlap(facts, "the training data")
    facts["seconds"]["total"] = time.perf_counter() - start
    facts["peak_rss_bytes"] = hardware.peak_rss_bytes()
    if report_file is not None:
        report.write(Path(report_file), _report(facts, probabilities, test))
        facts["report"] = str(Path(report_file).resolve())
    return facts


def _report(
    facts: dict[str, Any],
    probabilities: npt.NDArray[np.float64],
    test: Examples,
    explained_by: Artifact | None = None,
) -> str:
    drawn = report.figures(probabilities, test, facts)
    mistakes = report.mistakes(probabilities, test)
    if explained_by is not None:
        first = mistakes[:_EXPLAINED]
        if test.pictures is not None:
            return report.render_html(facts, _with_heat_maps(explained_by, first) + mistakes[_EXPLAINED:], drawn)
        pieces, found = contributions(explained_by, [mistake.text for mistake in first], _PIECES)
        shaded = []
        for mistake, parts, label in zip(first, pieces, found.argmax(1).tolist(), strict=True):
            of_ngrams = ngram_weights(explained_by, mistake.text, parts, label)
            shaded.append(replace(mistake, shaded=shades(mistake.text, parts, of_ngrams)))
        mistakes = [*shaded, *mistakes[_EXPLAINED:]]
    return report.render_html(facts, mistakes, drawn)


def _with_heat_maps(model: Artifact, mistakes: list[report.Mistake]) -> list[report.Mistake]:
    result = []
    for mistake in mistakes:
        assert mistake.picture is not None
        weights, _ = heat_map(model, mistake.picture)
        result.append(replace(mistake, coloured=report.thumbnail(coloured(mistake.picture, weights))))
    return result


def _say_what_is_ahead(data: EncodedData | NgramData) -> list[Finding]:
    """Say which training texts lose their ends, and what a training takes; return the findings on these texts."""
    if isinstance(data, NgramData):  # which reads every text whole, and takes seconds
        return []
    used, lost = data.encoded.tokens.numpy(), data.encoded.tokens_cut
    too_long = list(cut_off(data.train, used[: data.n_train], lost[: data.n_train]))
    narration.say_findings(too_long)
    narration.say_estimate(estimate(data))
    return too_long


def _share_of_test(parts: Parts) -> float:
    """Return how long the test is likely to take, as a share of the trunk pass over what is learned from.

    Of the test examples some pass twice, the second time in float32.
    """
    sizes = [sum(map(len, part.texts)) if part.pictures is None else len(part) for part in _all_of(parts)]
    learned_from = sizes[0] + sizes[1]
    return _PASSES_OF_A_TEST * sizes[2] / max(1, learned_from)


def _all_of(parts: Parts) -> tuple[Examples, Examples, Examples]:
    return parts.train, parts.validation, parts.test
