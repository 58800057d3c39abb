"""Packing windows into rows: every token once, nothing overlaps, rows nearly full."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.packing import deal, deal_reference, pack_windows


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=80))
def test_windows_do_not_overlap_and_fit(lengths: list[int]) -> None:
    sizes = np.asarray(lengths, np.int64)
    row, start, rows = pack_windows(sizes, 12)
    taken = np.zeros((rows, 12), np.int64)
    for r, s, n in zip(row, start, sizes, strict=True):
        assert s + n <= 12
        taken[r, s : s + n] += 1
    assert taken.max() == 1
    assert taken.sum() == sizes.sum()
    assert (taken.sum(axis=1) > 0).all()


def test_rows_are_nearly_full() -> None:
    sizes = np.random.default_rng(0).integers(1, 30, 500)
    _, _, rows = pack_windows(sizes, 50)
    assert sizes.sum() / (rows * 50) > 0.97


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 5))
def test_rows_are_dealt_as_the_reference_deals_them(loads: list[int], world: int) -> None:
    load = np.asarray(loads, np.int64)
    order = np.argsort(-load, kind="stable")
    fast, plain = np.full(len(load), -1), np.full(len(load), -1)
    deal(order, load, world, fast)
    deal_reference(order, load, world, plain)
    np.testing.assert_array_equal(fast, plain)
