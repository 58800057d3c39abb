"""Splits: nothing known at test time comes from the test, and every share is what it says."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from leanrec.core.errors import InputError
from leanrec.core.ids import Vocabulary
from leanrec.data.prepare import prepare
from leanrec.data.split import CONTEXT, TEST, TRAIN, VALID, certifying, stable_uniform
from tests.data.logs import LOGS, frame, histories

SPLITS = ["leave-one-out", "time:0.6,0.2,0.2", "ratio:0.6,0.2,0.2", "users:0.4,0.3,0.3", "random:0.6,0.2,0.2"]
quick = settings(deadline=None, max_examples=40)


def prepared(log, split, **options):
    """The data set, None where too many events share a moment to cut them by time."""
    try:
        return prepare(frame(log), split=split, **options)
    except InputError as error:
        if "leaves nothing to train on" not in str(error):
            raise
        return None


@pytest.mark.parametrize("split", SPLITS)
@quick
@given(log=LOGS)
def test_nothing_leaks(split, log):
    data = prepared(log, split, repeats=True)
    if data is None:
        return
    events, labels = data.interactions.items, data.interactions.split
    assert len(data.train().values) + (labels != TRAIN).sum() == len(log)
    for on, label in (("valid", VALID), ("test", TEST)):
        cases = data.cases(on)
        for user, history, targets in zip(cases.users, cases.histories, cases.targets, strict=True):
            low, high = events.offsets[user], events.offsets[user + 1]
            mine = labels[low:high]
            held = np.flatnonzero(mine == label)
            assert len(held)
            assert sorted(targets) == sorted(set(events[user][held].tolist()))
            if split.startswith("random"):
                continue
            before = mine[: held[0]]
            assert history.tolist() == events[user][: held[0]][before != label].tolist()
            assert (mine[: held[0]] != TEST).all() or on == "valid"
            if data.interactions.times is not None:
                times = data.interactions.times[low:high]
                assert (times[: len(history)] <= times[held[0]]).all()


@quick
@given(LOGS)
def test_leave_one_out_by_hand(log):
    data = prepare(frame(log), repeats=True)
    by_hand = histories(log)
    cases = data.cases("test")
    assert data.users.ids(cases.users) == sorted(user for user, events in by_hand.items() if len(events) >= 3)
    for user, history, target in zip(data.users.ids(cases.users), cases.histories, cases.targets, strict=True):
        items = [item for _, item in by_hand[user]]
        assert data.items.ids(history) == items[:-1]
        assert data.items.ids(target) == items[-1:]
    for user, row in zip(data.users.ids(), data.train(), strict=True):
        items = [item for _, item in by_hand[user]]
        assert data.items.ids(row) == (items[:-2] if len(items) >= 3 else items)
    for user, row in zip(data.users.ids(), data.train(refit=True), strict=True):
        items = [item for _, item in by_hand[user]]
        assert data.items.ids(row) == (items[:-1] if len(items) >= 3 else items)


@quick
@given(LOGS)
def test_time_cuts_all_users_at_the_same_moments(log):
    data = prepared(log, "time:0.6,0.2,0.2")
    if data is None:
        return
    times, labels = data.interactions.times, data.interactions.split
    moments = {label: times[labels == label] for label in (TRAIN, VALID, TEST)}
    latest = -np.inf
    for label in (TRAIN, VALID, TEST):
        if len(moments[label]):
            assert moments[label].min() > latest
            latest = moments[label].max()


@quick
@given(LOGS)
def test_targets_in_the_history_do_not_count_unless_they_may_repeat(log):
    data = prepare(frame(log), split="ratio:0.5,0,0.5", repeats=False)
    every = data.cases("test", include_seen=True)
    fresh = data.cases("test")
    expected = {}
    for user, history, targets in zip(every.users, every.histories, every.targets, strict=True):
        left = [t for t in targets.tolist() if t not in history.tolist()]
        if left:
            expected[int(user)] = left
    assert {int(u): t.tolist() for u, t in zip(fresh.users, fresh.targets, strict=True)} == expected


def test_held_out_users_train_nothing():
    log = [(u, i, i) for u in range(200) for i in range(3)]
    data = prepare(frame(log), split="users:0.5,0.25,0.25", repeats=False)
    held = np.flatnonzero(data.train().lengths == 0)
    assert 60 < len(held) < 140
    assert (data.train(refit=True).lengths[held] <= 1).all()
    assert len(data.cases("test")) + len(data.cases("valid")) == len(held)
    labels = data.interactions.split
    assert set(np.unique(labels)) == {TRAIN, VALID, TEST, CONTEXT}
    assert (data.cases("test").histories.lengths == 2).all()


def test_ratio_shares():
    data = prepare(frame([(0, i % 10, i) for i in range(20)]), split="ratio:0.8,0.1,0.1")
    assert np.bincount(data.interactions.split).tolist() == [16, 2, 2]
    assert data.interactions.split.tolist() == [TRAIN] * 16 + [VALID] * 2 + [TEST] * 2


@pytest.mark.parametrize("ordered", [True, False])
def test_a_given_column_draws_its_validation(ordered):
    log = pl.DataFrame(
        {
            "user_id": [u for u in range(300) for _ in range(12)],
            "item_id": [(u * 7 + i) % 50 for u in range(300) for i in range(12)],
            "fold": ["train"] * 3600,
        }
    ).with_columns(fold=pl.when(pl.int_range(3600) % 12 >= 10).then(pl.lit("test")).otherwise(pl.lit("Train")))
    if ordered:
        log = log.with_columns(timestamp=pl.int_range(3600))
    data = prepare(log, split="column:fold")
    assert data.protocol.drawn_valid
    assert data.protocol.ordered == ordered
    assert np.bincount(data.interactions.split).tolist() == [2700, 300, 600]
    assert (data.cases("test").histories.lengths == 10).all()
    drawn = [row.tolist().index(VALID) for row in np.split(data.interactions.split, 300)]
    assert (set(drawn) == {9}) == ordered
    again = prepare(log.sample(fraction=1, shuffle=True, seed=3) if ordered else log, split="column:fold")
    assert again.fingerprint == data.fingerprint
    assert prepare(log, split="column:fold", seed=1).fingerprint != data.fingerprint


def test_a_given_column_with_validation_is_taken_as_it_is():
    log = pl.DataFrame({"user_id": [1] * 3, "item_id": [1, 2, 3], "fold": ["train", "valid", "test"]})
    data = prepare(log, split="column:fold")
    assert not data.protocol.drawn_valid
    assert data.interactions.split.tolist() == [TRAIN, VALID, TEST]
    with pytest.raises(InputError, match=r"row 2: 'dev set' in the column 'fold' is none of train, valid, test"):
        prepare(log.with_columns(fold=pl.Series(["train", "dev set", "test"])), split="column:fold")
    with pytest.raises(InputError, match="no row says 'train'"):
        prepare(log.with_columns(fold=pl.lit("test")), split="column:fold")


@pytest.mark.parametrize("make", [lambda n: list(range(n)), lambda n: [f"user-{i}" for i in range(n)]])
def test_the_partition_depends_on_id_and_seed_alone(make):
    ids = make(4000)
    chosen = certifying(Vocabulary(ids), 0.5, 0)
    assert 0.45 < chosen.mean() < 0.55
    backwards = certifying(Vocabulary(ids[::-1]), 0.5, 0)
    assert np.array_equal(chosen, backwards[::-1])
    fewer = certifying(Vocabulary(ids[100:200]), 0.5, 0)
    assert np.array_equal(chosen[100:200], fewer)
    other = certifying(Vocabulary(ids), 0.5, 1)
    assert 0.45 < (chosen == other).mean() < 0.55
    assert not certifying(Vocabulary(ids), 0.0, 0).any()
    assert certifying(Vocabulary(ids), 1.0, 0).all()


def test_stable_numbers_are_golden():
    """A change here would move users between tuning and certifying: it needs a new data format."""
    assert stable_uniform(Vocabulary([0, 1, 2**62]), 0, "certify").round(6).tolist() == GOLDEN_NUMBERS
    assert stable_uniform(Vocabulary(["", "a", "ab", "ba"]), 0, "certify").round(6).tolist() == GOLDEN_TEXTS


GOLDEN_NUMBERS = [0.79014, 0.581148, 0.399446]
GOLDEN_TEXTS = [0.79014, 0.760823, 0.073383, 0.455207]
