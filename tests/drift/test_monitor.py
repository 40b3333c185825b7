"""A monitor remembers the latest inputs as numbers, whoever asks it at the same time, and tells when they change."""

import gc
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rehead.artifact.predictor import Scores
from rehead.drift.monitor import Monitor
from rehead.runtime.errors import SettingError
from tests.drift import synthetic

REFERENCE = synthetic.reference()


def batch(n: int, seed: int, **changed: float) -> tuple[list[str], Scores]:
    return synthetic.inputs(n, seed, **changed)


def test_what_it_reports() -> None:
    monitor = Monitor(REFERENCE)
    for seed in range(10):
        monitor.observe(*batch(40, seed))
    report = monitor.report().to_json()
    assert report["n"] == 400
    assert report["drifted"] is False
    assert list(report["measures"]) == ["label", "confidence", "length", "vocabulary", "embedding"]
    for measure in report["measures"].values():
        assert list(measure) == ["value", "threshold", "drifted"]
    assert json.loads(json.dumps(report)) == report


def test_it_says_nothing_of_few_inputs() -> None:
    monitor = Monitor(REFERENCE)
    assert monitor.report().to_json() == {"n": 0, "drifted": None, "measures": {}}
    monitor.observe([], Scores(np.zeros((0, 2)), np.zeros(0, np.int64), 0.0))
    monitor.observe(*batch(99, 1))
    assert monitor.report().to_json() == {"n": 99, "drifted": None, "measures": {}}
    monitor.observe(*batch(1, 2))
    assert monitor.report().to_json()["drifted"] is False


def test_what_is_new_drives_out_what_is_old() -> None:
    monitor = Monitor(REFERENCE, window=300)
    monitor.observe(*batch(1000, 1, words=40.0))
    assert monitor.report().to_json()["measures"]["length"]["drifted"]
    for seed in range(6):
        monitor.observe(*batch(50, seed))
    report = monitor.report().to_json()
    assert report["n"] == 300
    assert report["drifted"] is False


@pytest.mark.parametrize("sizes", [[300], [1] * 300, [7, 93, 200], [250, 299, 300]])
def test_portions_make_no_difference(sizes: list[int]) -> None:
    texts, scores = batch(sum(sizes), 5)
    whole, parts = Monitor(REFERENCE, window=300), Monitor(REFERENCE, window=300)
    latest = slice(len(texts) - 300, None)
    assert scores.features is not None
    whole.observe(texts[latest], Scores(scores.probabilities[latest], scores.tokens_cut, 0.0, scores.features[latest]))
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        parts.observe(texts[part], Scores(scores.probabilities[part], scores.tokens_cut, 0.0, scores.features[part]))
        start += size
    first, second = whole.report().to_json(), parts.report().to_json()
    for name, measure in first["measures"].items():
        assert second["measures"][name]["value"] == pytest.approx(measure["value"], abs=1e-6)


def test_batches_without_features_leave_the_rest_to_compare() -> None:
    monitor = Monitor(REFERENCE)
    texts, scores = batch(150, 1)
    monitor.observe(texts, Scores(scores.probabilities, scores.tokens_cut, 0.0))
    assert "embedding" not in monitor.report().to_json()["measures"]
    monitor.observe(texts, scores)
    assert "embedding" in monitor.report().to_json()["measures"]


def test_threads_lose_nothing() -> None:
    monitor = Monitor(REFERENCE, window=5000)
    batches = [batch(25, seed) for seed in range(70)]
    reports: list[int] = []
    running = threading.Event()

    def ask() -> None:
        while not running.is_set():
            reports.append(monitor.report().to_json()["n"])

    asking = threading.Thread(target=ask)
    asking.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda given: monitor.observe(*given), batches))
    running.set()
    asking.join()
    assert reports == sorted(reports)
    together = Monitor(REFERENCE, window=5000)
    for given in batches:
        together.observe(*given)
    assert monitor.report().to_json()["n"] == 1750
    for name, measure in together.report().to_json()["measures"].items():
        assert monitor.report().to_json()["measures"][name]["value"] == pytest.approx(measure["value"], abs=1e-6)


def test_no_text_is_kept() -> None:
    monitor = Monitor(REFERENCE)
    monitor.observe(*batch(50, 1))
    monitor.observe(["a secret of mine"] * 60, batch(60, 2)[1])
    monitor.report().to_json()
    reachable, waiting = set(), [monitor]
    while waiting:
        thing = waiting.pop()
        if id(thing) in reachable or isinstance(thing, type) or callable(thing):
            continue
        reachable.add(id(thing))
        assert not (isinstance(thing, str) and "secret" in thing)
        waiting.extend(gc.get_referents(thing))


def test_a_batch_takes_less_than_a_millisecond_or_little_more_on_a_busy_machine() -> None:
    monitor = Monitor(REFERENCE)
    given = batch(32, 1)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        monitor.observe(*given)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2e-3


def test_a_window_too_small_to_tell_anything_is_refused() -> None:
    with pytest.raises(SettingError, match="100 inputs or more, not 50"):
        Monitor(REFERENCE, window=50)
