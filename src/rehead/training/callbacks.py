"""Follow a fit: what it reports while it runs, to whoever asked, and the log of that, saved with the classifier."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rehead.training.strategies import Candidate

METRICS = "metrics.jsonl"
# Of the steps of one training, about this number is kept in the log: enough for any curve, and 100 KB at most.
_LOGGED_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the optimizer.

    Attributes:
        candidate: what is trained: a strategy, or one that learns once more, from all examples.
        step: its number in this training, from 1.
        steps: that this training takes, if nothing ends it before.
        epoch: from 1.
        loss: of the step's examples.
        learning_rate: that it was taken with.
        seconds: since the training began.
    """

    candidate: str
    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The end of a pass over the training examples; attributes as of `Step`.

    Attributes:
        validation_loss: after it.
    """

    candidate: str
    step: int
    epoch: int
    validation_loss: float
    seconds: float


class Callback:
    """Follow a fit; override the methods of interest. What one of them raises ends the fit.

    Example:
        >>> import rehead
        >>> class Printed(rehead.Callback):
        ...     def on_epoch(self, epoch):
        ...         print(epoch.candidate, epoch.epoch, epoch.validation_loss)
        >>> rehead.fit("train.csv", callbacks=[Printed()])  # doctest: +SKIP
    """

    def on_start(self, settings: Mapping[str, Any]) -> None:
        """Learn that the examples are read, the model is loaded, and training begins.

        Args:
            settings: the parameters of the classifier by name, with what is known by now in the place of "auto"; with
                `rehead.fit` also `data`, `train`, `validation` and `test`: where the examples are from, how many.
        """

    def on_step(self, step: Step) -> None:
        """Learn of a step of the optimizer; there is none where the head alone is trained."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Learn of the end of an epoch."""

    def on_candidate(self, candidate: Candidate) -> None:
        """Learn of a classifier that was tried: its `tune`, calibrated validation `loss`, `seconds`, ..."""

    def on_end(self, result: Any) -> None:
        """Learn what the fit returns: a `FitResult`, with `Classifier.fit` the classifier."""

    def on_failure(self, error: BaseException) -> None:
        """Learn why the fit ended without a result."""


class Callbacks(Callback):
    """Several callbacks as one, in their order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = callbacks

    def on_start(self, settings: Mapping[str, Any]) -> None:
        for callback in self._callbacks:
            callback.on_start(settings)

    def on_step(self, step: Step) -> None:
        for callback in self._callbacks:
            callback.on_step(step)

    def on_epoch(self, epoch: Epoch) -> None:
        for callback in self._callbacks:
            callback.on_epoch(epoch)

    def on_candidate(self, candidate: Candidate) -> None:
        for callback in self._callbacks:
            callback.on_candidate(candidate)

    def on_end(self, result: Any) -> None:
        for callback in self._callbacks:
            callback.on_end(result)

    def on_failure(self, error: BaseException) -> None:
        for callback in self._callbacks:
            callback.on_failure(error)


@contextmanager
def following(callbacks: Sequence[Callback], settings: Mapping[str, Any]) -> Iterator[Callback]:
    """Yield the callbacks as one, that learn of the start, and of what the block raises."""
    followers = Callbacks(callbacks)
    followers.on_start(settings)
    try:
        yield followers
    except BaseException as error:
        followers.on_failure(error)
        raise


class MetricsLog(Callback):
    """Keep what is saved as `metrics.jsonl`: a JSON object a line."""

    def __init__(self) -> None:
        self._lines: list[dict[str, Any]] = []

    def on_step(self, step: Step) -> None:
        if step.step % math.ceil(step.steps / _LOGGED_STEPS) == 0:
            self._lines.append({name: value for name, value in vars(step).items() if name != "steps"})

    def on_epoch(self, epoch: Epoch) -> None:
        self._lines.append(vars(epoch))

    def on_candidate(self, candidate: Candidate) -> None:
        tried = {"candidate": candidate.tune, "calibrated_validation_loss": candidate.loss}
        self._lines.append({**tried, "trainable": candidate.trainable, "seconds": candidate.seconds})

    def text(self) -> str:
        """Return the lines; a number that JSON has not is null."""
        return "".join(
            f"{json.dumps({name: _finite(value) for name, value in line.items()})}\n" for line in self._lines
        )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
