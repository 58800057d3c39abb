"""Slices against evaluating the part by hand, and what lists are like beyond being right against loops."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import InputError
from leanrec.core.jagged import Jagged
from leanrec.data.cases import Cases
from leanrec.data.prepare import prepare
from leanrec.evaluation.beyond import ItemSets, beyond, diversity, item_sets, popularity_lift, serendipity
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.slices import slices_of
from leanrec.models.popular import Popular

from .test_metrics import brute_force


@pytest.fixture(scope="module")
def data():
    """40 users with an age and a city, 30 items with a genre list."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        items = rng.choice(30, int(rng.integers(3, 15)), replace=False, p=np.arange(30, 0, -1) / 465)
        rows += [(f"u{user}", f"i{item}", float(step)) for step, item in enumerate(items)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(40)], "age": list(range(20, 60)), "city": ["a", "b"] * 20})
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(30)], "genres": [["x", "y"] if n % 3 else ["x"] for n in range(30)]}
    )
    return prepare(events, users=users, items=items, repeats=False, name="town")


@pytest.fixture(scope="module")
def found(data):
    return evaluate(Popular().fit(data), data, k=[5], details=True, slices=["city", "age", "genres"])


def test_slices_equal_judging_the_part_by_hand(data, found):
    cases, row = data.cases("test"), found.rows[0]
    model = Popular().fit(data)
    hits, _ = model.rank(cases.histories, 5)
    parts = {part.slice: part for part in row.slices}
    for one in slices_of(data, cases, ["city", "age", "genres"]):
        values = []
        for place in range(len(cases)):
            targets = set(cases.targets[place].tolist())
            if one.items_N is not None:
                targets &= set(np.flatnonzero(one.items_N).tolist())
            if not targets or (one.users_B is not None and not one.users_B[place]):
                continue
            values.append(brute_force(hits.items_BK[place].tolist(), targets, 5))
        if not values:
            assert one.name not in parts
            continue
        part = parts[one.name]
        assert part.users == len(values)
        for name in values[0]:
            assert part.metrics[f"{name}@5"] == pytest.approx(np.mean([value[name] for value in values]))
            low, high = part.interval[f"{name}@5"]
            assert low - 1e-12 <= part.metrics[f"{name}@5"] <= high + 1e-12


def test_what_slices_there_are(data, found):
    names = {part.slice for part in found.rows[0].slices}
    assert {"users=new", "users=old", "city=a", "city=b", "genres=y"} <= names
    assert {one.name for one in slices_of(data, data.cases("test"))} <= {
        "users=new", "users=old", "items=head", "items=tail", "items=rare", "items=unseen",
    }  # fmt: skip
    ages = [part for part in found.rows[0].slices if part.slice.startswith("age=")]
    assert sum(part.users for part in ages) == len(found.rows[0].users_B)


def test_slices_are_in_the_table_and_in_json(found):
    assert "city=a" in str(found)
    sliced = found.to_dict()["results"][0]["slices"]
    assert {"slice", "users", "metrics", "interval"} == set(sliced[0])


def test_an_unknown_column_is_refused(data):
    with pytest.raises(InputError, match=r"no column 'town'.*there are: age, city, genres"):
        evaluate(Popular().fit(data), data, slices=["town"])


def test_diversity_by_hand():
    sets = ItemSets(np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]], np.float32), jaccard=True)
    items = np.array([[0, 1, 2], [0, 1, -1], [0, -1, -1]])
    assert diversity(items, sets)[:2] == pytest.approx([(0.5 + 1 + 1) / 3, 0.5])
    assert np.isnan(diversity(items, sets)[2])
    angles = ItemSets(np.array([[1, 0], [1, 1], [0, 2]], np.float32), jaccard=False)
    assert diversity(items, angles)[0] == pytest.approx(1 - (2 * 0.5**0.5) / 3)


def test_serendipity_and_popularity_by_loops():
    rng = np.random.default_rng(0)
    popularity = rng.integers(0, 50, 20)
    histories = Jagged.from_rows([rng.choice(20, 4, replace=False) for _ in range(30)])
    targets = Jagged.from_rows([rng.choice(20, 6, replace=False) for _ in range(30)])
    fresh = [np.setdiff1d(np.arange(20), history) for history in histories]
    items = np.stack([rng.choice(some, 5, replace=False) for some in fresh]).astype(np.int32)
    cases = Cases(np.arange(30, dtype=np.int32), histories, targets)
    order = np.lexsort((np.arange(20), -popularity)).tolist()
    for include_seen in (False, True):
        expected = []
        for row in range(30):
            shown = [i for i in order if include_seen or i not in histories[row].tolist()][:5]
            right = [i for i in items[row].tolist() if i in targets[row].tolist() and i not in shown]
            expected.append(len(right) / 5)
        assert serendipity(items, cases, popularity, 5, include_seen=include_seen) == pytest.approx(expected)
    lift = [popularity[items[row]].mean() / popularity[histories[row]].mean() - 1 for row in range(30)]
    assert popularity_lift(items, histories, popularity) == pytest.approx(lift)
    found = beyond(items, cases, popularity, [5], None, include_seen=False)
    assert found["popularity_bias@5"] == pytest.approx(np.mean(np.abs(np.log2(np.array(lift) + 1))))


def test_attributes_that_say_something_are_compared(data, found):
    sets = item_sets(data)
    assert sets.vectors_ND.shape == (len(data.items), 2)
    assert {"diversity@5", "serendipity@5", "popularity_lift@5", "popularity_bias@5"} <= set(found.rows[0].metrics)
