"""Item neighbours against a dense brute force, and what is chosen from the data."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.dataset import Dataset
from leanrec.kernels.neighbours import similarities_reference, sums_reference
from leanrec.kernels.similarity import SIMILARITIES
from leanrec.models import judges, neighbourhood
from leanrec.models.item_knn import ItemKNN, ItemKNNConfig, _fit
from leanrec.runtime.sources.neighbours import NeighbourSource

from .contract import ModelContract
from .worlds import shop


class TestItemKNN(ModelContract):
    model = "item-knn"


class TestItemKNNWithSettings(ModelContract):
    model = "item-knn"
    settings = {  # noqa: RUF012
        "similarity": "bm25", "neighbours": 3, "half_life": 2, "shrinkage": 1.5, "window": 4,
    }  # fmt: skip


class TestAsymmetricItemKNN(ModelContract):
    model = "item-knn"
    settings = {"similarity": "asymmetric", "neighbours": 5, "user_power": 1.0, "asymmetry": 0.6}  # noqa: RUF012


def weights(counts_UN: np.ndarray, similarity: str) -> tuple[np.ndarray, np.ndarray]:
    """(U, N) weights and (N,) norms of items as documents of users, written out from the definitions."""
    had_UN = counts_UN > 0
    idf_U = np.log(counts_UN.shape[1]) - np.log1p(had_UN.sum(axis=1, keepdims=True))
    if similarity == "tf-idf":
        weights_UN = np.sqrt(counts_UN) * idf_U
        return weights_UN, (weights_UN**2).sum(axis=0)
    if similarity == "bm25":
        length_N = counts_UN.sum(axis=0) / (counts_UN.sum() / counts_UN.shape[1] or 1)
        weights_UN = counts_UN * 2.2 / (counts_UN + 1.2 * (0.25 + 0.75 * length_N) + (counts_UN == 0)) * idf_U
        return weights_UN, np.ones(counts_UN.shape[1])
    return had_UN.astype(float), had_UN.sum(axis=0).astype(float)


def asymmetric(had_UN: np.ndarray, config: ItemKNNConfig) -> np.ndarray:
    """(N, N) from each item of a history (rows) to each other one, written out from the definition."""
    users_N, items_U = had_UN.sum(axis=0), np.maximum(had_UN.sum(axis=1), 1)
    full_NN = np.zeros((len(users_N), len(users_N)))
    for i, j in np.argwhere(had_UN.T.astype(int) @ had_UN.astype(int)):
        shared = (items_U[had_UN[:, i] & had_UN[:, j]] ** -float(config.user_power)).sum()
        base = users_N[i] ** config.asymmetry * users_N[j] ** (1 - config.asymmetry)
        full_NN[i, j] = shared / (base + config.shrinkage)
    return full_NN


def dense(train: Jagged, num_items: int, k: int, config: ItemKNNConfig, similarity: str = "cosine") -> np.ndarray:
    """(N, N) similarities of each item to itself and its k nearest, 0 elsewhere: by sorting everything."""
    kept_NN = unscaled(train, num_items, k, config, similarity)
    if similarity == "asymmetric" and config.normalised:
        squares_NN = np.where(np.eye(num_items, dtype=bool), 0, kept_NN.astype(np.float64) ** 2)
        lengths_N1 = np.sqrt(squares_NN.sum(axis=1, keepdims=True))
        kept_NN = kept_NN / np.where(lengths_N1 > 0, lengths_N1, 1)
    return kept_NN


def unscaled(train: Jagged, num_items: int, k: int, config: ItemKNNConfig, similarity: str) -> np.ndarray:
    """The same before lists are brought to length 1."""
    counts_UN = np.zeros((len(train), num_items))
    for user, items in enumerate(train):
        np.add.at(counts_UN[user], items[-config.window :], 1)
    if similarity == "asymmetric":
        full_NN = asymmetric(counts_UN > 0, config)
    else:
        weights_UN, norms_N = weights(counts_UN, similarity)
        full_NN = similarities_reference(weights_UN, norms_N, config.shrinkage, jaccard=similarity == "jaccard")
    full_NN = full_NN.astype(np.float32)
    kept_NN = np.zeros_like(full_NN)
    for item, row in enumerate(full_NN):
        others = [j for j in np.lexsort((np.arange(num_items), -row)) if j != item and row[j] > 0][:k]
        kept_NN[item, others] = row[others]
        kept_NN[item, item] = row[item]
    return kept_NN


def as_dense(source: NeighbourSource) -> np.ndarray:
    kept_NN = np.diag(source.selves_N)
    kept_NN[source.neighbours.row_of(), source.neighbours.values] = source.similarities
    return kept_NN


@st.composite
def logs(draw):
    num_items = draw(st.integers(1, 9))
    rows = draw(st.lists(st.lists(st.integers(0, num_items - 1), max_size=8), min_size=1, max_size=8))
    config = ItemKNNConfig(
        shrinkage=draw(st.sampled_from([0.0, 2.5])),
        window=draw(st.sampled_from([3, 2000])),
        half_life=draw(st.sampled_from([0.0, 0.5, 4.0])),
        neighbours=draw(st.integers(1, 10)),
        similarity=draw(st.sampled_from((*SIMILARITIES, "asymmetric"))),
        user_power=draw(st.sampled_from([0.0, 0.5, 1.0])),
        asymmetry=draw(st.sampled_from([0.0, 0.3, 0.75, 1.0])),
        normalised=draw(st.booleans()),
    )
    return Jagged.from_rows(rows), num_items, config


@given(logs(), st.integers(1, 12), st.booleans(), st.integers(0, 2**9 - 1))
@settings(max_examples=150, deadline=None)
def test_answers_equal_a_dense_brute_force(log, k, excluding, allowed_bits):
    train, num_items, config = log
    fitted = _fit(train, num_items, config.neighbours, config.similarity, config)
    full_NN = unscaled(train, num_items, num_items, config, config.similarity)
    raw_NN = as_dense(ItemKNN(config)._source(fitted, config.half_life, "cosine"))
    np.testing.assert_allclose(raw_NN[raw_NN != 0], full_NN[raw_NN != 0], rtol=1e-5)
    source = ItemKNN(config)._source(fitted, config.half_life, config.similarity)
    kept_NN = as_dense(source)
    # Ties to rounding may be cut differently: what was kept is as similar as what should have been.
    best_NN = dense(train, num_items, config.neighbours, config, config.similarity)
    np.testing.assert_allclose(np.sort(kept_NN, axis=1), np.sort(best_NN, axis=1), rtol=1e-5)
    allowed_N = np.array([allowed_bits >> i & 1 for i in range(num_items)], bool) if allowed_bits else None
    hits = source.search(Queries(train, k, train if excluding else None, allowed_N))
    ages = np.arange(config.window)
    weights_L = 0.5 ** (ages / config.half_life) if config.half_life else np.ones(config.window)
    every = Jagged.from_rows([range(num_items)] * len(train))
    scores_BN = source.score(Queries(train, 1), every).reshape(len(train), num_items)
    for row, history in enumerate(train):
        sums_N = sums_reference(history, weights_L, kept_NN).astype(np.float32)
        np.testing.assert_allclose(scores_BN[row], sums_N, rtol=1e-6)
        open_N = (scores_BN[row] > 0) & (np.ones(num_items, bool) if allowed_N is None else allowed_N)
        if excluding:
            open_N[history] = False
        expected = [j for j in np.lexsort((np.arange(num_items), -scores_BN[row])) if open_N[j]][:k]
        assert hits.items_BK[row].tolist() == expected + [-1] * (k - len(expected))
        assert hits.scores_BK[row, : len(expected)].tolist() == scores_BN[row, expected].tolist()


@pytest.mark.parametrize("similarity", ["cosine", "asymmetric"])
def test_larger_data_equals_the_brute_force_on_any_number_of_threads(monkeypatch, similarity):
    rng = np.random.default_rng(0)
    num_items = 300
    train = Jagged.from_rows([np.minimum(rng.zipf(1.3, rng.integers(0, 60)), num_items) - 1 for _ in range(200)])
    config = ItemKNNConfig(shrinkage=1.0, user_power=0.5, asymmetry=0.75)
    found = {}
    for threads in (1, 4):
        monkeypatch.setattr(neighbourhood.numba, "get_num_threads", lambda count=threads: count)
        found[threads] = _fit(train, num_items, 20, similarity, config)
    one, four = found[1], found[4]
    assert np.array_equal(one.lists.values, four.lists.values)
    assert np.array_equal(one.similarities, four.similarities)
    source = ItemKNN(config)._source(one, 0.0, similarity)
    np.testing.assert_allclose(as_dense(source), dense(train, num_items, 20, config, similarity), rtol=1e-6)
    nearest = one.nearest(5)
    expected_NN = dense(train, num_items, 5, config, similarity)
    np.testing.assert_allclose(as_dense(ItemKNN()._source(nearest, 0.0, similarity)), expected_NN, rtol=1e-6)


def test_events_too_old_to_count_leave_no_trace():
    """Weights that underflow to zero: nothing is touched twice, and scratch is clean for the next query."""
    rng = np.random.default_rng(1)
    train = Jagged.from_rows([rng.integers(0, 5, 1500) for _ in range(3)])
    config = ItemKNNConfig()
    source = ItemKNN(config)._source(_fit(train, 5, 4, "cosine", config), 0.5, "cosine")
    first = source.search(Queries(train, 5))
    assert (first.items_BK >= 0).all()
    assert np.array_equal(source.search(Queries(train, 5)).scores_BK, first.scores_BK)


def test_many_threads_may_search_at_once():
    source = ItemKNN(neighbours=10, half_life=3).fit(shop()).source
    histories = shop().cases("test").histories
    expected = source.search(Queries(histories, 8))
    different = []

    def ask() -> None:
        for _ in range(20):
            hits = source.search(Queries(histories, 8))
            if not np.array_equal(hits.scores_BK, expected.scores_BK):
                different.append(hits)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not different


def test_settings_that_are_given_stay_and_others_are_chosen(capsys):
    data = shop()
    given_both = ItemKNN(similarity="cosine", neighbours=7, half_life=2.0).fit(data)
    assert given_both.card["config"] == {
        "similarity": "cosine", "neighbours": 7, "half_life": 2.0, "user_power": 0.75, "asymmetry": 0.65,
        "normalised": True, "shrinkage": 0.0, "window": 2000,
    }  # fmt: skip
    assert given_both.source.half_life == 2.0
    assert given_both.source.neighbours.lengths.max() <= 7
    assert capsys.readouterr().err == ""
    chosen = ItemKNN(neighbours=7).fit(data).card["config"]
    assert chosen["neighbours"] == 7 and chosen["half_life"] in judges.HALF_LIVES
    assert "item-knn (defaults 3): similarity=" in capsys.readouterr().err


def test_without_an_order_all_events_count_alike():
    assert ItemKNN().fit(shop(times=False)).source.half_life is None


def test_without_validation_there_are_plain_defaults():
    chosen = ItemKNN().fit(shop(split="time:0.9,0,0.1")).card["config"]
    assert (chosen["neighbours"], chosen["half_life"]) == (100, 0.0)


def test_choosing_looks_at_no_user_who_certifies(monkeypatch):
    data = shop()
    asked = []
    cases = Dataset.cases

    def watched(self, on, users="all", **more):
        asked.append((on, users))
        return cases(self, on, users, **more)

    monkeypatch.setattr(Dataset, "cases", watched)
    ItemKNN().fit(data)
    assert set(asked) == {("valid", "tune")}


def test_refit_learns_from_validation_too():
    data = shop()
    once, again = (
        ItemKNN(similarity="cosine", neighbours=50, half_life=0).fit(data, refit=refit).source
        for refit in (False, True)
    )
    assert len(again.neighbours.values) > len(once.neighbours.values)
    np.testing.assert_allclose(
        as_dense(again), dense(data.train(True), len(data.items), 50, ItemKNNConfig()), rtol=1e-6
    )


def test_repeated_items_come_back_first_where_they_may():
    data = shop(repeats=True)
    hits, _ = ItemKNN(neighbours=50, half_life=1).fit(data).rank(Jagged.from_rows([[3, 3, 3]]), 1)
    assert hits.items_BK.tolist() == [[3]]


@pytest.mark.parametrize(
    "settings",
    [
        {"neighbours": 0},
        {"half_life": -1},
        {"shrinkage": float("nan")},
        {"window": 0},
        {"window": "many"},
        {"user_power": -1},
        {"asymmetry": 1.5},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ItemKNN(**settings)


def broken_parts():
    def arrays(**changed):
        good = {
            "offsets": np.array([0, 1, 2], np.int64),
            "items": np.array([1, 0], np.int32),
            "similarities": np.array([0.5, 0.5], np.float32),
            "selves": np.array([1, 1], np.float32),
        }
        return {"neighbours": {**good, **changed}}

    config = {"window": 10, "half_life": None}
    yield config, {}
    yield {}, arrays()
    yield {**config, "window": 0}, arrays()
    yield {**config, "window": 10**9}, arrays()
    yield {**config, "half_life": 0}, arrays()
    yield {**config, "half_life": "long"}, arrays()
    yield config, arrays(items=np.array([1, 2], np.int32))
    yield config, arrays(items=np.array([-1, 0], np.int32))
    yield config, arrays(items=np.array([1, 0], np.int64))
    yield config, arrays(offsets=np.array([0, 3, 2], np.int64))
    yield config, arrays(offsets=np.array([0, 2], np.int64))
    yield config, arrays(offsets=np.array([0, 1, 1], np.int64))
    yield config, arrays(similarities=np.array([0.5], np.float32))
    yield config, arrays(similarities=np.array([0.5, np.nan], np.float32))
    yield config, arrays(similarities=np.array([0.5, np.inf], np.float32))
    yield config, arrays(selves=np.array([1, np.inf], np.float32))
    yield config, arrays(selves=np.array([1, -1], np.float32))
    yield config, arrays(selves=np.ones((2, 1), np.float32))


@pytest.mark.parametrize(("config", "parts"), list(broken_parts()))
def test_bundles_that_point_outside_are_refused(config, parts):
    with pytest.raises(BundleError, match="'item-knn' is broken"):
        NeighbourSource.load("item-knn", config, parts)
