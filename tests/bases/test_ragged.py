"""Ragged sequences: padding and back loses nothing."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from rehead.bases.ragged import Ragged

sequences = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=12), min_size=1, max_size=8)


@given(sequences, st.randoms())
def test_padded_rows_hold_the_sequences_and_the_mask_their_lengths(lists: list[list[int]], random: object) -> None:
    rows = torch.randperm(len(lists))
    batch, mask = Ragged.from_lists(lists).padded(rows, fill=-1)
    for values, real, row in zip(batch, mask.bool(), rows.tolist(), strict=True):
        assert values[real].tolist() == lists[row]
        assert (values[~real] == -1).all()


@given(sequences)
def test_what_is_written_is_read_back(lists: list[list[int]]) -> None:
    source = Ragged.from_lists(lists)
    target = Ragged(torch.zeros_like(source.values), source.offsets)
    order = torch.arange(len(lists)).flip(0)
    target.write(order, source.padded(order)[0])
    assert torch.equal(target.values, source.values)


@given(sequences, st.data())
def test_taken_rows_come_in_the_order_asked_for(lists: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    taken = Ragged.from_lists(lists).take(torch.tensor(rows, dtype=torch.int64))
    bounds = taken.offsets.tolist()
    assert [taken.values[a:b].tolist() for a, b in pairwise(bounds)] == [lists[r] for r in rows]
