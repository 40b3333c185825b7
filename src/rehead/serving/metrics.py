"""The counters of a server, in the form that Prometheus reads."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from rehead.serving.batching import Batch
    from rehead.serving.models import Version

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_OF_VERSION = ("model", "version")


class ServerMetrics(Collector):
    """The counters of one server, and what is read when somebody asks."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": "rehead", "registry": self._registry}
        self._requests = Counter("requests", "Requests, by path and status", ("path", "status"), **named)
        self._seconds = Histogram("request_seconds", "From request to answer", ("path",), buckets=_SECONDS, **named)
        self._texts = Counter("scored", "Texts or images scored", _OF_VERSION, **named)
        self._tokens = Counter("scored_tokens", "Tokens scored, roughly", _OF_VERSION, **named)
        self._busy = Counter("scoring_seconds", "Time spent scoring", _OF_VERSION, **named)
        self._sizes = Histogram("batch_size", "Texts scored together", buckets=_SIZES, **named)
        self._labels = Counter("predictions", "Texts or images classified, by label", (*_OF_VERSION, "label"), **named)
        self._compared = Counter("shadow", "Answers of a shadow, by agreement", (*_OF_VERSION, "agrees"), **named)
        self._jobs = Counter("jobs", "Jobs on files that ended, by state", ("state",), **named)
        self._versions: list[Version] = []
        self._registry.register(self)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is the route's, so that there are only a few."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def job(self, state: str) -> None:
        """Count a job that ended in a state."""
        self._jobs.labels(state).inc()

    def serve(self, versions: Sequence[Version]) -> None:
        """Read the metrics of these versions from now on."""
        self._versions = list(versions)

    def collect(self) -> Iterable[Metric]:
        """Read what is not counted; called by the registry."""
        queued = GaugeMetricFamily("rehead_queued_tokens", "Tokens that wait to be scored", labels=_OF_VERSION)
        drift = GaugeMetricFamily("rehead_drift", "How far inputs are from the training's", labels=(*_OF_VERSION, "of"))
        threshold = GaugeMetricFamily(
            "rehead_drift_threshold", "From where on it is drift", labels=(*_OF_VERSION, "of")
        )
        drifted = GaugeMetricFamily("rehead_drifted", "Whether any of them is beyond its threshold", labels=_OF_VERSION)
        tokens: Tally[tuple[str, str]] = Tally()
        for version in self._versions:
            tokens[version.name, version.id] += version.batcher.queued_tokens
        for whose, waiting in tokens.items():
            queued.add_metric(whose, waiting)
        # Two folders may hold the same weights; one of their drifts is shown.
        for whose, version in {(version.name, version.id): version for version in self._versions}.items():
            report = version.drift()
            if report is not None and report.drifted is not None:
                drifted.add_metric(whose, float(report.drifted))
                for of, measure in report.measures.items():
                    drift.add_metric([*whose, of], measure.value)
                    threshold.add_metric([*whose, of], measure.threshold)
        return [queued, drift, threshold, drifted]

    def exposition(self) -> bytes:
        """Return all of it, as text."""
        return generate_latest(self._registry)


class OfVersion:
    """The counters of one version of a model, by the model's name and the version's."""

    def __init__(self, metrics: ServerMetrics, *whose: str) -> None:
        self._metrics, self._whose = metrics, whose

    def scored(self, batch: Batch, labels: Iterable[str]) -> None:
        """Count a batch.

        Args:
            labels: that were predicted for somebody's own inputs.
        """
        metrics = self._metrics
        metrics._texts.labels(*self._whose).inc(batch.size)
        metrics._tokens.labels(*self._whose).inc(batch.tokens)
        metrics._busy.labels(*self._whose).inc(batch.seconds)
        metrics._sizes.observe(batch.size)
        for label, times in Tally(labels).items():
            metrics._labels.labels(*self._whose, label).inc(times)

    def compared(self, agrees: bool) -> None:
        """Count an answer of a shadow."""
        self._metrics._compared.labels(*self._whose, str(agrees).lower()).inc()
