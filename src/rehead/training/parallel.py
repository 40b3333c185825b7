"""Let several processes train one classifier: each takes its share of every batch, and their gradients are averaged.

All of them run the same program, as torchrun and Ray Train start them, each with a copy of the weights. What they have
to agree on is decided by the first. Where no process group was initialised, there is one process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_T = TypeVar("_T")


def size() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if size() > 1 else 0


def of_first(compute: Callable[[], _T]) -> _T:
    """Return what the first process computes; the others wait for it."""
    if size() == 1:
        return compute()
    held = [compute() if rank() == 0 else None]
    distributed.broadcast_object_list(held, 0)
    return held[0]  # type: ignore[return-value]


class Backward:
    """The backward pass of a batch: in one process all of it, in several of them a share, and then the mean of all.

    Args:
        loss: of some examples, added up; its gradients are those of `weights`, which become the first process's.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor], weights: list[nn.Parameter]) -> None:
        self._loss, self._device = loss, weights[0].device
        self._parallel: DistributedDataParallel | None = None
        if size() > 1:
            # Each waits for all gradients, and no loss reaches some weights, as those of a pooling layer that nothing
            # reads: one example shows which.
            loss(torch.zeros(1, dtype=torch.int64)).backward()
            reached = [weight for weight in weights if weight.grad is not None]
            for weight in reached:
                weight.grad = None
            self._parallel = DistributedDataParallel(_Loss(loss, reached))

    def share(self, rows: Tensor) -> Tensor:
        """Return which examples of a batch this process takes."""
        return rows[rank() :: size()]

    def __call__(self, portions: list[Tensor], weight_of_batch: float, others: Tensor) -> float:
        """Add the gradients of the mean loss of a batch to the weights; return that loss.

        Args:
            portions: of this process's share, which pass one after the other; none where it is empty.
            weight_of_batch: what the losses of all shares together are divided by.
            others: examples of the whole batch, for a process with an empty share.
        """
        if self._parallel is None:
            return sum(self._passed(self._loss(rows) / weight_of_batch) for rows in portions)
        factor = size() / weight_of_batch  # gradients are averaged, and shares add up
        if not portions:
            portions, factor = [others[:1]], 0.0
        loss = 0.0
        for rows in portions:
            # They meet in the last one's backward pass, while that is still going on.
            with nullcontext() if rows is portions[-1] else self._parallel.no_sync():
                loss += self._passed(self._parallel(rows) * factor)
        mean = torch.tensor(loss / size(), device=self._device)
        distributed.all_reduce(mean)
        return mean.item()

    @staticmethod
    def _passed(loss: Tensor) -> float:
        loss.backward()
        return loss.item()


class _Loss(nn.Module):
    """What DistributedDataParallel takes for a network: its output is a loss."""

    def __init__(self, loss: Callable[[Tensor], Tensor], weights: list[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        self._loss = loss

    def forward(self, rows: Tensor) -> Tensor:
        return self._loss(rows)
