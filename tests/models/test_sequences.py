"""Ragged sequences."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from rehead.models.sequences import Ragged

sequences = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=12), min_size=1, max_size=8)


@given(sequences, st.data())
def test_taken_rows_come_in_the_order_asked_for(lists: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    taken = Ragged.from_lists(lists).take(torch.tensor(rows, dtype=torch.int64))
    bounds = taken.offsets.tolist()
    assert [taken.values[a:b].tolist() for a, b in pairwise(bounds)] == [lists[r] for r in rows]
