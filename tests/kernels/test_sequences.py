"""The loops that make sequences, compiled and in NumPy, against Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.kernels.sequences import (
    REPEAT,
    TWICE,
    active_days,
    active_days_reference,
    group_rows,
    group_rows_reference,
    mark_seen,
    mark_seen_reference,
    sort_inside,
    sort_inside_reference,
    spread,
    spread_reference,
)

USERS, ITEMS = 4, 5
logs = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 6)), max_size=60)


def columns(log):
    users = np.array([u for u, _, _ in log], dtype=np.int32)
    offsets = np.zeros(USERS + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=USERS), out=offsets[1:])
    items = np.array([i for _, i, _ in log], dtype=np.int32)
    return users, items, np.array([t for _, _, t in log], dtype=np.float64), offsets


def mark_from_new(items, offsets, times):
    """In two calls, as the blocks of a log are."""
    owner_of, time_of = np.full(ITEMS, -1, np.int32), np.empty(ITEMS)
    middle = offsets[2]
    marks = [mark_seen(items[:middle], offsets[:3], times[:middle], 0, owner_of, time_of)]
    marks.append(mark_seen(items[middle:], offsets[2:] - middle, times[middle:], 2, owner_of, time_of))
    return np.concatenate(marks)


@pytest.mark.parametrize(
    ("group", "sort", "mark"),
    [(group_rows, sort_inside, mark_from_new), (group_rows_reference, sort_inside_reference, mark_seen_reference)],
    ids=["compiled", "numpy"],
)
@given(log=logs)
@settings(deadline=None)
def test_sequences_as_python_makes_them(group, sort, mark, log):
    users, items, times, offsets = columns(log)
    places = np.empty(len(log), dtype=np.int32)
    group(users, offsets, places)
    sort(times, offsets, places)
    expected = sorted(range(len(log)), key=lambda at: (log[at][0], log[at][2], at))
    assert places.tolist() == expected
    seen: dict[tuple[int, int], set[float]] = {}
    marks = []
    for at in expected:
        user, item, moment = log[at]
        before = seen.setdefault((user, item), set())
        marks.append(TWICE if moment in before else REPEAT if before else 0)
        before.add(moment)
    assert mark(items[places], offsets, times[places]).tolist() == marks


@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_long_groups_stay_stable(dtype):
    random = np.random.default_rng(0)
    keys = random.integers(0, 40, 5_000).astype(dtype)
    offsets = np.array([0, 3_000, 3_000, 3_001, 5_000])
    compiled, plain = np.arange(5_000, dtype=np.int32), np.arange(5_000, dtype=np.int32)
    sort_inside(keys, offsets, compiled)
    sort_inside_reference(keys, offsets, plain)
    assert np.array_equal(compiled, plain)


@pytest.mark.parametrize("count", [active_days, active_days_reference], ids=["compiled", "numpy"])
@given(log=logs)
@settings(deadline=None)
def test_active_days(count, log):
    log = sorted((user, item, time) for user, item, time in log)
    users, _, _, offsets = columns(log)
    times = np.array([time * 43_200.0 for _, _, time in sorted(log, key=lambda row: (row[0], row[2]))])
    expected = [len({time // 2 for owner, _, time in log if owner == user}) for user in range(USERS)]
    assert count(times, offsets).tolist() == expected
    assert len(users) == len(times)


@given(owners=st.lists(st.integers(0, 5), max_size=60))
@settings(deadline=None)
def test_spreading_keeps_the_order_of_each_owner(owners):
    owner = np.array(owners, dtype=np.int32)
    counts = np.bincount(owner, minlength=6)
    expected = np.empty(len(owner), np.int64)
    expected[np.argsort(owner, kind="stable")] = np.arange(len(owner))
    for place in (spread, spread_reference):
        free, places = np.cumsum(counts) - counts, np.empty(len(owner), np.int64)
        place(owner[:20], free, places[:20])
        place(owner[20:], free, places[20:])
        assert np.array_equal(places, expected)
        assert np.array_equal(free, np.cumsum(counts))
