"""Two towers over ids, histories and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from leanrec.core.errors import BundleError, ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries, Request
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.models.two_tower import TwoTower
from leanrec.nn.towers import Towers
from leanrec.runtime.engines.towers import TowersEngine, TowersShape
from leanrec.runtime.recommender import Recommender
from leanrec.training.towers import TowerLoader

from .contract import ModelContract

_SMALL: dict[str, Any] = {"dim": 8, "epochs": 3, "negatives": 16, "batch": 64}


class TestTwoTower(ModelContract):
    model = "two-tower"
    settings = _SMALL


def tastes(*, seed: int = 0) -> Dataset:
    """Two kinds of users buy two kinds of items; `new-a`, `new-b` are sold only at the end, `fresh-*` users come only
    then. What anyone likes stands in an attribute of theirs.
    """
    random = np.random.default_rng(seed)
    rows = []
    for user in range(120):
        kind = "ab"[user % 2]
        rows += [(f"{kind}{user}", f"{kind}-{random.integers(0, 12)}", float(step), "train") for step in range(8)]
        rows += [(f"{kind}{user}", f"{kind}-{random.integers(0, 12)}", 8.0, "valid")]
    for kind in "ab":
        rows += [(f"{kind}{'ab'.index(kind)}", f"new-{kind}", 9.0, "test"), (f"fresh-{kind}", f"{kind}-0", 9.0, "test")]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    items = events.select(pl.col("item_id").unique(maintain_order=True))
    users = events.select(pl.col("user_id").unique(maintain_order=True))
    items = items.with_columns(
        kind=pl.col("item_id").str.replace("new-", "").str.head(1), price=pl.Series(range(len(items)), dtype=pl.Float64)
    )
    users = users.with_columns(likes=pl.col("user_id").str.replace("fresh-", "").str.head(1))
    return prepare(events, items=items, users=users, split="column:split", repeats=True, name="tastes")


@pytest.fixture(scope="module")
def data() -> Dataset:
    return tastes()


@pytest.fixture(scope="module")
def fitted(data: Dataset) -> Recommender:
    return TwoTower(dim=16, epochs=10, batch=64, negatives=32, lost_ids=0.3, bare_users=0.3).fit(data, seed=1)


def test_new_items_speak_by_their_attributes(data, fitted):
    known = {kind: [data.items.row(f"{kind}-{n}") for n in range(5)] for kind in "ab"}
    asked = Jagged.from_rows([known["a"], known["b"]])
    new = [data.items.row("new-a"), data.items.row("new-b")]
    scores = fitted.source.score(Queries(asked, 1), Jagged.from_rows([new, new])).reshape(2, 2)
    assert scores[0, 0] > scores[0, 1] and scores[1, 1] > scores[1, 0]


def test_new_users_speak_by_their_attributes(fitted):
    fitted.histories = None
    for kind in "ab":
        ranking = fitted.answer([Request(user_id=f"fresh-{kind}", k=5)])[0]
        assert not ranking.degraded and all(item.startswith(f"{kind}-") for item in ranking.item_ids)
    assert fitted.answer([Request(user_id="nobody", k=5)])[0].degraded
    assert fitted.card["features"]["user"] == ["likes"] and "kind" in fitted.card["features"]["item"]


def test_users_and_their_attributes_stand_in_the_bundle(fitted, tmp_path):
    fitted.save(tmp_path / "bundle")
    again = Recommender.load(tmp_path / "bundle")
    assert again.id == fitted.id
    one, other = (model.answer([Request(user_id="fresh-b", k=5)])[0] for model in (fitted, again))
    assert one == other


def test_attributes_can_be_left_out(data):
    plain = TwoTower(**_SMALL, features={"columns": {"kind": "ignore", "likes": "ignore", "price": "ignore"}}).fit(data)
    assert not plain.source.personal and plain.card["features"]["item"] == []


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_the_engine_computes_what_the_network_does(pooling):
    torch.manual_seed(0)
    net = Towers(8, 12, 0.0, pooling=pooling, window=6, items=None, users=None).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    random = np.random.default_rng(0)
    items_ND = random.standard_normal((20, 8)).astype(np.float32)
    histories = Jagged.from_rows([random.integers(0, 20, n) for n in (1, 6, 3, 9)])
    weights = {name: value.detach().numpy() for name, value in net.state_dict().items()}
    tensors = {name.removeprefix("user_tower."): array for name, array in weights.items() if "item_tower" not in name}
    engine = TowersEngine(TowersShape(pooling=pooling, window=6, hidden=12), tensors, items_ND)
    padded = np.full((4, 6), -1)
    for row, history in enumerate(histories):
        padded[row, 6 - min(len(history), 6) :] = history[-6:]
    there = torch.from_numpy(padded >= 0)
    looked_up = torch.from_numpy(items_ND)[torch.from_numpy(np.maximum(padded, 0))] * there[..., None]
    with torch.no_grad():
        expected = net.queries(looked_up, there, torch.zeros(4, dtype=torch.long)).numpy()
    np.testing.assert_allclose(engine.encode(histories), expected, rtol=2e-5, atol=2e-5)
    again = TowersEngine.load(engine.config(), engine.tensors(), items_ND)
    assert np.array_equal(again.encode(histories), engine.encode(histories))
    with pytest.raises(BundleError):
        TowersEngine.load({**engine.config(), "hidden": 5}, engine.tensors(), items_ND)


@pytest.mark.parametrize("ordered", [True, False])
def test_batches_predict_from_what_came_before(ordered):
    train = Jagged.from_rows([[1, 2, 3, 4], [5], [6, 7], []])
    loader = TowerLoader(
        train, batch=3, window=3, most=2, negatives=4, negatives_from="mixed", negative_options={}, num_items=9,
        horizon=1, ordered=ordered, first=False, seed=0,
    )  # fmt: skip
    batches = list(loader.epoch(0))
    assert sum(batch.predictions for batch in batches) == loader.tokens == 3
    for batch in batches:
        for user, seen, target in zip(batch.users_B, batch.items_BL, batch.targets_B, strict=True):
            kept = seen[seen >= 0].tolist()
            assert kept and set(kept) < set(train[user].tolist()) and target in train[user] and target not in kept
            assert not ordered or (train[user].tolist().index(target) == len(kept) or len(kept) == 3)
    again = list(loader.epoch(0, 1 if len(batches) > 1 else 0))
    assert np.array_equal(again[-1].items_BL, batches[-1].items_BL)
    other = np.concatenate([batch.targets_B for batch in loader.epoch(3)])
    assert len(other) == 3


def test_an_interrupted_run_resumes_to_the_same_bits(data, tmp_path):
    class StopError(Exception):
        pass

    def stop(epoch: int, score: float) -> None:
        if epoch == 2:
            raise StopError

    model = TwoTower(**{**_SMALL, "epochs": 4, "patience": 4})
    whole = model.fit(data, run=tmp_path / "whole", track=())
    with pytest.raises(StopError):
        model.fit(data, run=tmp_path / "cut", track=(), on_score=stop, save_every=0.0)
    assert model.fit(data, run=tmp_path / "cut", track=(), resume=True).id == whole.id
    with pytest.raises(InputError, match="another configuration"):
        TwoTower(**{**_SMALL, "epochs": 5}).fit(data, run=tmp_path / "cut", track=(), resume=True)


def test_impossible_settings_are_named():
    for settings, message in (({"window": 0}, "window"), ({"lost_ids": 1.0}, "lost_ids"), ({"pooling": "max"}, "max")):
        with pytest.raises(ConfigError, match=message):
            TwoTower(**settings)
