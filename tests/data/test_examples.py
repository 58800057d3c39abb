"""Labelled rows of a data set: labels, parts and histories as a plain reading of the events gives them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.data.examples.base import PARTS
from leanrec.data.examples.events import examples_of, sample_events
from leanrec.data.prepare import prepare

LABEL = {"train": 0, "valid": 1, "test": 2}


def log(count=300, users=12, items=20, seed=0):
    rng = np.random.default_rng(seed)
    value = rng.integers(1, 6, count).astype(float)
    value[::17] = np.nan
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, users, count),
            "item_id": rng.integers(0, items, count),
            "timestamp": 1e9 + np.sort(rng.integers(0, 10_000, count)),
            "value": value,
        }
    )


def world(**options):
    items = pl.DataFrame({"item_id": range(20), "colour": ["red", "blue"] * 10, "age": range(20)})
    users = pl.DataFrame({"user_id": range(12), "age": range(12)})
    return prepare(log(), items=items, users=users, **{"split": "time:0.8,0.1,0.1", **options})


def rows_of(examples, part, **options):
    return pl.concat(list(examples.batches(part, 7, **options)))


@pytest.mark.parametrize("split", ["time:0.8,0.1,0.1", "leave-one-out", "users:0.6,0.2,0.2", "random:0.8,0.1,0.1"])
def test_every_event_with_a_value_is_a_row_of_its_part_with_what_was_before_it(split):
    data = world(split=split)
    examples = examples_of(data, "value>=4", history=3)
    events, values = data.interactions, data.interactions.values
    expected = {part: [] for part in PARTS}
    for user in range(len(data.users)):
        past = []
        for at in range(events.items.offsets[user], events.items.offsets[user + 1]):
            item, part = int(events.items.values[at]), int(events.split[at])
            if part < 3 and not np.isnan(values[at]):
                row = (int(values[at] >= 4), user, item, data.attributes["colour"][item], past[-3:])
                expected[PARTS[part]].append(row if data.protocol.ordered else row[:4])
            past.append(item)
    columns = ["user_id", "item_id", "colour", *(["history"] if data.protocol.ordered else [])]
    for part in PARTS:
        found = rows_of(examples, part, columns=columns) if examples.rows(part) else pl.DataFrame()
        assert examples.rows(part) == len(found) == len(expected[part])
        assert found.rows() == expected[part]
    assert ("history" in examples.columns) == data.protocol.ordered


def test_columns_have_sides_and_distinct_names():
    examples = examples_of(world(), "value>=4")
    assert dict(examples.sides) == {
        "user_id": "user", "user_age": "user", "item_id": "item", "colour": "item", "item_age": "item",
        "timestamp": "context", "history": "user",
    }  # fmt: skip
    assert examples.entities("item")["item_id"].to_list() == list(range(20))
    assert examples.entities("context") is None
    row = rows_of(examples, "train").row(5, named=True)
    assert row["user_age"] == examples.data.users.ids([row["user_id"]])[0]
    assert row["item_age"] == examples.data.items.ids([row["item_id"]])[0]


@pytest.mark.parametrize(("seed", "size"), [(0, 1), (1, 7), (2, 50), (3, 1000)])
def test_shuffled_rows_are_the_same_rows(seed, size):
    examples = examples_of(world(), "value>=4")
    plain, mixed = (pl.concat(list(examples.batches("train", size, seed=s))) for s in (None, seed))
    key = ["user_id", "item_id", "timestamp", "label"]
    assert plain.select(key).sort(key).equals(mixed.select(key).sort(key))
    again = pl.concat(list(examples.batches("train", size, seed=seed)))
    assert mixed.equals(again) and not mixed.equals(plain)
    assert all(len(batch) == size for batch in list(examples.batches("train", size, seed=seed))[:-1])


def test_several_labels():
    examples = examples_of(world(), {"click": "value>=2", "buy": "value>=5"})
    rows = rows_of(examples, "train", columns=[])
    assert examples.labels == ("click", "buy") and rows.columns == ["click", "buy"]
    assert set(rows.unique().rows()) == {(0, 0), (1, 0), (1, 1)} and rows.dtypes == [pl.UInt8, pl.UInt8]


def test_drawn_negatives_are_items_that_the_user_has_not_had_by_then():
    data = world(split="time:0.7,0.1,0.2")
    examples = examples_of(data, negatives=3)
    events = data.interactions
    for part in PARTS:
        until = LABEL[part]
        past = events.items.where(events.split <= until)
        rows = rows_of(examples, part)
        positives = rows.filter(pl.col("label") == 1)
        assert len(positives) == int((events.split == until).sum())
        for row in rows.filter(pl.col("label") == 0).iter_rows(named=True):
            assert row["item_id"] not in past[row["user_id"]]
    later = {
        (r["user_id"], r["item_id"])
        for r in rows_of(examples, "test").filter(pl.col("label") == 1).iter_rows(named=True)
    }
    drawn = {
        (r["user_id"], r["item_id"])
        for r in rows_of(examples, "train").filter(pl.col("label") == 0).iter_rows(named=True)
    }
    assert later & drawn, "what a user takes later may be drawn before: else training would know the test"


def test_refit_trains_on_validation_too():
    data = world()
    plain, refit = examples_of(data, "value>=4"), examples_of(data, "value>=4", refit=True)
    assert refit.rows("train") == plain.rows("train") + plain.rows("valid") and refit.rows("valid") == 0
    assert refit.rows("test") == plain.rows("test") and refit.fingerprint != plain.fingerprint


@pytest.mark.parametrize("rows", [1, 10, 10_000])
def test_a_sample_is_spread_over_the_part(rows):
    examples = examples_of(world(), "value>=4")
    sample = examples.sample("train", rows)
    assert len(sample) == min(rows, examples.rows("train")) and sample.columns == ["label", *examples.columns]
    events = sample_events(world(), "train", rows)
    assert 0 < len(events) <= rows


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: examples_of(world(), "price>=4"), "condition on 'value'"),
        (lambda: examples_of(world(), {}), "name at least one"),
        (
            lambda: examples_of(prepare(log().drop("value"), split="time:0.8,0.1,0.1"), "value>=4"),
            "no values to label by",
        ),
        (lambda: next(examples_of(world(), "value>=4").batches("train", 5, ["color"])), "did you mean 'colour'"),
    ],
)
def test_a_wrong_question_is_one_sentence(call, words):
    with pytest.raises(InputError, match=words):
        call()
