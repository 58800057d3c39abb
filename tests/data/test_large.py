"""The way of logs that do not fit in memory gives what the way of small ones gives, and leaves nothing behind."""

import os
from collections import namedtuple

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import InputError, StorageError
from leanrec.data import ingest, labels, log, numbering, order, scratch
from leanrec.data.prepare import prepare
from tests.data.logs import frame

quick = settings(deadline=None, max_examples=60)

USERS, ITEMS = st.integers(0, 8), st.integers(0, 9)
ROWS = st.lists(
    st.tuples(
        st.one_of(USERS, st.none()), ITEMS, st.one_of(st.integers(0, 12), st.none()), st.integers(0, 5),
        st.sampled_from([1.0, 2.0, None]), st.sampled_from(["train", "test"]),
    ),
    min_size=1, max_size=120,
)  # fmt: skip
IDS = st.sampled_from(["small", "wide", "growing", "text"])


def name(kind, role, number):
    if number is None:
        return None
    if kind == "text":
        return f"{role}{number}"
    return {"small": number + 5, "wide": number * 10**15 - 4, "growing": number**12 - 7}[kind]


def table(rows, kind):
    users, items, times, order_by, values, split = zip(*rows, strict=True)
    return pl.DataFrame(
        {
            "user_id": pl.Series([name(kind, "u", u) for u in users], dtype=pl.String if kind == "text" else pl.Int64),
            "item_id": [name(kind, "i", i) for i in items],
            "timestamp": pl.Series([None if t is None else 1e6 + t * 50_000 for t in times], dtype=pl.Float64),
            "pos": order_by,
            "value": pl.Series(values, dtype=pl.Float64),
            "split": split,
        }
    )


def by_hand(rows, kind):
    """user id -> [(item id, time, value)], oldest first, ties by `pos`, then by row."""
    found = {}
    ordered = sorted((row for row in rows if row[0] is not None and row[2] is not None), key=lambda r: (r[2], r[3]))
    for user, item, time, _, value, _ in ordered:
        found.setdefault(name(kind, "u", user), []).append((name(kind, "i", item), 1e6 + time * 50_000, value))
    return found


def outcome(frame, **options):
    """The data set, or why there is none."""
    try:
        return prepare(frame, **options)
    except InputError as error:
        return str(error)


def in_tiny_steps(frame, folder, **options):
    """The outcome with every loop in pieces of a few events, every array on the disk, every kernel compiled."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (numbering, order, log):
            patch.setattr(module, "COMPILED_FROM", 0)
        patch.setattr(ingest, "_BATCH", 7)
        patch.setattr(log, "BLOCK_EVENTS", 6)
        patch.setattr(scratch, "MEMORY", 100)
        return outcome(frame, out=folder / "data", **options)


@pytest.mark.parametrize("split", ["leave-one-out", "time:0.6,0.2,0.2"])
def test_sequences_are_those_of_plain_python(tmp_path_factory, split):
    @quick
    @given(ROWS, IDS)
    def check(rows, kind):
        folder = tmp_path_factory.mktemp("large")
        data = in_tiny_steps(table(rows, kind), folder, order_by="pos", split=split)
        if isinstance(data, str):
            return
        expected = by_hand(rows, kind)
        assert data.users.ids() == sorted(expected)
        events = data.interactions
        for row, user in enumerate(data.users.ids()):
            low, high = events.items.offsets[row : row + 2]
            items, times, values = zip(*expected[user], strict=True)
            assert data.items.ids(events.items.values[low:high]) == list(items)
            assert events.times[low:high].tolist() == list(times)
            assert np.array_equal(events.values[low:high], np.array(values, np.float32), equal_nan=True)
        assert sorted(p.name for p in folder.iterdir()) == ["data"]

    check()


@pytest.mark.parametrize(
    "split", ["leave-one-out", "time:0.6,0.2,0.2", "ratio:0.6,0.2,0.2", "users:0.4,0.3,0.3", "random", "column:split"]
)
def test_both_ways_agree_in_everything(tmp_path_factory, split):
    @quick
    @given(ROWS, IDS, st.sampled_from([{}, {"min_count": 2}, {"drop": ["duplicates", "bots"]}]))
    def check(rows, kind, options):
        frame = table(rows, kind)
        plain = outcome(frame, split=split, **options)
        large = in_tiny_steps(frame, tmp_path_factory.mktemp("large"), split=split, **options)
        if isinstance(plain, str):
            assert large == plain
        else:
            assert large.fingerprint == plain.fingerprint
            assert large.report == plain.report

    check()


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=50), st.data())
def test_the_nth_smallest_is_that_of_a_sort(times, data):
    nth = data.draw(st.integers(0, len(times) - 1))
    array = np.array([-0.0, *times])
    assert labels.nth_smallest(array, nth, 7) == np.sort(array)[nth]


def test_a_disk_too_small_is_refused_before_it_is_filled(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(scratch.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    monkeypatch.setattr(scratch, "MEMORY", 100)
    log_file = tmp_path / "log.parquet"
    frame([(n % 7, n % 5, n) for n in range(1000)]).write_parquet(log_file)
    with pytest.raises(StorageError, match=r"has 0.0 GB to spare and these events need 0.0 GB: free some"):
        prepare(log_file, out=tmp_path / "data")
    assert os.listdir(tmp_path) == ["log.parquet"]
