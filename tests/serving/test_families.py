"""Every family of models over HTTP: a small bundle of each, loaded as the server loads it, answers the whole API."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leanrec.data.dataset import Dataset
from leanrec.events.sqlite import SqliteStore
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

from ..models.packs import SMALL
from ..models.worlds import ITEMS, NEWCOMERS, shop
from .harness import Local

_SEQUENCE = {**SMALL, "epochs": 1}
_PAIRS = {"epochs": 1, "dim": 8}
_CLICKS = {"epochs": 1, "dim": 4, "widths": (8,), "batch": 128, "negatives": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    "popular": {},
    "popular-recent": {},
    "item-knn": {},
    "user-knn": {},
    "ease": {"regularisation": 10.0},
    "slim": {},
    "content": {},
    "mf": {"factors": 3, "regularisation": 2.0, "exponent": 0.5, "iterations": 2},
    "als": {"factors": 8, "unobserved": 0.3, "regularisation": 0.02, "iterations": 2},
    "bpr-mf": {**_PAIRS, "batch": 256},
    "lightgcn": {**_PAIRS, "negatives": 16},
    "esasrec": _SEQUENCE,
    "bert4rec": _SEQUENCE,
    "gru4rec": {key: value for key, value in _SEQUENCE.items() if key != "heads"},
    "caser": {"dim": 8, "epochs": 1, "negatives": 16, "batch_tokens": 256},
    "hstu": _SEQUENCE,
    "text-encoder": {"head": "mean"},
    "two-tower": {"dim": 8, "epochs": 1, "negatives": 16, "batch": 64},
    "hybrid": {"sources": ["item-knn", "popular"], "merge": "rrf", "depth": 20},
    "linear": {"negatives": 2},
    "logistic": {"passes": 1, "negatives": 2},
    "deepfm": _CLICKS,
    "din": {**_CLICKS, "history": 8, "attention": 8},
    "gbdt": {"trees": 5, "min_rows": 5, "negatives": 2},
}


@cache
def _data() -> Dataset:
    return shop()


def _rated() -> Dataset:
    """The same events, each with a rating."""
    data = _data()
    values = 1 + (data.interactions.items.values % 5).astype(np.float32)
    return replace(data, interactions=replace(data.interactions, values=values), fingerprint="")


@pytest.fixture(scope="module", params=FAMILIES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """The application over the bundle that training wrote, read back from disk."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    if MODELS.entries[name].extra == "train":
        pytest.importorskip("torch")
    settings = dict(FAMILIES[name])
    if name == "text-encoder":
        from ..nn.tiny_bert import tiny_bert

        settings["encoder"] = tiny_bert()
    if name == "gbdt":
        pytest.importorskip("lightgbm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEANREC_CACHE", str(folder / "cache"))
        data = _rated() if name == "mf" else _data()
        MODELS[name](**settings).fit(data, seed=1).save(folder / "bundle")
    store = SqliteStore(Path(folder) / "events.sqlite")
    local = Local(Recommender.load(folder / "bundle"), store)
    yield local
    local.close()
    store.close()


def _answers(reply: Any, k: int) -> list[str]:
    """The ids of a well-formed answer."""
    assert reply.status == 200, reply.content
    items = reply.json["items"]
    scores = [item["score"] for item in items]
    assert 0 < len(items) <= k
    assert all(math.isfinite(score) for score in scores)
    assert scores == sorted(scores, reverse=True)
    ids = [item["item_id"] for item in items]
    assert len(set(ids)) == len(ids)
    return ids


def test_a_known_user_and_a_bare_history(served: Local) -> None:
    known = _answers(served.ask("POST", "/v1/recommend", {"user_id": "user3", "k": 5}), 5)
    history = [str(item) for item in served.service.recommender.histories.get("user3")]  # type: ignore[union-attr]
    assert not set(known) & set(history)
    reply = served.ask("POST", "/v1/recommend", {"history": history, "k": 5, "titles": True, "explain": True})
    assert len(_answers(reply, 5)) == 5
    assert all("title" in item for item in reply.json["items"])


def test_nobody_and_nothing_are_answered(served: Local) -> None:
    for body in ({"user_id": "never-seen"}, {"history": []}, {"user_id": "never-seen", "history": []}):
        reply = served.ask("POST", "/v1/recommend", {**body, "k": 4})
        assert len(_answers(reply, 4)) == 4


def test_what_is_excluded_and_filtered_stays_out(served: Local) -> None:
    body = {"user_id": "user2", "k": 20, "exclude": ["item0", "item2"], "filter": {"category": ["even"]}}
    found = _answers(served.ask("POST", "/v1/recommend", body), 20)
    even = {f"item{i}" for i in range(0, ITEMS, 2)} | {NEWCOMERS[0]}
    assert set(found) <= even - {"item0", "item2"}


def test_scores_are_numbers_for_every_item(served: Local) -> None:
    """JSON has no infinity, and items that nothing is known of are items too."""
    items = ["item0", "item1", "item39", *NEWCOMERS]
    bodies: list[dict[str, Any]] = [{"user_id": "user3"}, {"history": ["item1", "item3"]}, {"history": []}]
    for body in bodies:
        reply = served.ask("POST", "/v1/score", {**body, "items": items, "context": {"hour": 3, "weather": "rain"}})
        assert reply.status == 200, reply.content
        assert len(reply.json["scores"]) == len(items)
        assert all(score is None or math.isfinite(score) for score in reply.json["scores"])


def test_scores_are_those_of_recommending(served: Local) -> None:
    reply = served.ask("POST", "/v1/recommend", {"user_id": "user5", "k": 6})
    ids = _answers(reply, 6)
    if served.service.recommender.source.kind == "hybrid":
        return  # its scores are ranks among candidates
    scores = served.ask("POST", "/v1/score", {"user_id": "user5", "items": ids}).json["scores"]
    assert scores == pytest.approx([item["score"] for item in reply.json["items"]], rel=1e-5, abs=1e-6)


def test_similar_items_leave_the_item_out(served: Local) -> None:
    reply = served.ask("GET", "/v1/similar/item2?k=5")
    assert reply.status == 200, reply.content
    assert "item2" not in [item["item_id"] for item in reply.json["items"]]


def test_a_batch_is_its_questions(served: Local) -> None:
    queries = [{"user_id": "user3", "k": 5}, {"history": ["item4"], "k": 3}, {"user_id": "never-seen", "k": 2}]
    batch = served.ask("POST", "/v1/recommend", {"batch": queries}).json["batch"]
    for query, found in zip(queries, batch, strict=True):
        alone = served.ask("POST", "/v1/recommend", query).json
        assert [i["item_id"] for i in found["items"]] == [i["item_id"] for i in alone["items"]]
        assert found["degraded"] == alone["degraded"]


def test_an_event_counts_at_once(served: Local) -> None:
    event = {"event_id": "e1", "user_id": "visitor", "item_id": "item6"}
    assert served.ask("POST", "/v1/events", {"events": [event]}).status == 200
    assert "item6" not in _answers(served.ask("POST", "/v1/recommend", {"user_id": "visitor", "k": 5}), 5)
