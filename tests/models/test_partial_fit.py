"""Learning from new events alone gives what a fit on all of them gives, where the mathematics is exact."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import ConfigError
from leanrec.core.nouns import Request
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

MODELS_THAT_GO_ON = {
    "item-knn": [
        {"similarity": kind, "neighbours": 8, "half_life": 3, "shrinkage": 0.5, "window": 9}
        for kind in ("cosine", "tf-idf", "bm25", "jaccard", "asymmetric")
    ],
    "user-knn": [{"similarity": kind, "users": 6} for kind in ("cosine", "bm25")],
    "ease": [{"regularisation": 3.0, "half_life": 0.0}],
    "slim": [{"regularisation": 3.0, "half_life": 2.0, "neighbours": 7}],
}
CASES = [(model, settings) for model, many in MODELS_THAT_GO_ON.items() for settings in many]


def events(users: range, items: range, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        (f"user{user}", f"item{item}", 1e6 * seed + place, "train")
        for user in users
        for place, item in enumerate(rng.choice(items, rng.integers(1, 7)).tolist())
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")


def prepared(log: pl.DataFrame) -> Dataset:
    asked = log.tail(1).with_columns(split=pl.lit("test"), timestamp=1e9)
    items = pl.DataFrame({"item_id": log["item_id"].unique(maintain_order=True)}).with_columns(
        category=pl.col("item_id").str.slice(4)
    )
    return prepare(pl.concat([log, asked]), items=items, split="column:split", repeats=False)


@pytest.fixture(scope="module")
def before() -> pl.DataFrame:
    return events(range(60), range(25), 1)


def fitted(model: str, settings: dict, data: Dataset) -> Recommender:
    return MODELS[model](**settings).fit(data, refit=True)


def assert_same(one: Recommender, other: Recommender) -> None:
    """The same answers, whatever the numbering of items."""
    every = [f"item{item}" for item in range(40)]
    known = [item for item in every if one.items.row(item) >= 0]
    assert known == [item for item in every if other.items.row(item) >= 0]
    requests = [Request(history=[item, other_item]) for item, other_item in itertools.pairwise(known)]
    first, second = (model.score(requests, [known] * len(requests)) for model in (one, other))
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("model", "settings"), CASES)
def test_equal_to_a_fit_on_all_events(before, model, settings):
    """Known users with known and new items, new users, over two steps; ties in neighbours are not cut here."""
    settings = {**settings, **({"neighbours": 60} if "neighbours" in settings else {})}
    settings = {**settings, **({"users": 600} if "users" in settings else {})}
    later, last = events(range(50, 70), range(20, 32), 2), events(range(3), range(2), 3)
    old = fitted(model, settings, prepared(before))
    new = MODELS[model](**settings).partial_fit(old, prepared(later), refit=True)
    newest = MODELS[model](**settings).partial_fit(new, prepared(last), refit=True)
    assert len(old.items) == 25 and len(new.items) == len(newest.items) > 25
    assert_same(new, fitted(model, settings, prepared(pl.concat([before, later]))))
    assert_same(newest, fitted(model, settings, prepared(pl.concat([before, later, last]))))


@pytest.mark.parametrize(("model", "settings"), CASES)
def test_what_comes_out_is_a_recommender_like_any_other(before, model, settings, tmp_path):
    old = fitted(model, settings, prepared(before))
    later = prepared(events(range(58, 64), range(20, 32), 2))
    new = MODELS[model](**settings).partial_fit(old, later, refit=True)
    assert {"user0", "user63"} <= set(new.histories.users())
    assert new.histories.get("user59")[: len(old.histories.get("user59"))] == old.histories.get("user59")
    fresh = next(item for item in later.items.ids() if old.items.row(item) < 0)
    ranking = new.answer([Request(user_id="user63", k=30)])[0]
    assert ranking.item_ids and not ranking.degraded
    allowed = new.answer([Request(history=["item3"], k=5, filter={"category": [fresh[4:]]}, include_seen=True)])[0]
    assert set(allowed.item_ids) <= {fresh}
    new.save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle")
    assert loaded.answer([Request(user_id="user63", k=30)])[0] == ranking
    with pytest.raises(ConfigError, match="was loaded"):
        MODELS[model](**settings).partial_fit(loaded, later)


def test_a_small_step_measures_few_items_again(before, monkeypatch):
    from leanrec.models import item_knn

    model = MODELS["item-knn"](similarity="cosine", neighbours=30, half_life=0)
    old = model.fit(prepared(before), refit=True)
    asked = []
    measure = item_knn._measure
    monkeypatch.setattr(item_knn, "_measure", lambda *a: (asked.append(a[-1]), measure(*a))[1])
    step = pl.DataFrame(
        [("new", item, float(place), "train") for place, item in enumerate(["other0", "other1"])],
        schema=["user_id", "item_id", "timestamp", "split"], orient="row",
    )  # fmt: skip
    new = model.partial_fit(old, prepared(step), refit=True)
    assert [new.items.ids(rows) for rows in asked] == [["other0", "other1"]]


def test_models_that_cannot_say_so(before):
    popular = MODELS["popular"]().fit(prepared(before))
    with pytest.raises(ConfigError, match="popular has to see all events at once"):
        MODELS["popular"]().partial_fit(popular, prepared(before))
    with pytest.raises(ConfigError, match="cannot go on from a 'popular'"):
        MODELS["item-knn"]().partial_fit(popular, prepared(before))
