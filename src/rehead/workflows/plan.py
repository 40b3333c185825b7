"""Say what a fit would take, without doing it."""

from __future__ import annotations

from rehead.classifier import Classifier
from rehead.data.containers import Source
from rehead.data.preparation import DataConfig, prepare
from rehead.training.estimate import estimate
from rehead.workflows import messages
from rehead.workflows.results import FitPlan, rows_of


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
