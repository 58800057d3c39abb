"""Jagged against lists of lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrec.core.jagged import Jagged

rows = st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=8)


def lists(jagged):
    return [row.tolist() for row in jagged]


@given(rows)
def test_rows_come_back(given_rows):
    jagged = Jagged.from_rows(given_rows)
    assert lists(jagged) == given_rows
    assert len(jagged) == len(given_rows)
    assert jagged.lengths.tolist() == [len(row) for row in given_rows]
    assert jagged.row_of().tolist() == [i for i, row in enumerate(given_rows) for _ in row]


@given(rows, st.data())
def test_take_slice_last_where(given_rows, data):
    jagged = Jagged.from_rows(given_rows)
    if given_rows:
        picked = data.draw(st.lists(st.integers(0, len(given_rows) - 1)))
        assert lists(jagged.take(np.array(picked, dtype=np.int64))) == [given_rows[i] for i in picked]
    low = data.draw(st.integers(0, len(given_rows)))
    high = data.draw(st.integers(low, len(given_rows)))
    assert lists(jagged.slice(low, high)) == given_rows[low:high]
    count = data.draw(st.integers(1, 4))
    assert lists(jagged.last(count)) == [row[-count:] for row in given_rows]
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(jagged.values), max_size=len(jagged.values))), bool)
    flags = iter(mask.tolist())
    assert lists(jagged.where(mask)) == [[v for v in row if next(flags)] for row in given_rows]


def test_a_row_that_is_not_there():
    jagged = Jagged.from_rows([[1], []])
    assert jagged[-1].tolist() == []
    with pytest.raises(IndexError):
        jagged[2]


def test_offsets_must_fit():
    with pytest.raises(AssertionError):
        Jagged(np.zeros(2, np.int32), np.array([0, 3]))
