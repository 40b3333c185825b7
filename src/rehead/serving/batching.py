"""Micro-batching: what several requests bring is scored together, a token budget at a time.

Batches are scored in threads of their own, as many at once as keep the processor busy. While all of them are, requests
gather; the next batch takes of each of them in turn, so that a large one does not keep small ones waiting. On an idle
server a request waits a few milliseconds for company. What would wait too long is turned away at once, with the time
after which to try again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from rehead.artifact.predictor import Scores
from rehead.serving.refusals import Refusal
from rehead.serving.settings import RequestLimits

# Weight of the newest batch in the running mean of the speed.
_NEWEST = 0.2


@dataclass(frozen=True)
class Batch:
    """What was scored together, for whoever counts.

    Attributes:
        inputs: those that are somebody's own, not made up for an explanation; `scores` are theirs.
        size: how many there were in all.
        tokens: of all, roughly.
    """

    inputs: list[Any]
    scores: Scores
    size: int
    tokens: int
    seconds: float


@dataclass(eq=False)
class _Pending:
    """A request of n inputs; they go into batches in order, and come back in whatever order these end.

    Attributes:
        sizes: in tokens, as far as is known without tokenising.
        taken: how many of the inputs went into a batch.
        received: by number what came back of each: its probabilities, and how many of its tokens were cut off.
    """

    inputs: Sequence[Any]
    sizes: list[int]
    observed: bool
    answer: asyncio.Future[Scores]
    arrived: float
    taken: int = 0
    received: dict[int, tuple[npt.NDArray[np.float64], int]] = field(default_factory=dict)

    def receive(self, number: int, probabilities: npt.NDArray[np.float64], tokens_cut: int) -> None:
        self.received[number] = probabilities, tokens_cut
        if len(self.received) == len(self.inputs) and not self.answer.done():
            in_order = [self.received[i] for i in range(len(self.inputs))]
            cut = np.array([each[1] for each in in_order], np.int64)
            self.answer.set_result(Scores(np.stack([each[0] for each in in_order]), cut, 0.0))


class Batcher:
    """Scores what requests bring.

    Args:
        score: texts or images → their scores; called in `threads`.
        size_of: tokens of an input, roughly.
        threads: where batches are scored; several batchers may share them.
        at_once: how many batches are, at most.
        scored: called in the batch's thread after each.

    Attributes:
        queued_tokens: that are not scored yet.
    """

    def __init__(
        self,
        score: Callable[[list[Any]], Scores],
        size_of: Callable[[Any], int],
        threads: Executor,
        limits: RequestLimits,
        scored: Callable[[Batch], None],
        at_once: int = 1,
    ) -> None:
        self._score, self._size_of, self._threads, self._limits, self._scored = score, size_of, threads, limits, scored
        self._waiting: deque[_Pending] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._at_once = at_once
        self._speed: float | None = None
        self.queued_tokens = self._waiting_tokens = 0

    async def scores(self, inputs: Sequence[Any], *, observed: bool = True, bounded: bool = True) -> Scores:
        """Score n inputs, 1 or more; `flops` and `features` are left out.

        Args:
            observed: whether they are somebody's own.
            bounded: whether they may be turned away; what brings no more before it has its answer need not be.

        Raises:
            Refusal: too much is waiting.
        """
        sizes = [self._size_of(each) for each in inputs]
        tokens = sum(sizes)
        if bounded and self.queued_tokens and self.queued_tokens + tokens > self._limits.queue_tokens:
            message = f"{self.queued_tokens:,} tokens are waiting already; try again later, or send less at a time"
            # The seconds that what is waiting will take.
            seconds = self.queued_tokens / (self._speed * self._at_once) if self._speed else 1.0
            raise Refusal(429, "overloaded", message, retry_after=seconds)
        pending = _Pending(inputs, sizes, observed, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(pending)
        self.queued_tokens += tokens
        self._waiting_tokens += tokens
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await pending.answer

    async def _work(self) -> None:
        """Go on while anything waits: of a batcher that nobody asks any more nothing is left to be closed."""
        while self._waiting:
            if len(self._running) >= self._at_once:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            # Until there is enough for a batch, or the first request has waited long enough.
            left = self._waiting[0].arrived + self._limits.batch_milliseconds / 1000 - time.monotonic()
            if left > 0 and self._waiting_tokens < self._limits.batch_tokens:
                await asyncio.sleep(left)
            if batch := self._next_batch():
                task = asyncio.create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _next_batch(self) -> list[tuple[_Pending, int]]:
        """Return inputs, each with its number in its request: of each request in turn, up to the token budget."""
        batch: list[tuple[_Pending, int]] = []
        tokens = 0
        while self._waiting:
            pending = self._waiting[0]
            if pending.answer.done():  # whoever asked has hung up, or a part of it failed
                self._waiting.popleft()
                left = sum(pending.sizes[pending.taken :])
                self.queued_tokens -= left
                self._waiting_tokens -= left
                continue
            tokens += pending.sizes[pending.taken]
            if batch and tokens > self._limits.batch_tokens:
                break
            batch.append((pending, pending.taken))
            self._waiting_tokens -= pending.sizes[pending.taken]
            pending.taken += 1
            self._waiting.rotate(-1)
            if pending.taken == len(pending.inputs):
                self._waiting.pop()
        return batch

    async def _run(self, batch: list[tuple[_Pending, int]]) -> None:
        inputs = [pending.inputs[i] for pending, i in batch]
        own = [row for row, (pending, _) in enumerate(batch) if pending.observed]
        tokens = sum(pending.sizes[i] for pending, i in batch)
        started = time.perf_counter()
        try:
            scores = await asyncio.get_running_loop().run_in_executor(
                self._threads, self._together, inputs, own, tokens
            )
        except Exception as error:
            for pending, _ in batch:
                if not pending.answer.done():
                    pending.answer.set_exception(error)
        else:
            speed = tokens / (time.perf_counter() - started)
            self._speed = speed if self._speed is None else _NEWEST * speed + (1 - _NEWEST) * self._speed
            for (pending, i), probabilities, cut in zip(batch, scores.probabilities, scores.tokens_cut, strict=True):
                pending.receive(i, probabilities, int(cut))
        finally:
            self.queued_tokens -= tokens

    def _together(self, inputs: list[Any], own: list[int], tokens: int) -> Scores:
        started = time.perf_counter()
        scores = self._score(inputs)
        seen = None if scores.features is None else scores.features[own]
        theirs = Scores(scores.probabilities[own], scores.tokens_cut[own], 0.0, seen)
        seconds = time.perf_counter() - started
        self._scored(Batch([inputs[row] for row in own], theirs, len(inputs), tokens, seconds))
        return scores


class FromThread:
    """Asks a batcher from other threads than the event loop's, as `Predictor.scores` is asked.

    Args:
        observed, bounded: see `Batcher.scores`.
    """

    def __init__(
        self, batcher: Batcher, loop: asyncio.AbstractEventLoop, *, observed: bool = False, bounded: bool = True
    ) -> None:
        self._batcher, self._loop, self._observed, self._bounded = batcher, loop, observed, bounded
        self._asked: set[Future[Scores]] = set()
        self._abandoned = False

    def scores(self, inputs: Sequence[Any], /) -> Scores:
        """Score n inputs.

        Raises:
            CancelledError: of `concurrent.futures`, after `give_up`.
        """
        return self.begin(inputs).result()

    def begin(self, inputs: Sequence[Any]) -> Future[Scores]:
        """Begin to score n inputs; what is returned can be waited for, and cancelled."""
        asking = self._batcher.scores(inputs, observed=self._observed, bounded=self._bounded)
        asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        if self._abandoned:
            asked.cancel()
        return asked

    def give_up(self) -> None:
        """Let go of what is being asked, and of what will be: nobody waits for it any more."""
        self._abandoned = True
        for asked in list(self._asked):
            asked.cancel()
