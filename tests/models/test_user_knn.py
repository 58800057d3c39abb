"""User neighbours against a comparison with every user."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import BundleError, ConfigError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.kernels.similar_users import sums_by_users_reference
from leanrec.kernels.similarity import SIMILARITIES
from leanrec.models.user_knn import UserKNN
from leanrec.runtime.sources.similar_users import SimilarUsersSource

from .contract import ModelContract
from .test_item_knn import weights
from .worlds import shop


class TestUserKNN(ModelContract):
    model = "user-knn"


class TestUserKNNWithSettings(ModelContract):
    model = "user-knn"
    settings = {"similarity": "tf-idf", "users": 7, "shrinkage": 0.5, "window": 6}  # noqa: RUF012


def counted(rows: Jagged, num_items: int, window: int) -> np.ndarray:
    counts_BN = np.zeros((len(rows), num_items))
    for row, items in enumerate(rows):
        np.add.at(counts_BN[row], items[-window:], 1)
    return counts_BN


@st.composite
def worlds(draw):
    num_items = draw(st.integers(1, 9))
    row = st.lists(st.integers(0, num_items - 1), max_size=8)
    rows = draw(st.lists(row, min_size=1, max_size=8).filter(any))
    asked = draw(st.lists(row, min_size=1, max_size=4))
    model = UserKNN(
        similarity=draw(st.sampled_from(SIMILARITIES)), users=draw(st.integers(1, 9)),
        shrinkage=draw(st.sampled_from([0.0, 2.5])), window=draw(st.sampled_from([3, 2000])),
    )  # fmt: skip
    return Jagged.from_rows(rows), Jagged.from_rows(asked), num_items, model


def query_weights(counts_UN: np.ndarray, counts_N: np.ndarray, similarity: str) -> tuple[np.ndarray, float]:
    """Of one history as a document beside those of all users, written out from the definitions."""
    had_UN = counts_UN > 0
    idf_N = np.log(len(counts_UN)) - np.log1p(had_UN.sum(axis=0))
    if similarity == "tf-idf":
        weights_N = np.sqrt(counts_N) * idf_N
        return weights_N, float((weights_N**2).sum())
    if similarity == "bm25":
        length = counts_N.sum() / (counts_UN.sum() / len(counts_UN))
        return counts_N * 2.2 / (counts_N + 1.2 * (0.25 + 0.75 * length)) * idf_N, 1.0
    return (counts_N > 0).astype(float), float((counts_N > 0).sum())


@given(worlds())
@settings(max_examples=150, deadline=None)
def test_scores_equal_a_comparison_with_every_user(world):
    train, asked, num_items, model = world
    config = model.config
    source = model._source(train, num_items, config.similarity, config.users)
    counts_UN = counted(train, num_items, config.window)
    counts_UN = counts_UN[counts_UN.any(axis=1)]
    weights_NU, norms_U = weights(counts_UN.T, config.similarity)
    every = Jagged.from_rows([range(num_items)] * len(asked))
    scores_BN = source.score(Queries(asked, 1), every).reshape(len(asked), num_items)
    hits = source.search(Queries(asked, num_items, asked))
    for row, counts_N in enumerate(counted(asked, num_items, config.window)):
        weights_N, norm = query_weights(counts_UN, counts_N, config.similarity)
        similar = sums_by_users_reference(
            weights_N, norm, weights_NU.T, norms_U, counts_UN > 0, len(counts_UN), config.shrinkage,
            jaccard=config.similarity == "jaccard",
        )  # fmt: skip
        if config.users >= len(counts_UN):
            np.testing.assert_allclose(scores_BN[row], similar, rtol=1e-5, atol=1e-7)
        assert (scores_BN[row] <= similar * (1 + 1e-5) + 1e-7).all()
        open_N = scores_BN[row] > 0
        open_N[asked[row]] = False
        expected = [item for item in np.lexsort((np.arange(num_items), -scores_BN[row])) if open_N[item]]
        assert hits.items_BK[row].tolist() == expected + [-1] * (num_items - len(expected))


def test_only_the_nearest_users_count():
    train = Jagged.from_rows([[0, 1, 2], [0, 1, 3], [0, 4], [5]])
    source = UserKNN()._source(train, 6, "jaccard", 2)
    scores_N = source.score(Queries(Jagged.from_rows([[0, 1]]), 1), Jagged.from_rows([range(6)]))
    np.testing.assert_allclose(scores_N, [4 / 3, 4 / 3, 2 / 3, 2 / 3, 0, 0], rtol=1e-6)


def test_bundle_holds_no_user():
    recommender = UserKNN().fit(shop())
    assert recommender.users is None and not recommender.source.personal
    assert set(recommender.source.parts()["users"]) == {"offsets", "items", "counts", "idf"}


def test_what_is_chosen_is_said(capsys):
    card = UserKNN().fit(shop()).card["config"]
    assert card["similarity"] in SIMILARITIES and card["users"] in (500, 200, 50)
    assert f"user-knn (defaults 1): similarity={card['similarity']}" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"users": 0}, {"shrinkage": -1}, {"window": 0}, {"similarity": "cosinus"}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        UserKNN(**settings)


def broken():
    def arrays(**changed):
        good = {
            "offsets": np.array([0, 1, 2], np.int64), "items": np.array([1, 0], np.int32),
            "counts": np.array([1, 1], np.int32), "idf": np.ones(2, np.float32),
        }  # fmt: skip
        return {"users": {**good, **changed}}

    config = {"similarity": "cosine", "mean_events": 1.0, "users": 3, "shrinkage": 0.0, "window": 10}
    yield config, {}
    yield {}, arrays()
    yield {**config, "users": 0}, arrays()
    yield {**config, "window": "all"}, arrays()
    yield {**config, "similarity": "cosinus"}, arrays()
    yield {**config, "mean_events": float("nan")}, arrays()
    yield config, arrays(items=np.array([1, 2], np.int32))
    yield config, arrays(items=np.array([1, 0], np.int64))
    yield config, arrays(offsets=np.array([0, 3, 2], np.int64))
    yield config, arrays(counts=np.array([1], np.int32))
    yield config, arrays(counts=np.array([1, 0], np.int32))
    yield config, arrays(idf=np.array([1, np.nan], np.float32))


@pytest.mark.parametrize(("config", "parts"), list(broken()))
def test_bundles_that_point_outside_are_refused(config, parts):
    with pytest.raises(BundleError, match="'user-knn' is broken"):
        SimilarUsersSource.load("user-knn", config, parts)
