"""What is said of each column: its kind with a reason, its gaps, how far it has moved between parts."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from leanrec.data.columns import drift, guess_kind
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from tests.models.worlds import shop


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.5, 2.5, None], "number"),
        (list(range(50)), "number"),
        ([1, 2, 3] * 10, "category"),
        ([1.0, 2.0] * 10, "category"),
        (["red", "blue", None], "category"),
        ([True, False], "category"),
        ([["a"], ["b", "c"]], "list"),
        ([dt.date(2020, 1, 1), dt.date(2021, 1, 1)], "time"),
        (["2020-01-01", "2021-06-30T12:00:00"], "time"),
        ([f"the story of number {n}" for n in range(300)], "ignore"),
        ([f"id{n}" for n in range(300)], "ignore"),
        (["same"] * 5, "ignore"),
        ([None, None], "ignore"),
        ([{"a": 1}, {"a": 2}], "ignore"),
    ],
)
def test_the_kind_of_a_column(values, kind):
    found, why = guess_kind(pl.DataFrame({"x": values}), "x", "context")
    assert found == kind and why


def test_an_attribute_that_only_names_its_item_is_left_out():
    sample = pl.DataFrame({"item_id": list(range(100)) * 2, "sku": [f"s{n}" for n in range(100)] * 2})
    assert guess_kind(sample, "sku", "item")[0] == "ignore"
    assert guess_kind(sample, "item_id", "item")[0] == "category"


def test_a_column_that_gives_the_label_away_is_left_out():
    label = [0, 0, 1] * 40
    sample = pl.DataFrame({"label": label, "bought": ["yes" if n else "no" for n in label], "fair": ["a", "b"] * 60})
    assert guess_kind(sample, "bought", "context", ["label"]) == ("ignore", "it is the label 'label' in other words")
    assert guess_kind(sample, "fair", "context", ["label"])[0] == "category"
    assert guess_kind(sample, "bought", "context")[0] == "category"


def psi(p, q):
    return sum((b - a) * np.log(b / a) for a, b in zip(p, q, strict=True))


def test_drift_is_the_stability_index_less_what_chance_brings():
    train = pl.Series(["a"] * 600 + ["b"] * 300 + [None] * 100)
    other = pl.Series(["a"] * 200 + ["b"] * 700 + ["c"] * 100)
    expected = psi(
        np.array([100.5, 0.5, 600.5, 300.5]) / 1002, np.array([0.5, 100.5, 200.5, 700.5]) / 1002
    ) - 3 * (1 / 1000 + 1 / 1000)  # fmt: skip
    assert drift(train, other, "category") == pytest.approx(expected)


def test_drift_of_numbers_is_over_tenths_of_training():
    rng = np.random.default_rng(0)
    same = drift(pl.Series(rng.normal(size=20_000)), pl.Series(rng.normal(size=5_000)), "number")
    moved = drift(pl.Series(rng.normal(size=20_000)), pl.Series(rng.normal(1, 1, size=5_000)), "number")
    assert same < 0.005 and moved == pytest.approx(0.9, abs=0.25)
    assert drift(pl.Series([1.0]), pl.Series([], dtype=pl.Float64), "number") is None


def test_no_drift_is_found_where_there_is_none():
    rng = np.random.default_rng(0)
    found = [
        drift(pl.Series(rng.integers(0, 200, 5_000)), pl.Series(rng.integers(0, 200, 400)), "category")
        for _ in range(20)
    ]
    assert max(found) < 0.1


def test_preparing_says_what_each_attribute_is(tmp_path):
    data = shop(split="time:0.8,0.1,0.1")
    features = {feature.name: feature for feature in data.report.features}
    assert {name: feature.kind for name, feature in features.items()} == {"title": "ignore", "category": "category"}
    assert features["category"].distinct == 2 and features["category"].missing == 0
    assert features["category"].drift is not None
    assert "category (item): category, text; 2 different" in str(data.report)
    data.save(tmp_path / "data")
    assert Dataset.load(tmp_path / "data").report.features == data.report.features


def test_gaps_are_counted_where_events_are():
    events = pl.DataFrame({"user_id": [1] * 8, "item_id": [1, 1, 1, 1, 1, 1, 2, 3], "timestamp": range(8)})
    items = pl.DataFrame({"item_id": [1, 2, 3], "price": [None, 1.5, 2.5]})
    report = prepare(events, items=items, split="time:0.8,0.1,0.1").report
    (price,) = report.features
    assert price.missing == pytest.approx(1.0) and price.kind == "ignore"
