"""Preparation against plain Python, and what it promises about order, cores, filters and repeats."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import InputError
from leanrec.data.prepare import prepare
from tests.data.logs import LOGS, decoded, frame, histories

quick = settings(deadline=None, max_examples=60)


@quick
@given(LOGS, st.booleans())
def test_sequences_are_those_of_plain_python(log, text):
    data = prepare(frame(log, text=text), repeats=True)
    expected = {
        (f"u{user}" if text else user): [(f"i{item}" if text else item) for _, item in events]
        for user, events in histories(log).items()
    }
    assert decoded(data, data.interactions.items) == expected
    assert data.users.ids() == sorted(expected)


@quick
@given(LOGS)
def test_min_count_is_the_largest_core(log):
    minimum = 2
    alive = list(log)
    while True:
        kept = [
            row
            for row in alive
            if sum(r[0] == row[0] for r in alive) >= minimum and sum(r[1] == row[1] for r in alive) >= minimum
        ]
        if len(kept) == len(alive):
            break
        alive = kept
    if not alive:
        with pytest.raises(InputError, match="nothing is left with min_count=2"):
            prepare(frame(log), min_count=minimum)
        return
    data = prepare(frame(log), min_count=minimum, repeats=True)
    expected = {user: [item for _, item in events] for user, events in histories(alive).items()}
    assert decoded(data, data.interactions.items) == expected
    assert data.report.dropped.get("user or item with fewer than 2 events (1 rounds)", 0) <= len(log) - len(alive)
    assert sum(data.report.dropped.values()) == len(log) - len(alive)


def table(**columns):
    return pl.DataFrame(columns)


def items_of(data, user):
    return data.items.ids(data.interactions.items[data.users.row(user)])


def test_ties_go_by_the_order_column_then_by_position():
    log = table(user_id=[1] * 4, item_id=[10, 11, 12, 13], timestamp=[5, 5, 5, 1], pos=[2, 1, 1, 9])
    assert items_of(prepare(log), 1) == [13, 10, 11, 12]
    assert items_of(prepare(log, order_by="pos"), 1) == [13, 11, 12, 10]
    assert items_of(prepare(log.drop("timestamp"), order_by="pos"), 1) == [11, 12, 10, 13]


def test_large_order_keys_are_not_rounded():
    big = 2**60
    log = table(user_id=[1, 1, 1], item_id=[1, 2, 3], order=[big + 2, big + 1, big])
    assert items_of(prepare(log, order_by="order"), 1) == [3, 2, 1]


def test_without_order_only_splits_that_need_none():
    log = table(user_id=[1, 1, 2, 2], item_id=[1, 2, 1, 2])
    for split in ("leave-one-out", "ratio:0.8,0.1,0.1", "users:0.8,0.1,0.1"):
        with pytest.raises(InputError, match=r"needs the order of events.*--time-col or --order-by"):
            prepare(log, split=split)
    with pytest.raises(InputError, match="needs times"):
        prepare(log.with_columns(pos=pl.int_range(4)), split="time:0.8,0.1,0.1", order_by="pos")
    assert not prepare(log, split="random:0.5,0,0.5").protocol.ordered


def test_positive_keeps_what_it_says():
    log = table(
        user_id=[1] * 5, item_id=[1, 2, 3, 4, 5], timestamp=range(5), rating=[1.0, 4.0, None, 5.0, float("nan")]
    )
    data = prepare(log, positive="rating>=4")
    assert items_of(data, 1) == [2, 4]
    assert data.report.dropped == {"not rating>=4": 3}
    assert data.interactions.values.tolist() == [4.0, 5.0]
    for op, kept in {"<2": [1], "=4": [2], "!=4": [1, 4], "<=4": [1, 2], ">4": [4]}.items():
        assert items_of(prepare(log, positive=f"rating {op}"), 1) == kept


@pytest.mark.parametrize("text", ["rating", ">=4", "rating>=four", "rating>=4; import os", "__import__('os')>=1", ""])
def test_positive_is_no_program(text):
    log = table(user_id=[1], item_id=[1], timestamp=[1], rating=[5])
    if text:
        with pytest.raises(InputError, match="'column op number'"):
            prepare(log, positive=text)
    with pytest.raises(InputError, match=r"no column 'ratin'.*did you mean 'rating'"):
        prepare(log, positive="ratin>=4")


def test_duplicates_are_counted_and_dropped_on_request():
    log = table(user_id=[1, 1, 1, 1], item_id=[7, 7, 7, 8], timestamp=[1, 1, 2, 3])
    kept = prepare(log)
    assert kept.report.duplicates == 1
    assert kept.report.repeat_share == pytest.approx(1 / 3)
    assert items_of(kept, 1) == [7, 7, 7, 8]
    dropped = prepare(log, drop={"duplicates"})
    assert items_of(dropped, 1) == [7, 7, 8]
    assert dropped.report.dropped == {"duplicate of an earlier row": 1}


def test_bots_are_counted_and_dropped_on_request():
    people = np.repeat(np.arange(50), 20)
    log = pl.concat(
        [
            table(user_id=people, item_id=np.arange(1000) % 30, timestamp=np.arange(1000) * 3600.0),
            table(user_id=np.full(3000, 99), item_id=np.arange(3000) % 30, timestamp=np.arange(3000.0)),
        ]
    )
    kept = prepare(log)
    assert (kept.report.bots.users, kept.report.bots.events, kept.report.bots.dropped) == (1, 3000, False)
    assert kept.report.bots.threshold == 1000
    assert "suspected bots, kept" in str(kept.report)
    dropped = prepare(log, drop=["bots"])
    assert dropped.users.row(99) == -1
    assert dropped.report.dropped == {"from a suspected bot": 3000}


def test_repeats_are_guessed_or_given():
    once = table(user_id=[1, 1, 2], item_id=[1, 2, 1], timestamp=[1, 2, 3])
    again = table(user_id=[1, 1, 2], item_id=[1, 1, 1], timestamp=[1, 2, 3])
    assert not prepare(once).protocol.repeats
    assert prepare(again).protocol.repeats
    assert "33.3 % of events" in str(prepare(again).report)
    assert not prepare(again, repeats="excluded").protocol.repeats
    assert prepare(once, repeats=True).protocol.repeats


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": ["bot"]}, "did you mean 'bots'"),
        ({"min_count": -1}, "must not be negative"),
        ({"certify": 1.5}, "between 0 and 1"),
        ({"repeats": "allow"}, "did you mean 'allowed'"),
        ({"split": "leave-one"}, "did you mean 'leave-one-out'"),
        ({"split": "time:0.8,0.2"}, "three shares"),
        ({"split": "time:0.8,0.3,0.1"}, "sum to 1"),
        ({"split": "column:"}, "column:NAME"),
        ({"split": "column:fold"}, "no column 'fold'"),
        ({"item_col": "user_id"}, "cannot hold both"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InputError, match=message):
        prepare(table(user_id=[1], item_id=[1], timestamp=[1]), **options)


def test_attributes_are_aligned_to_rows():
    log = table(user_id=["u", "v"], item_id=["b", "a"], timestamp=[1, 2])
    items = table(item_id=["z", "b", "b"], title=["Z", "B", "other"], categories=["x|y", "x|y", "q"])
    data = prepare(log, items=items, users=table(user_id=["u"], age=[30]))
    assert data.attributes.columns[0] == "item_id"
    assert data.attributes.rows() == [("a", None, None), ("b", "B", ["x", "y"])]
    assert data.user_attributes.rows() == [("u", 30), ("v", None)]
    assert any("1 rows repeat an id" in note for note in data.report.notes)
    assert any("1 of 2 items have no row" in note for note in data.report.notes)


def test_attributes_of_another_catalogue_are_refused():
    log = table(user_id=[1], item_id=[1], timestamp=[1])
    with pytest.raises(InputError, match="none of its 1 item ids"):
        prepare(log, items=table(item_id=[2], title=["x"]))
    with pytest.raises(InputError, match="no column 'item_id'"):
        prepare(log, items=table(title=["x"]))


def test_attribute_tables_in_other_shapes(tmp_path):
    log = table(user_id=[1, 2], item_id=[7, 8], timestamp=[1, 2])
    assert prepare(log, items=table(item_id=[], title=[])).attributes is None
    films = table(movieId=[7.5, 7.0, float("nan"), 8.0], item_id=["v", "x", "y", "z"], title=["o", "a", "b", "c"])
    floats = prepare(log.rename({"item_id": "movieId"}), items=films)
    assert floats.attributes.rows() == [(7, "a"), (8, "c")]
    file = tmp_path / "items.csv"
    file.write_text("item_id,title,code\n7,a,007\n8,b,008\n")
    assert prepare(log, items=file).attributes.rows() == [(7, "a", "007"), (8, "b", "008")]


def test_order_by_a_date():
    import datetime as dt

    log = table(user_id=[1, 1], item_id=[1, 2], when=[dt.datetime(2020, 1, 2), dt.datetime(2020, 1, 1)])
    assert items_of(prepare(log, order_by="when"), 1) == [2, 1]


def test_the_report_says_what_happened():
    log = table(user_id=[1, 1, 1, None], item_id=[1, 1, 2, 3], timestamp=["1", "1", "2", "3"])
    text = str(prepare(log, drop=["duplicates"]).report)
    assert "read 4 rows of the frame" in text
    assert "dropped 1: no user_id" in text
    assert "repaired 4: timestamp came as text, read as numbers" in text
    assert "1 duplicates (same user, item and time), dropped" in text
    assert "kept 2 events of 1 users on 2 items" in text


def test_attribute_ids_follow_the_type_of_the_events():
    numbers = prepare(table(user_id=[1], item_id=[7], timestamp=[1]), items=table(item_id=["7"], title=["x"]))
    assert numbers.attributes.rows() == [(7, "x")]
    texts = prepare(table(user_id=[1], item_id=["7"], timestamp=[1]), items=table(item_id=[7], title=["x"]))
    assert texts.attributes.rows() == [("7", "x")]


def test_a_folder_brings_its_tables(tmp_path):
    table(user_id=[1], item_id=[1], timestamp=[1]).write_parquet(tmp_path / "interactions.parquet")
    table(item_id=[1], title=["x"]).write_parquet(tmp_path / "items.parquet")
    data = prepare(tmp_path)
    assert data.attributes.rows() == [(1, "x")]
    assert data.name == tmp_path.name
