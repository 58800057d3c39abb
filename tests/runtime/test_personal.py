"""Recommenders that know their users, look at the situation, and say which part of them brought an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.core.errors import BundleError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries, Request
from leanrec.runtime import packing
from leanrec.runtime.recommender import Recommender

from .toys import DictHistory, FixedSource, PersonalSource

USERS = Vocabulary(["ann", "bob", "cem"])


def _recommender() -> Recommender:
    items = Vocabulary([f"i{n}" for n in range(10)])
    histories = DictHistory({"ann": ["i9"], "bob": ["i9"], "cem": []})
    return Recommender(
        PersonalSource("toy", 10, 3), items, repeats=False, fallback=FixedSource("fixed", 10), users=USERS,
        histories=histories,
    )  # fmt: skip


def test_a_known_user_is_told_apart_from_a_bare_history() -> None:
    model = _recommender()
    known, bare, both, resolved = model.answer(
        [
            Request(user_id="bob", k=2),
            Request(history=["i9"], k=2),
            Request(user_id="bob", history=["i9"], k=2),
            Request(user_id="bob", history=["i9"], k=2, resolved=True),
        ]
    )
    assert known.item_ids == resolved.item_ids == ["i1", "i0"]
    assert known.sources == ["favourite", "rest"]
    assert bare.item_ids == both.item_ids == ["i0", "i1"]


def test_a_known_user_without_a_history_is_not_degraded() -> None:
    known, unknown = _recommender().answer([Request(user_id="cem", k=1), Request(user_id="dee", k=1)])
    assert (known.item_ids, known.degraded) == (["i2"], False)
    assert (unknown.item_ids, unknown.degraded, unknown.sources) == (["i0"], True, ["fixed"])


def test_context_reaches_the_source_query_by_query() -> None:
    model = _recommender()
    requests = [Request(user_id="ann", k=2, context={"first": 5}), Request(user_id="ann", k=2)]
    assert [list(r.item_ids) for r in model.answer(requests)] == [["i5", "i0"], ["i0", "i1"]]
    assert model.score(requests, [["i5"], ["i5"]]) == [[2.0], [-6.0]]


def test_frames_and_rows_know_users_too() -> None:
    model = _recommender()
    assert model.recommend(["bob", "dee"], k=1)["item_id"].to_list() == ["i1", "i0"]
    many = 3000  # more than one inner batch
    hits, degraded_B = model.rank(
        Jagged.from_rows([[9]] * many), 1, users=np.where(np.arange(many) % 2, 2, -1).astype(np.int32)
    )
    assert hits.items_BK[:4, 0].tolist() == [0, 2, 0, 2] and not degraded_B.any()
    assert hits.brought_BK is not None and hits.brought_BK[:4, 0].tolist() == [0, 1, 0, 1]


def test_users_are_saved_with_the_bundle(tmp_path: Path) -> None:
    model = _recommender()
    model.save(tmp_path / "bundle")
    loaded = Recommender.load(tmp_path / "bundle")
    assert loaded.users == USERS and loaded.id == model.id
    assert loaded.answer([Request(user_id="bob", k=1)])[0].item_ids == ["i1"]


def test_users_that_the_source_does_not_know_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packing.pack

    def fewer(recommender: Recommender) -> object:
        files, config = whole(recommender)
        return files | {"users.safetensors": Vocabulary(["ann"]).tensors()}, config

    monkeypatch.setattr("leanrec.runtime.recommender.pack", fewer)
    _recommender().save(tmp_path / "bundle")
    with pytest.raises(BundleError, match="users"):
        Recommender.load(tmp_path / "bundle")


def test_some_of_the_questions() -> None:
    queries = Queries(
        Jagged.from_rows([[1], [2, 3], []]), 4, exclude=Jagged.from_rows([[7], [], [8]]),
        users=np.asarray([4, -1, 6], np.int32), context={"hour": [1, None, 3]},
    )  # fmt: skip
    some = queries.take(np.asarray([2, 0]))
    assert some.histories.lengths.tolist() == [0, 1] and some.k == 4
    assert some.exclude is not None and some.exclude.values.tolist() == [8, 7]
    assert some.users is not None and some.users.tolist() == [6, 4]
    assert some.context == {"hour": [3, 1]}
