"""Several sources as one: candidates, evidence, merges, what brought what, chains, bundles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries, Request
from leanrec.kernels.merging import ranks_among, ranks_among_reference
from leanrec.rerank.block import Block
from leanrec.runtime.merging.features import ItemFacts, describe, feature_names
from leanrec.runtime.merging.fixed import ReciprocalRank, Weighted
from leanrec.runtime.merging.gather import unite, weigh
from leanrec.runtime.merging.learned import Learned, LinearRanker
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.chain import ChainSource
from leanrec.runtime.sources.hybrid import HISTORY, HybridSource
from leanrec.runtime.sources.popular import PopularSource

from .toys import DictHistory, PersonalSource, recommender

N = 20


def popular(name: str, *best: int) -> PopularSource:
    """Those items first, in that order; the others after them by row."""
    scores = np.linspace(1, 0.5, N).astype(np.float32)
    scores[list(best)] = 10.0 - np.arange(len(best))
    return PopularSource(name, scores)


def hybrid(*sources, merge=None, depth=3, repeats=False, rerankers=()) -> HybridSource:
    merge = merge or ReciprocalRank(np.ones(len(sources)))
    return HybridSource("hybrid", sources, merge, depth=depth, repeats=repeats, rerankers=rerankers)


def asked(*histories, k=4, **more) -> Queries:
    return Queries(Jagged.from_rows(histories), k, **more)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8), st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_ranks_are_counts_of_what_is_above(listed, scores):
    lists_BC = -np.sort(-np.array([listed, [x + 1 for x in listed]], np.float32), axis=1)
    query_T = (np.arange(len(scores)) % 2).astype(np.int64)
    ranks_T = np.empty(len(scores), np.float32)
    ranks_among(lists_BC, query_T, np.array(scores, np.float32), ranks_T)
    assert ranks_T.tolist() == ranks_among_reference(lists_BC, query_T, np.array(scores, np.float32)).tolist()


def test_reciprocal_ranks_are_added_up():
    one, other = popular("one", 5, 6, 7), popular("other", 6, 8, 5)
    found = hybrid(one, other).search(asked([1], k=3))
    assert found.items_BK[0].tolist() == [6, 5, 8]
    expected = [1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62]
    np.testing.assert_allclose(found.scores_BK[0], expected, rtol=1e-6)
    source = hybrid(one, other)
    assert [source.brings[part] for part in found.brought_BK[0]] == ["other", "one", "other"]


def test_weighted_adds_shares_of_each_list():
    one, other = popular("one", 5, 6, 7), popular("other", 6, 8, 5)
    source = hybrid(one, other, merge=Weighted([1.0, 0.0]))
    assert source.search(asked([1])).items_BK[0, :3].tolist() == [5, 6, 7]
    lists = [each.search(asked([1], k=3)) for each in (one, other)]
    candidates, brought = unite(lists, None, N)
    assert candidates.values.tolist() == [5, 6, 7, 8] and brought.tolist() == [0, 1, 0, 1]
    evidence = weigh([one, other], lists, asked([1], k=3), candidates)
    assert evidence.ranks_TS.tolist() == [[1, 3], [2, 1], [3, 4], [4, 2]]
    np.testing.assert_allclose(evidence.shares_TS[:, 0], [1, 1.667 / 2.667, 0.667 / 2.667, 0], atol=1e-3)


def test_history_items_are_candidates_where_they_may_be_repeated():
    source = hybrid(popular("one", 5, 6, 7), repeats=True)
    found = source.search(asked([15, 16, 15], k=10))
    assert not {15, 16} & set(found.items_BK[0].tolist())  # ten others stand before them
    found = source.search(asked([15, 16, 15], k=12))
    names = dict(zip(found.items_BK[0].tolist(), found.brought_BK[0].tolist(), strict=True))
    candidates = hybrid(popular("one", 5, 6, 7), repeats=True).gather(asked([15, 16, 15], k=3))
    assert candidates[0].candidates.values.tolist() == [5, 6, 7, 15, 16]
    assert [source.brings[part] for part in candidates[1]] == ["one", "one", "one", HISTORY, HISTORY]
    assert source.brings[names[5]] == "one"
    unrepeated = source.search(asked([15, 16], k=10, exclude=Jagged.from_rows([[15, 16]])))
    assert not {15, 16} & set(unrepeated.items_BK[0].tolist())


@pytest.mark.parametrize("repeats", [False, True])
def test_scores_are_those_of_the_search(repeats):
    random = np.random.default_rng(0)
    sources = [PopularSource(f"s{n}", random.random(N).astype(np.float32)) for n in range(3)]
    events = Jagged.from_rows([random.integers(0, N, 8) for _ in range(6)])
    facts = ItemFacts.of(events, None, N)
    names = feature_names(("s0", "s1", "s2"))
    weights = random.standard_normal(len(names))
    for merge in (ReciprocalRank([1, 2, 3]), Weighted([1, 2, 3]), Learned(LinearRanker(weights), facts, names)):
        source = hybrid(*sources, merge=merge, depth=6, repeats=repeats)
        exclude = None if repeats else events
        found = source.search(Queries(events, 5, exclude))
        scores = source.score(Queries(events, 1), Jagged.from_rows(list(found.items_BK)))
        assert np.array_equal(scores.reshape(6, 5), found.scores_BK)


def test_features_say_what_history_and_catalogue_know():
    events = Jagged.from_rows([[1, 2, 1], [1, 3], [3, 3]])
    times = Jagged(np.arange(7.0), events.offsets)
    facts = ItemFacts.of(events, times, 5)
    assert facts.table_NG[:, 0].tolist() == np.log1p(np.float32([0, 3, 1, 3, 0])).tolist()
    unsold, rate = facts.table_NG[:, 4], facts.table_NG[:, 5]
    assert unsold.tolist() == np.float32([1, 1 - 4 / 7, 1 - 2 / 7, 0, 1]).tolist() or unsold[3] == 0
    assert rate[1] == rate[3] == np.float32((1 + 5 * 0.4) / 7) and rate[0] == np.float32(0.4)
    source = PopularSource("one", np.arange(5, dtype=np.float32))
    queries = asked([2, 1, 2, 4], [], k=3)
    lists, candidates = [source.search(queries)], Jagged.from_rows([[2, 3], [2]])
    table = describe(weigh([source], lists, queries, candidates), facts)
    columns = dict(zip(feature_names(("one",)), table.T, strict=True))
    assert columns["again"].tolist() == [1, 0, 0]
    np.testing.assert_allclose(columns["log_times"], [np.log(3), 0, 0])
    np.testing.assert_allclose(columns["log_since"], [np.log(2), 0, 0])
    np.testing.assert_allclose(columns["decayed_20"], [0.5 ** (1 / 20) + 0.5 ** (3 / 20), 0, 0])
    np.testing.assert_allclose(columns["share_of_history"], [0.5, 0, 0])
    np.testing.assert_allclose(columns["user_repeats"], [0.25, 0.25, 0])
    assert np.isfinite(table).all()


def test_blocked_items_leave_the_list_full():
    block = Block(np.array([n not in (5, 6) for n in range(N)]))
    source = hybrid(popular("one", 5, 6, 7, 8), popular("two", 6, 7, 9), rerankers=[block])
    found = source.search(asked([1], k=3)).items_BK[0]
    assert not {5, 6} & set(found.tolist()) and (found >= 0).all()


def test_a_chain_asks_the_next_only_for_what_is_missing():
    class Silent(PopularSource):
        """Knows only queries whose history begins with 0."""

        def search(self, queries: Queries) -> Hits:
            hits = super().search(queries)
            silent = np.array([len(row) == 0 or row[0] != 0 for row in queries.histories])
            hits.items_BK[silent], hits.scores_BK[silent] = -1, -np.inf
            return hits

    first = Silent("first", popular("", 3, 4).scores_N)
    chain = ChainSource("fallback", [first, popular("second", 8, 9)])
    found = chain.search(asked([0], [1], [], k=2))
    assert found.items_BK.tolist() == [[3, 4], [8, 9], [8, 9]]
    assert [chain.brings[part] for part in found.brought_BK[:, 0]] == ["first", "second", "second"]
    scores = chain.score(asked([0], [1]), Jagged.from_rows([[3], [8]]))
    assert scores.tolist() == [10.0, 10.0]


def _model(source, **more) -> Recommender:
    return Recommender(source, Vocabulary([f"i{n}" for n in range(N)]), **{"repeats": False, **more})


def test_an_answer_says_which_source_brought_each_item(tmp_path: Path):
    source = hybrid(popular("one", 5, 6, 7), popular("other", 6, 8, 5))
    chain = ChainSource("fallback", [popular("late", 9), popular("last", 8)])
    model = _model(source, fallback=chain)
    found = model.answer([Request(history=["i1"], k=3), Request(user_id="nobody", k=2)])
    assert found[0].item_ids == ["i6", "i5", "i8"] and found[0].sources == ["other", "one", "other"]
    assert found[1].degraded and found[1].item_ids[0] == "i9" and found[1].sources == ["late", "late"]
    model.save(tmp_path / "bundle")
    again = Recommender.load(tmp_path / "bundle")
    assert again.id == model.id
    assert again.answer([Request(history=["i1"], k=3)])[0] == found[0]
    assert [one.name for one in again.source.sources] == ["one", "other"]


def test_users_pass_through_to_the_sources_that_know_them(tmp_path: Path):
    users = Vocabulary(["ann", "bob", "cem"])
    own = PersonalSource("own", N, 3)
    source = hybrid(own, popular("one", 5, 6))
    assert source.personal and source.num_users == 3
    model = _model(source, users=users, histories=DictHistory({}))
    ranking = model.answer([Request(user_id="cem", history=["i9"], resolved=True, k=4)])[0]
    assert "i2" in ranking.item_ids  # what that source puts first for user row 2
    assert model.answer([Request(history=["i9"], k=3)])[0].item_ids[0] != "i2"
    model.save(tmp_path / "bundle")
    assert Recommender.load(tmp_path / "bundle").users == users


def test_nested_embedding_sources_answer_as_before(tmp_path: Path):
    inner = recommender(50, 8)
    source = HybridSource("hybrid", [inner.source], ReciprocalRank([1.0]), depth=30, repeats=False)
    model = Recommender(source, inner.items, repeats=False)
    history = Jagged.from_rows([[1, 2, 3]])
    one, other = inner.rank(history, 10)[0], model.rank(history, 10)[0]
    assert np.array_equal(one.items_BK, other.items_BK)
    model.save(tmp_path / "bundle")
    assert np.array_equal(Recommender.load(tmp_path / "bundle").rank(history, 10)[0].items_BK, one.items_BK)


@pytest.mark.parametrize("broken", ["depth", "weights", "merge", "facts", "kind", "sources", "trees"])
def test_broken_bundles_are_refused(broken):
    names = feature_names(("one", "two"))
    facts = ItemFacts.of(Jagged.from_rows([[1, 2]]), None, N)
    merge = Learned(LinearRanker(np.zeros(len(names))), facts, names)
    source = hybrid(popular("one", 5), popular("two", 6), merge=merge)
    config, parts = source.config(), dict(source.parts())
    match broken:
        case "depth":
            config["depth"] = 0
        case "weights":
            config["merge"] = {"kind": "rrf", "config": {"weights": [1.0]}}
        case "merge":
            parts.pop("merge")
        case "facts":
            parts["merge"] = {**parts["merge"], "facts": facts.table_NG[:3]}
        case "kind":
            config["merge"] = {"kind": "votes", "config": {}}
        case "sources":
            config["sources"] = []
        case "trees":
            config["merge"] = {"kind": "learned", "config": {"ranker": "trees", "features": names}}
    with pytest.raises(BundleError):
        HybridSource.load("hybrid", config, parts)


def test_more_answers_than_the_depth_are_found():
    source = hybrid(popular("one", 5), depth=3)
    queries = asked([1], k=N + 2)
    found = source.search(queries)
    assert (found.items_BK[0] >= 0).sum() == N and found.items_BK[0, N:].tolist() == [-1, -1]
    assert replace(queries, k=2).k == 2
