"""Fit a classifier: from labelled data to a saved folder that has been tested.

The steps of `fit`: divide the data, load the backbone and encode, learn, evaluate, save.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rehead.analysis.label_study import study_training
from rehead.artifact.saving import require_replaceable
from rehead.classifier import Classifier
from rehead.data import samples
from rehead.data.audit import in_order
from rehead.data.containers import Source
from rehead.data.examples import Examples
from rehead.data.preparation import DataConfig, DataSplits, prepare
from rehead.drift import sampling
from rehead.drift.reference import ReferenceProfile
from rehead.evaluation import baselines, image_features, likelihood
from rehead.evaluation.decisions import DecisionConfig, DecisionRule, choose_rule
from rehead.evaluation.evaluation import Predictions, calibration_effect, evaluate_predictions
from rehead.evaluation.model_card import render_model_card
from rehead.runtime import hardware, interrupts
from rehead.runtime.errors import SettingError
from rehead.training.callbacks import Callback, following
from rehead.training.checkpoint import Resumption
from rehead.training.encoding import EncodedData
from rehead.training.estimate import estimate
from rehead.training.finetune import Limits, TrainedClassifier
from rehead.training.ngrams_alone import NgramData
from rehead.workflows import messages
from rehead.workflows.cross_validation import OutOfFold, cross_validate
from rehead.workflows.report_page import draw_report
from rehead.workflows.results import ClassifierSettings, FitPlan, FitResult, rows_of, split_as_json, summary_of

# A test example costs about two trunk passes: a tenth of them are scored again in float32, which takes several times as
# long as in native bf16.
_PASSES_OF_A_TEST = 2.0


@interrupts.first_ctrl_c_only()
def fit(
    data: DataConfig | Source,
    model: Classifier | None = None,
    output: str | Path | None = None,
    *,
    resume: bool = False,
    n_folds: int | None = None,
    decisions: DecisionConfig | None = None,
    full_report: bool = False,
    callbacks: Sequence[Callback] = (),
    **sources: Source,
) -> FitResult:
    """Train, evaluate and save a classifier.

    Args:
        data: what to learn from: a file or `sample:NAME`; a data frame, an Arrow table or a `datasets.Dataset`; a
            mapping of parts by name, such as a `DatasetDict`; or all sources in one.
        model: an unfitted classifier with the settings to use; the default settings if None.
        output: folder to save to; nothing is saved if None.
        resume: go on from where an interrupted fit to the same `output` stood.
        n_folds: test by cross-validation with this number of folds instead of on a part that is not learned from; what
            is saved has then learned from all examples.
        decisions: what the decisions that are made of probabilities are to reach.
        full_report: look for labels that may be wrong, draw a learning curve and explain mistakes; takes longer.
        callbacks: learn of each step, epoch and candidate of the training, and of the result.
        sources: the other attributes of `rehead.data.preparation.DataConfig`: `validation`, `test`, `text_column`,
            `label_column`, ...

    Raises:
        RheadError: a child of it, for whatever the user can mend; nothing is written then.

    Example:
        >>> import rehead
        >>> result = rehead.fit("train.csv", label_column="team")  # doctest: +SKIP
        >>> result.evaluation.test.accuracy  # doctest: +SKIP
    """
    begun = time.perf_counter()
    chosen = DataConfig.of(data, **sources)
    model, decisions = model or Classifier(), decisions or DecisionConfig()
    training = model.config()
    deadline = begun + training.budget
    _require_possible(chosen, output, n_folds)

    splits = _divide(chosen, training.seed, decisions, with_test=not n_folds)
    # With folds the test is of classifiers like the one that is saved, which has itself seen all examples.
    out_of_fold = cross_validate(splits.pool, n_folds, model, deadline) if n_folds else None
    encoded = model.prepare(splits.train, splits.validation, training)
    findings = in_order([*splits.findings, *messages.say_what_is_ahead(encoded)])
    with (
        following(callbacks, _settings(chosen, splits, encoded)) as callback,
        nullcontext() if output is None else Resumption.beside(Path(output), resume) as resumption,
    ):
        parts = splits.train, splits.validation, splits.test
        limits = Limits(deadline, cost_of_test(*parts)) if model.tune == "auto" else None
        learned = baselines.learn(splits.train, splits.validation)
        # Validation examples that were taken out of the data are learned from at last; the user's own are not.
        refits = chosen.validation is None
        trained = model.fit_encoded(encoded, learned, limits, resumption, refits=refits, callback=callback)
        messages.say_candidates(trained)
        del encoded, learned  # and with it the features, and the weights that they were computed with
        rule = _choose_rule(decisions, trained, splits, out_of_fold)
        test_begun = time.perf_counter()
        predictions = out_of_fold.predictions if out_of_fold else _predict(model, splits)
        evaluation = evaluate_predictions(predictions, rule)
        seconds = {**trained.seconds, "test": time.perf_counter() - test_begun}
        hardware.give_back_freed_memory()  # that of the test
        messages.say_evaluation(predictions, evaluation, "training")
        messages.say_what_may_help(evaluation, predictions.base)

        manifest = model.artifact_.manifest
        n_cut = int((predictions.tokens_cut > 0).sum())
        result = FitResult(
            model=model,
            folder=None if output is None else str(Path(output).resolve()),
            settings=ClassifierSettings.of(manifest.to_json()),
            data=chosen.name,
            rows=rows_of(splits),
            truncated={"training and validation": trained.truncated, "test": n_cut},
            training=summary_of(trained, splits),
            evaluation=evaluation,
            folds=out_of_fold.folds if out_of_fold else None,
            calibration=None if out_of_fold else calibration_effect(predictions, manifest.temperature),
            findings=findings,
            split=f"cross-validation with {n_folds} folds, {splits.how}" if n_folds else splits.how,
            seconds=seconds,
            label_study=study_training(splits.train, splits.validation, manifest.to_json()) if full_report else None,
            peak_rss_bytes=hardware.peak_rss_bytes(),
            predictions=predictions,
        )
        if output is not None:
            # What is saved says how long it took up to here.
            result = _save(_timed(result, begun), Path(output), splits, trained, predictions, full_report)
        result = _timed(result, begun)
        callback.on_end(result)
    return result


def _require_possible(sources: DataConfig, output: str | Path | None, n_folds: int | None) -> None:
    if output is not None:
        require_replaceable(Path(output))
    if n_folds and (sources.validation or sources.test or sources.time_column):
        raise SettingError("`n_folds` tests on every example in turn: leave `validation`, `test` and `time_column` out")


def _divide(sources: DataConfig, seed: int, decisions: DecisionConfig, with_test: bool) -> DataSplits:
    """Read, audit and divide the data, and say what is used of them and what is wrong with them."""
    splits = prepare(sources, seed, with_test=with_test)
    messages.say_what_is_used(splits)
    train = splits.train
    if train.images is not None:
        image_features.require_installed()
    n_held_out = len(splits.validation if with_test else splits.pool)
    decisions.require_possible(train.label_names, n_held_out, multilabel=train.multilabel)
    messages.say_findings(splits.findings)
    return splits


def _settings(sources: DataConfig, splits: DataSplits, data: EncodedData | NgramData) -> dict[str, Any]:
    """Return what callbacks learn when the training begins."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {"data": sources.name, **{name: len(part) for name, part in parts.items()}, **vars(data.config)}


def cost_of_test(*parts: Examples) -> float:
    """Return how long the test is likely to take, in trunk passes over what is learned from.

    Of the test examples some pass twice, the second time in float32.

    Args:
        parts: for training, for validation, and for the test.
    """
    train, validation, test = (sum(map(len, part.texts)) if part.images is None else len(part) for part in parts)
    return _PASSES_OF_A_TEST * test / max(1, train + validation)


def _choose_rule(
    decisions: DecisionConfig, trained: TrainedClassifier, splits: DataSplits, out_of_fold: OutOfFold | None
) -> DecisionRule:
    """Return the rule that the validation examples choose, or after a cross-validation all examples.

    Of 647 scans, 43 of them for validation, the latter choose thresholds that are far less a matter of chance.
    """
    held_out = splits.validation
    probabilities = likelihood.probabilities(trained.validation_logits, held_out.multilabel)
    if out_of_fold:
        held_out, probabilities = out_of_fold.predictions.test, out_of_fold.predictions.probabilities
    return choose_rule(decisions, probabilities, held_out.labels, splits.train.label_names)


def _predict(model: Classifier, splits: DataSplits) -> Predictions:
    """Return what the classifier and the baselines say of the test examples."""
    test, reference = splits.test, model.artifact_.reference
    assert reference is not None
    kept = sampling.rows(len(test), sampling.MOST_FEATURES)
    scores = model.artifact_.predictor().scores(test.inputs, keep_features=kept)
    return Predictions(
        test=test,
        probabilities=scores.probabilities,
        tokens_cut=scores.tokens_cut,
        baselines=reference.baselines.predict(test),
        repeated=splits.in_training,
        near=splits.near_training,
        base=model.artifact_.manifest.base,
        features=scores.features,
        beside=scores.beside,
    )


def _save(
    result: FitResult,
    output: Path,
    splits: DataSplits,
    trained: TrainedClassifier,
    predictions: Predictions,
    full_report: bool,
) -> FitResult:
    """Save the classifier with its report, load it again and compare; return the result with the report's place."""
    model = result.model
    dataset = samples.dataset_on_the_hub(result.data)
    documents = {
        "report.html": draw_report(result, predictions, model.artifact_ if full_report else None),
        "README.md": render_model_card(result.to_json(), model.artifact_.transformers_class, splits.languages, dataset),
        "split.json": split_as_json(splits),
    }
    model.save(
        output,
        sidecars=[_drift_profile(model, trained, splits, predictions)],
        entries=result.manifest_entries(splits.columns),
        documents=documents,
    )
    return replace(result, report_file=str(output.resolve() / "report.html"))


def _drift_profile(
    model: Classifier, trained: TrainedClassifier, splits: DataSplits, predictions: Predictions
) -> ReferenceProfile:
    """Return the drift profile of validation and test examples, or of validation examples where there is no test."""
    held_out = splits.validation
    probabilities = likelihood.probabilities(trained.validation_logits, held_out.multilabel)
    features = predictions.features
    if features is None:
        some = sampling.drawn(held_out.inputs, sampling.MOST_FEATURES)
        features = model.artifact_.predictor().scores(some, keep_features=True).features
        assert features is not None
    else:
        held_out = held_out.followed_by(predictions.test)
        probabilities = np.concatenate([probabilities, predictions.probabilities])
    return ReferenceProfile.of(
        splits.train.inputs, held_out.inputs, probabilities, features, multilabel=held_out.multilabel
    )


def _timed(result: FitResult, begun: float) -> FitResult:
    seconds = {**result.seconds, "total": time.perf_counter() - begun}
    return replace(result, seconds=seconds, peak_rss_bytes=hardware.peak_rss_bytes())


def plan(data: DataConfig | Source, model: Classifier | None = None) -> FitPlan:
    """Return what a fit would take: read the data, load the backbone and encode the texts, but train nothing.

    Raises:
        RheadError: what the fit would raise before it computes anything.
    """
    sources = DataConfig.of(data)
    model = model or Classifier()
    splits = prepare(sources, model.config().seed)
    messages.say_what_is_used(splits)
    encoded = model.encode(splits.train, splits.validation)
    return FitPlan(sources.name, encoded.base.name, model.tune, rows_of(splits), estimate(encoded))
