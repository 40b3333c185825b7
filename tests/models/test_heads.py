"""What the linear layer of a head sees."""

import pytest
import torch
from torch import nn

from rehead.models import heads
from rehead.models.heads import Head, MeansAtOneLength


@pytest.mark.parametrize(
    "projection",
    [nn.Identity(), MeansAtOneLength(["cls", "mean"]), nn.Sequential(nn.Linear(8, 5), nn.Tanh())],
    ids=["none", "means at one length", "a family's own"],
)
@pytest.mark.parametrize("n", [0, 1, 9, 10])
def test_portions_of_what_is_seen_change_nothing(
    projection: nn.Module, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "_PORTION", 3)
    pooled = torch.randn(n, 8, generator=torch.Generator().manual_seed(n))
    with torch.no_grad():
        expected = projection(pooled)
    head = Head("both", [1], projection, nn.Linear(expected.shape[1], 2))
    seen = torch.from_numpy(head.seen_by_linear(pooled))
    torch.testing.assert_close(seen, expected)
    with torch.no_grad():
        torch.testing.assert_close(head(pooled), head.linear(seen))
