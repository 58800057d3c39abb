"""The clock that keeps hot rows, against its invariants and a plain replay; records against NumPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.slots import MOST_USES, place_rows, read_records

ROWS, SLOTS = 12, 5


def replay(steps: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The same policy on Python lists: who stands where at the end, and who left at each step."""
    rows, used, uses, hand, gone = [-1] * SLOTS, [-1] * SLOTS, [0] * SLOTS, 0, []
    for now, wanted in enumerate(steps):
        for row in wanted:
            if row in rows:
                used[rows.index(row)] = now
                uses[rows.index(row)] = min(uses[rows.index(row)] + 1, MOST_USES)
        left = []
        for row in [row for row in wanted if row not in rows]:
            while used[hand] == now or uses[hand]:
                uses[hand] -= used[hand] != now
                hand = (hand + 1) % SLOTS
            left.append(rows[hand])
            rows[hand], used[hand] = row, now
        gone.append(left)
    return rows, gone


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, ROWS - 1), unique=True, max_size=SLOTS), max_size=30))
def test_rows_come_and_go_as_in_a_plain_replay(steps: list[list[int]]) -> None:
    slot_of_row, row_of_slot = np.full(ROWS, -1, np.int32), np.full(SLOTS, -1, np.int32)
    used, uses, hand = np.full(SLOTS, -1, np.int64), np.zeros(SLOTS, np.uint8), 0
    gone = []
    for now, wanted in enumerate(steps):
        rows = np.asarray(wanted, np.int32)
        here = slot_of_row[rows] >= 0
        slots, came, left, hand = place_rows(rows, slot_of_row, row_of_slot, used, uses, now, hand)
        np.testing.assert_array_equal(came, np.flatnonzero(~here))
        np.testing.assert_array_equal(row_of_slot[slots], rows)
        taken = np.flatnonzero(row_of_slot >= 0)
        np.testing.assert_array_equal(slot_of_row[row_of_slot[taken]], taken)
        assert (slot_of_row >= 0).sum() == len(taken)
        gone.append(left.tolist())
    expected_rows, expected_gone = replay(steps)
    assert row_of_slot.tolist() == expected_rows
    assert gone == expected_gone


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 3))
def test_records_are_read_from_their_place_in_the_page(width: int, per_page: int, padding: int) -> None:
    random = np.random.default_rng(width)
    pages = random.standard_normal((9, width * per_page + padding), dtype=np.float32)
    records = random.integers(0, 9 * per_page, 20).astype(np.int32)
    out = np.empty((20, width), np.float32)
    read_records(pages, per_page, records, out)
    whole = pages[:, : width * per_page].reshape(-1, width)
    np.testing.assert_array_equal(out, whole[records])
