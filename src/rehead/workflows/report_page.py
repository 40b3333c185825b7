"""Draw the HTML report of a fit or an evaluation, with the words or parts of images that the mistakes rest on."""

from __future__ import annotations

from dataclasses import replace

from rehead.analysis.image_explanation import coloured, heat_map
from rehead.artifact.artifact import Artifact
from rehead.artifact.explanation import contributions, ngram_weights, shades
from rehead.evaluation import report
from rehead.evaluation.evaluation import Predictions
from rehead.evaluation.report import Mistake
from rehead.workflows.results import FitResult, MeasuredResult

# Mistakes that are explained, and the pieces of each.
_EXPLAINED, _PIECES = 10, 20


def draw_report(result: MeasuredResult, predictions: Predictions, explained_by: Artifact | None = None) -> str:
    """Return the report of a fit or an evaluation.

    Args:
        result: what it found.
        predictions: on the test examples.
        explained_by: the classifier that the first mistakes are explained by; None to explain none.
    """
    training = result.training if isinstance(result, FitResult) else None
    profile, stages = (training.profile, training.stages) if training else ({}, [])
    epochs = {stage.tune: stage.epochs.validation_losses for stage in stages if stage.epochs}
    curve = result.label_study.curve if isinstance(result, FitResult) and result.label_study else None
    probabilities, test = predictions.probabilities, predictions.test
    drawn = report.figures(probabilities, test, profile, result.settings.depth, epochs, curve)
    mistakes = report.mistakes(probabilities, test)
    if explained_by is not None:
        explain = _with_words if test.images is None else _with_heat_maps
        mistakes = [*explain(explained_by, mistakes[:_EXPLAINED]), *mistakes[_EXPLAINED:]]
    return report.render_html(result, mistakes, drawn)


def _with_words(model: Artifact, mistakes: list[Mistake]) -> list[Mistake]:
    pieces, probabilities = contributions(model, [mistake.text for mistake in mistakes], _PIECES)
    explained = []
    for mistake, parts, label in zip(mistakes, pieces, probabilities.argmax(1).tolist(), strict=True):
        of_ngrams = ngram_weights(model, mistake.text, parts, label)
        explained.append(replace(mistake, shaded=shades(mistake.text, parts, of_ngrams)))
    return explained


def _with_heat_maps(model: Artifact, mistakes: list[Mistake]) -> list[Mistake]:
    explained = []
    for mistake in mistakes:
        assert mistake.picture is not None
        weights, _ = heat_map(model, mistake.picture)
        explained.append(replace(mistake, coloured=report.thumbnail(coloured(mistake.picture, weights))))
    return explained
