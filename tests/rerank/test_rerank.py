"""Re-rankers: what all of them promise, and each against brute force or its own rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.config import build
from leanrec.core.errors import ConfigError
from leanrec.core.ids import Vocabulary
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Hits, Queries
from leanrec.core.tensors import serialize
from leanrec.rerank import RERANKERS, Catalogue, Reranker
from leanrec.rerank.base import relevance

ITEMS, DAY = 30, 86_400.0
SETTINGS: dict[str, dict[str, Any]] = {
    "mmr": {"diversity": 0.4},
    "dpp": {"diversity": 0.4, "by": "vectors"},
    "calibrated": {"column": "genres"},
    "freshness": {},
    "rules": {"rules": [{"column": "brand", "values": ["b1"], "by": 0.3}]},
    "block": {"items": ["i3", "nobody"]},
    "caps": {"column": "brand", "at_most": 2},
}


def catalogue() -> Catalogue:
    random = np.random.default_rng(0)
    genres = [[f"g{n % 3}"] if n % 5 else [f"g{n % 3}", "g3"] for n in range(ITEMS)]
    attributes = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(ITEMS)],
            "genres": [None if n == 7 else row for n, row in enumerate(genres)],
            "brand": [f"b{n % 4}" for n in range(ITEMS)],
            "since": [float(n) for n in range(ITEMS)],
        }
    )
    events = Jagged.from_rows([random.integers(0, ITEMS - 2, 12) for _ in range(20)])
    times = Jagged(np.sort(random.random(240)) * 100 * DAY, events.offsets)
    return Catalogue(
        items=Vocabulary([f"i{n}" for n in range(ITEMS)]), events=events, times=times, attributes=attributes,
        vectors_ND=random.standard_normal((ITEMS, 6)).astype(np.float32),
    )  # fmt: skip


def made(kind: str, **more: Any) -> Reranker:
    cls = RERANKERS[kind]
    return cls.fit(build(cls.Options, {**SETTINGS[kind], **more}), catalogue())


def pools(batch: int, width: int, seed: int = 0, *, equal: bool = False) -> Hits:
    """Canonical pools: falling scores, equal ones by rising row, empty places at the end of the second."""
    random = np.random.default_rng(seed)
    items = np.stack([random.permutation(ITEMS)[:width] for _ in range(batch)]).astype(np.int32)
    scores = random.integers(0, 3 if equal else 1000, (batch, width)).astype(np.float32)
    for row in range(batch):
        order = np.lexsort((items[row], -scores[row]))
        items[row], scores[row] = items[row][order], scores[row][order]
    if batch > 1:
        items[1, width // 2 :], scores[1, width // 2 :] = -1, -np.inf
    return Hits(items, scores, np.zeros(items.shape, np.int8))


def queries(batch: int, k: int = 10) -> Queries:
    random = np.random.default_rng(1)
    return Queries(Jagged.from_rows([random.integers(0, ITEMS, n % 4 * 3) for n in range(batch)]), k)


@pytest.mark.parametrize("kind", list(SETTINGS))
class TestEveryReranker:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 1000), k=st.integers(1, 25), equal=st.booleans())
    def test_promises_of_hits_hold(self, kind, seed, k, equal):
        pool, reranker = pools(4, 20, seed, equal=equal), _made(kind)
        found = reranker.rerank(pool, queries(4), k)
        assert found.items_BK.shape == pool.items_BK.shape and found.items_BK.dtype == np.int32
        for before, items, scores in zip(pool.items_BK, found.items_BK, found.scores_BK, strict=True):
            filled = items >= 0
            assert np.array_equal(filled, np.sort(filled)[::-1])
            kept = items[filled].tolist()
            assert len(set(kept)) == len(kept) and set(kept) <= set(before[before >= 0].tolist())
            assert np.isfinite(scores[filled]).all() and (scores[~filled] == -np.inf).all()
            assert np.array_equal(np.lexsort((items[filled], -scores[filled])), np.arange(filled.sum()))

    def test_longer_lists_begin_with_shorter_ones(self, kind):
        pool, reranker = pools(4, 20), made(kind)
        short, long = (reranker.rerank(pool, queries(4), k) for k in (4, 12))
        assert np.array_equal(short.items_BK[:, :4], long.items_BK[:, :4])
        assert np.array_equal(short.scores_BK[:, :4], long.scores_BK[:, :4])

    def test_batch_equals_single(self, kind):
        pool, asked, reranker = pools(4, 20), queries(4), made(kind)
        together = reranker.rerank(pool, asked, 8)
        for row in range(4):
            one = Hits(pool.items_BK[row : row + 1], pool.scores_BK[row : row + 1])
            alone = reranker.rerank(one, asked.take(np.array([row])), 8)
            assert np.array_equal(alone.items_BK[0], together.items_BK[row])
            assert np.array_equal(alone.scores_BK[0], together.scores_BK[row])

    def test_stored_and_loaded_is_equal(self, kind):
        reranker = made(kind)
        assert serialize(reranker.tensors())
        again = RERANKERS[kind].load(reranker.config(), reranker.tensors(), ITEMS)
        one, other = (each.rerank(pools(4, 20), queries(4), 8) for each in (reranker, again))
        assert np.array_equal(one.items_BK, other.items_BK)
        with pytest.raises((ValueError, KeyError)):
            RERANKERS[kind].load(reranker.config(), reranker.tensors(), ITEMS + 1)

    def test_nothing_to_rank_is_nothing_ranked(self, kind):
        found = made(kind).rerank(Hits.none(2, 5), queries(2), 5)
        assert (found.items_BK == -1).all() and (found.scores_BK == -np.inf).all()


_KEPT: dict[str, Reranker] = {}


def _made(kind: str) -> Reranker:
    """Once for all examples."""
    return _KEPT.setdefault(kind, made(kind))


def cosines(items: list[int], by: str = "vectors") -> np.ndarray:
    vectors = catalogue().vectors_ND[items].astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def test_mmr_is_its_definition():
    pool = pools(1, 15)
    gains, alike = relevance(pool)[0], cosines(pool.items_BK[0].tolist())
    chosen: list[int] = []
    for _ in range(8):
        left = [m for m in range(15) if m not in chosen]
        marginal = [0.6 * gains[m] - 0.4 * max((alike[m, c] for c in chosen), default=0.0) for m in left]
        chosen.append(left[int(np.argmax(marginal))])
    assert made("mmr").rerank(pool, queries(1), 8).items_BK[0, :8].tolist() == pool.items_BK[0, chosen].tolist()


def test_dpp_is_greedy_by_determinants():
    pool = pools(1, 12)
    quality = np.exp(0.6 / 0.8 * relevance(pool)[0])
    kernel = quality[:, None] * quality * (1 + cosines(pool.items_BK[0].tolist())) / 2
    chosen: list[int] = []
    for _ in range(6):
        left = [m for m in range(12) if m not in chosen]
        volumes = [np.linalg.det(kernel[np.ix_([*chosen, m], [*chosen, m])]) for m in left]
        chosen.append(left[int(np.argmax(volumes))])
    assert made("dpp").rerank(pool, queries(1), 6).items_BK[0, :6].tolist() == pool.items_BK[0, chosen].tolist()


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_lists_get_less_alike_as_diversity_counts_more(kind):
    pool, inside = pools(6, 25), []
    for diversity in (0.05, 0.5, 0.95):
        found = made(kind, diversity=diversity, by="vectors").rerank(pool, queries(6), 6)
        rows = [row[row >= 0][:6].tolist() for row in found.items_BK]
        inside.append(np.mean([cosines(row)[np.triu_indices(len(row), 1)].mean() for row in rows]))
    assert inside[0] > inside[1] > inside[2]


def test_calibrated_is_greedy_by_steck():
    pool, history = pools(1, 12), np.array([1, 4, 10, 2, 5], np.int32)
    genres = [row or [] for row in catalogue().attributes["genres"].to_list()]

    def shares(items: list[int]) -> dict[str, float]:
        sums: dict[str, float] = {}
        rows = [genres[item] for item in items if genres[item]]
        for row in rows:
            for genre in row:
                sums[genre] = sums.get(genre, 0.0) + 1 / len(row) / len(rows)
        return sums

    wanted, gains = shares(history.tolist()), relevance(pool)[0]

    def value(places: list[int]) -> float:
        there = shares([int(pool.items_BK[0, place]) for place in places])
        apart = sum(p * math.log(p / (0.99 * there.get(g, 0.0) + 0.01 * p)) for g, p in wanted.items())
        return 0.5 * sum(gains[place] for place in places) - 0.5 * apart

    chosen: list[int] = []
    for _ in range(6):
        left = [m for m in range(12) if m not in chosen]
        chosen.append(max(left, key=lambda m: (round(value([*chosen, m]), 9), -m)))
    found = made("calibrated").rerank(pool, Queries(Jagged.from_rows([history]), 6), 6)
    assert found.items_BK[0, :6].tolist() == pool.items_BK[0, chosen].tolist()


def test_calibrated_brings_every_taste_of_the_history():
    """A history of two thirds one genre and a third another, a pool led by the first alone."""
    items = np.array([[0, 3, 6, 9, 12, 1, 4, 13, 16]], np.int32)
    pool = Hits(items, np.linspace(1, 0.6, 9, dtype=np.float32)[None])
    history = Queries(Jagged.from_rows([[18, 21, 24, 27, 19, 22]]), 6)
    plain = [catalogue().attributes["genres"][int(item)][0] for item in items[0, :5]]
    found = made("calibrated", weight=0.9).rerank(pool, history, 6).items_BK[0, :6]
    genres = [catalogue().attributes["genres"][int(item)][0] for item in found]
    assert set(plain) == {"g0"} and genres.count("g1") == 2 and genres.count("g0") == 4


def test_freshness_lifts_new_items():
    pool = pools(1, 20)
    found = made("freshness", weight=1.0, half_life=10.0).rerank(pool, queries(1), 20).items_BK[0]
    facts = catalogue()
    first = {item: min(facts.times.values[facts.events.values == item], default=math.inf) for item in found.tolist()}
    unseen = [item for item in found.tolist() if first[item] == math.inf]
    seen = [first[item] for item in found.tolist() if first[item] < math.inf]
    assert set(found[: len(unseen)].tolist()) == set(unseen) and seen == sorted(seen, reverse=True)
    untouched = made("freshness", weight=0.0).rerank(pool, queries(1), 20)
    assert np.array_equal(untouched.items_BK, pool.items_BK)
    by_column = made("freshness", weight=1.0, half_life=0.0001, column="since").rerank(pool, queries(1), 20)
    assert by_column.items_BK.shape == pool.items_BK.shape


def test_rules_pin_bury_and_boost():
    pool = pools(1, 20)
    rules = [
        {"column": "brand", "values": ["b1"], "effect": "pin"}, {"column": "brand", "values": ["b2"], "effect": "bury"},
        {"column": "genres", "values": ["g1"], "by": 0.5},
    ]  # fmt: skip
    found = made("rules", rules=rules).rerank(pool, queries(1), 20).items_BK[0].tolist()
    brands = [item % 4 for item in found]
    places = {1: 0, 0: 1, 3: 1, 2: 2}
    assert [places[brand] for brand in brands] == sorted(places[brand] for brand in brands)
    gains = dict(zip(pool.items_BK[0].tolist(), relevance(pool)[0], strict=True))
    lifted = {item: gains[item] + 0.5 * (item % 3 == 1 and item != 7) for item in found}
    group = [lifted[item] for item in found if item % 4 in (0, 3)]
    assert group == sorted(group, reverse=True)


def test_blocked_items_are_no_candidates():
    assert made("block").allowed_N.tolist() == [n != 3 for n in range(ITEMS)]
    both = made("block", column="brand", values=["b0"])
    assert both.allowed_N.tolist() == [n % 4 != 0 and n != 3 for n in range(ITEMS)]
    assert 3 not in made("block").rerank(pools(3, 30), queries(3), 30).items_BK
    with pytest.raises(ConfigError, match="every item is blocked"):
        made("block", column="brand", values=["b0", "b1", "b2", "b3"])


def test_caps_are_kept_even_if_the_list_gets_shorter():
    pool = pools(1, 30)
    found = made("caps").rerank(pool, queries(1), 10).items_BK[0]
    assert (np.bincount(found[found >= 0] % 4) == 2).all() and (found >= 0).sum() == 8
    wide = made("caps", at_most=30).rerank(pool, queries(1), 30)
    assert np.array_equal(wide.items_BK, pool.items_BK)


def test_what_makes_items_alike_can_be_chosen():
    for by in ("users", "vectors", "genres", "brand"):
        vectors = made("mmr", by=by).vectors_ND
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        assert ((np.abs(lengths - 1) < 2e-3) | (lengths == 0)).all()
    brands = made("mmr", by="brand").vectors_ND
    assert brands[0] @ brands[4] == 1 and brands[0] @ brands[1] == 0


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("calibrated", {"column": "genre"}, "did you mean 'genres'"),
        ("caps", {"at_most": 0}, "at_most must be at least 1"),
        ("mmr", {"diversity": 2}, "diversity must be between 0 and 1"),
        ("freshness", {"column": "brand"}, "not a number of Unix seconds"),
        ("rules", {"rules": [{"column": "brand", "values": ["x"], "effect": "burry"}]}, "burry"),
        ("block", {"values": ["x"]}, "go together"),
    ],
)
def test_impossible_settings_are_named(kind, more, message):
    with pytest.raises(ConfigError, match=message):
        made(kind, **more)
