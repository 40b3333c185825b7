"""Micro-batches: what is asked is answered, in order, fairly, within the budget, or turned away."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead.artifact.predictor import Scores
from rehead.serving.batching import Batch, Batcher, FromThread
from rehead.serving.refusals import Refusal
from rehead.serving.settings import RequestLimits


def score(inputs: list[str]) -> Scores:
    """Stands for a model: a text's probabilities tell its number, and its cut tokens its length."""
    numbers = np.array([float(text.split("-")[1]) for text in inputs])
    return Scores(np.stack([numbers, 1 - numbers], axis=1), np.array([len(text) for text in inputs]), 0.0)


class Held:
    """The same, and waits until it is let go; `batches` are what came together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.go = threading.Event()

    async def begun(self) -> None:
        """Returns when a first batch is held."""
        while not self.batches:
            await asyncio.sleep(0.001)

    def __call__(self, inputs: list[str]) -> Scores:
        self.batches.append(inputs)
        self.go.wait(10)
        return score(inputs)


def run(
    scenario: Callable[[Batcher], Coroutine[Any, Any, Any]],
    by: Callable[[list[str]], Scores] = score,
    scored: Callable[[Batch], None] = lambda batch: None,
    at_once: int = 1,
    **limits: Any,
) -> Any:
    async def inside(threads: ThreadPoolExecutor) -> Any:
        batcher = Batcher(by, lambda text: int(text.split("-")[2]), threads, RequestLimits(**limits), scored, at_once)
        return await scenario(batcher)

    with ThreadPoolExecutor(at_once) as threads:
        return asyncio.run(inside(threads))


REQUESTS = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=12)


@given(REQUESTS, st.integers(1, 60), st.integers(1, 3))
def test_each_request_gets_its_own_answers_in_order(requests: list[list[int]], budget: int, at_once: int) -> None:
    texts = [[f"t-{i + j / 100}-{size}" for j, size in enumerate(sizes)] for i, sizes in enumerate(requests)]
    batches: list[Batch] = []

    async def scenario(batcher: Batcher) -> list[Scores]:
        answers = await asyncio.gather(*(batcher.scores(given) for given in texts))
        assert batcher.queued_tokens == 0
        return answers

    answers = run(scenario, scored=batches.append, at_once=at_once, batch_tokens=budget, batch_milliseconds=0)
    for given_, answer in zip(texts, answers, strict=True):
        assert np.array_equal(answer.probabilities, score(given_).probabilities)
        assert answer.tokens_cut.tolist() == [len(text) for text in given_]
    assert all(batch.tokens <= budget or batch.size == 1 for batch in batches)
    assert sum(batch.size for batch in batches) == sum(map(len, texts))


def test_batches_that_end_out_of_order_mix_nothing_up() -> None:
    second, third = threading.Event(), threading.Event()

    def by(inputs: list[str]) -> Scores:
        """The first batch ends when the second has begun and the third has ended."""
        if "t-0-10" in inputs:
            assert second.wait(10)
            assert third.wait(10)
        elif "t-2-10" in inputs:
            second.set()
        elif "t-4-10" in inputs:
            third.set()
        return score(inputs)

    texts = [f"t-{i}-10" for i in range(6)]

    async def scenario(batcher: Batcher) -> Scores:
        return await batcher.scores(texts)

    answer = run(scenario, by, at_once=2, batch_tokens=20)
    assert answer.probabilities.tolist() == score(texts).probabilities.tolist()


def test_what_comes_while_a_batch_is_scored_goes_together() -> None:
    held = Held()

    async def scenario(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.scores(["a-0-5"]))
        await held.begun()
        others = [asyncio.create_task(batcher.scores([f"b-{i}-5"])) for i in range(4)]
        await asyncio.sleep(0.01)
        held.go.set()
        await asyncio.gather(first, *others)

    run(scenario, held, batch_tokens=100)
    assert held.batches == [["a-0-5"], ["b-0-5", "b-1-5", "b-2-5", "b-3-5"]]


def test_requests_that_come_within_the_wait_go_together() -> None:
    batches: list[Batch] = []

    async def scenario(batcher: Batcher) -> None:
        first = asyncio.create_task(batcher.scores(["a-0-5"]))
        await asyncio.sleep(0.02)
        await asyncio.gather(first, batcher.scores(["b-0-5"]))

    run(scenario, scored=batches.append, batch_milliseconds=200)
    assert [batch.size for batch in batches] == [2]


def test_a_full_batch_does_not_wait() -> None:
    async def scenario(batcher: Batcher) -> float:
        begun = time.monotonic()
        await batcher.scores(["a-0-50", "a-1-50"])
        return time.monotonic() - begun

    assert run(scenario, batch_tokens=100, batch_milliseconds=5000) < 2


def test_a_large_request_does_not_keep_a_small_one_waiting() -> None:
    held = Held()

    async def scenario(batcher: Batcher) -> None:
        large = asyncio.create_task(batcher.scores([f"large-{i}-10" for i in range(50)]))
        await held.begun()
        small = asyncio.create_task(batcher.scores(["small-0-10"]))
        await asyncio.sleep(0.01)
        held.go.set()
        await small
        assert not large.done()
        await large

    run(scenario, held, batch_tokens=40, batch_milliseconds=0)
    assert "small-0-10" in held.batches[1]


def test_what_would_wait_too_long_is_turned_away_with_the_time_to_come_back() -> None:
    held = Held()

    async def scenario(batcher: Batcher) -> None:
        accepted = asyncio.create_task(batcher.scores(["a-0-90"]))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await batcher.scores(["b-0-20"])
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        unbounded = asyncio.create_task(batcher.scores(["c-0-20"], bounded=False))
        held.go.set()
        await asyncio.gather(accepted, unbounded)
        await batcher.scores(["d-0-5000"])  # on an idle server even one that is larger than the queue

    run(scenario, held, queue_tokens=100)


def test_a_batch_that_fails_fails_its_own_requests_alone() -> None:
    def by(inputs: list[str]) -> Scores:
        if "bad-0-5" in inputs:
            raise ValueError("no such text")
        return score(inputs)

    async def scenario(batcher: Batcher) -> list[Any]:
        bad = await asyncio.gather(batcher.scores(["bad-0-5", "rest-1-5"]), return_exceptions=True)
        return [*bad, await batcher.scores(["good-2-5"]), batcher.queued_tokens]

    bad, good, queued = run(scenario, by, batch_tokens=5, batch_milliseconds=0)
    assert isinstance(bad, ValueError)
    assert good.probabilities.tolist() == [[2.0, -1.0]]
    assert queued == 0


def test_what_nobody_waits_for_any_more_is_not_scored() -> None:
    held = Held()

    async def scenario(batcher: Batcher) -> int:
        first = asyncio.create_task(batcher.scores(["a-0-10"]))
        await held.begun()
        gone = asyncio.create_task(batcher.scores(["gone-0-10"]))
        await asyncio.sleep(0.005)
        gone.cancel()
        stays = asyncio.create_task(batcher.scores(["stays-0-10"]))
        await asyncio.sleep(0.005)
        held.go.set()
        await asyncio.gather(first, stays)
        return batcher.queued_tokens

    assert run(scenario, held) == 0
    assert held.batches == [["a-0-10"], ["stays-0-10"]]


def test_only_what_is_somebodys_own_is_told_to_whoever_watches() -> None:
    seen: list[list[str]] = []

    async def scenario(batcher: Batcher) -> None:
        await asyncio.gather(batcher.scores(["own-1-5"]), batcher.scores(["made-2-5"], observed=False))

    run(scenario, scored=lambda batch: seen.append(batch.inputs))
    assert seen == [["own-1-5"]]


def test_another_thread_asks_as_a_predictor_is_asked() -> None:
    async def scenario(batcher: Batcher) -> Scores:
        asked = FromThread(batcher, asyncio.get_running_loop())
        return await asyncio.to_thread(asked.scores, ["a-3-5"])

    assert run(scenario).probabilities.tolist() == [[3.0, -2.0]]


def test_what_another_thread_asks_can_be_given_up() -> None:
    held = Held()

    async def scenario(batcher: Batcher) -> int:
        first = asyncio.create_task(batcher.scores(["a-0-10"]))
        await held.begun()
        asked = FromThread(batcher, asyncio.get_running_loop())

        def is_given_up(text: str) -> bool:
            try:
                asked.scores([text])
            except CancelledError:
                return True
            return False

        asking = asyncio.create_task(asyncio.to_thread(is_given_up, "gone-0-10"))
        while batcher.queued_tokens < 20:
            await asyncio.sleep(0.001)
        asked.give_up()
        assert await asking
        assert await asyncio.to_thread(is_given_up, "later-0-10")
        held.go.set()
        await first
        for _ in range(1000):
            if batcher.queued_tokens:
                await asyncio.sleep(0.001)
        return batcher.queued_tokens

    assert run(scenario, held) == 0
    assert held.batches == [["a-0-10"]]
