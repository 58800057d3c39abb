"""MF: the contract on rated data, half steps by brute force, and the error on held-out ratings."""

from __future__ import annotations

import dataclasses
import os
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries, Request
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.ratings import rating_metrics
from leanrec.models.mf import MF, MFConfig, _rated
from leanrec.models.mf_factors import Ratings, alternate

from .contract import ModelContract
from .worlds import ITEMS, shop

BENCH_DATA = Path(os.environ.get("LEANREC_BENCH_DATA", Path(__file__).parents[3] / "shared" / "data"))


@cache
def rated_shop() -> Dataset:
    """The shop, where what is bought more is liked more, and some users are strict."""
    data = shop()
    rng = np.random.default_rng(1)
    items_T, users_T = data.interactions.items.values, data.interactions.items.row_of()
    names = data.items.ids(items_T)
    rank_T = np.array([int(name.removeprefix("item")) // 2 if name.startswith("item") else 10 for name in names])
    values_T = 5 - 6 * rank_T / ITEMS - (users_T % 3 == 0) + rng.normal(0, 0.3, len(items_T))
    rated = dataclasses.replace(data.interactions, values=values_T.astype(np.float32))
    return dataclasses.replace(data, interactions=rated, fingerprint="")


class TestMF(ModelContract):
    model = "mf"

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls) -> Dataset:
        return rated_shop()

    def test_knows_its_users(self, data, fitted):
        """Their trained vector answers, and scores are predicted ratings, bit for bit those of the ranking."""
        cases = data.cases("test")
        hits, _ = fitted.rank(cases.histories, 5, users=cases.users)
        folded, _ = fitted.rank(cases.histories, 5)
        assert not np.array_equal(hits.scores_BK, folded.scores_BK)
        found = Jagged.from_rows([row[row >= 0] for row in hits.items_BK])
        scores_T = fitted.source.score(Queries(cases.histories, 1, users=cases.users), found)
        assert np.array_equal(scores_T, hits.scores_BK[hits.items_BK >= 0])
        assert 0 < np.median(scores_T) < 6
        known = fitted.answer([Request(user_id=data.users.ids()[0], k=3)])[0]
        assert known.item_ids and not known.degraded


class TestMFWithSettings(TestMF):
    settings = {"factors": 3, "regularisation": 2.0, "exponent": 0.5, "iterations": 4}  # noqa: RUF012


def trained_on(data: Dataset) -> Ratings:
    return Ratings.of(*_rated(data, refit=False), len(data.items))


def dense_half_step(rated, residuals_T, table_ND, config):
    """Ridge regression with the bias as a variable of its own penalty, row by row."""
    vectors, biases = [], []
    for b, columns in enumerate(rated):
        rows = np.append(table_ND[columns].astype(np.float64), np.ones((len(columns), 1)), axis=1)
        grow = max(len(columns), 1) ** config.exponent
        penalty = np.diag([*[config.regularisation] * table_ND.shape[1], config.bias_regularisation]) * grow
        targets = residuals_T[rated.offsets[b] : rated.offsets[b + 1]]
        found = np.linalg.solve(rows.T @ rows + penalty, rows.T @ targets)
        vectors.append(found[:-1])
        biases.append(found[-1])
    return np.asarray(vectors, np.float32), np.asarray(biases)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_iterations_equal_dense_ridge_regressions(exponent):
    ratings = trained_on(rated_shop())
    config = MFConfig(factors=3, regularisation=1.5, bias_regularisation=0.4, exponent=exponent, iterations=3)
    items_ND = np.random.default_rng(7).standard_normal((len(ratings.items), 3), np.float32) * np.float32(0.1)
    biases_N = np.zeros(len(ratings.items))
    for found in alternate(ratings, config, seed=7):
        residuals_T = ratings.users_T - ratings.mean - biases_N[ratings.users.values]
        users_UD, biases_U = dense_half_step(ratings.users, residuals_T, items_ND, config)
        residuals_T = ratings.items_T - ratings.mean - biases_U[ratings.items.values]
        items_ND, biases_N = dense_half_step(ratings.items, residuals_T, users_UD, config)
        np.testing.assert_allclose(found.biases_U, biases_U, atol=1e-5)
        np.testing.assert_allclose(found.biases_N, biases_N, atol=1e-5)
        np.testing.assert_allclose(found.users_UD @ found.items_ND.T, users_UD @ items_ND.T, atol=1e-5)


def predictions(model, data, on):
    """Held-out ratings and what the model's source says of them."""
    events, code = data.interactions, {"valid": 1, "test": 2}[on]
    held = events.items.where(events.split == code)
    users = np.arange(len(held), dtype=np.int32)
    scores_T = model.source.score(Queries(data.known(on), 1, users=users), held)
    return events.values[events.split == code], scores_T


def test_predicts_better_than_the_mean():
    data = rated_shop()
    ratings_T, scores_T = predictions(MF().fit(data), data, "test")
    error = rating_metrics(ratings_T, scores_T)["rmse"]
    assert error < 0.75 * rating_metrics(ratings_T, np.full(len(ratings_T), ratings_T.mean()))["rmse"]


def test_data_without_ratings_is_refused():
    with pytest.raises(InputError, match="shop has no ratings to train mf on: prepare it with --value-col"):
        MF().fit(shop())


def test_events_without_a_rating_are_left_out():
    data = rated_shop()
    values = data.interactions.values.copy()
    values[::3] = np.nan
    partly = dataclasses.replace(data.interactions, values=values)
    ratings = trained_on(dataclasses.replace(data, interactions=partly, fingerprint=""))
    assert len(ratings.users_T) == (np.isfinite(values) & (data.interactions.split == 0)).sum()


def test_settings_that_are_given_stay_and_others_are_chosen(capsys):
    data = rated_shop()
    assert MF(regularisation=2.0).fit(data).card["config"]["regularisation"] == 2.0
    assert capsys.readouterr().err == ""
    assert MF().fit(data).card["config"]["regularisation"] in (10.0, 5.0, 20.0, 40.0)
    assert "mf (defaults 1): regularisation=" in capsys.readouterr().err


def test_refit_learns_from_validation_too():
    data = rated_shop()
    once, again = (MF(factors=4).fit(data, refit=refit) for refit in (False, True))
    assert not np.array_equal(once.source.index.items_ND, again.source.index.items_ND)
    assert evaluate(again, data, on="test", k=10).rows[0].metrics["recall@10"] > 0


def test_partial_fit_moves_only_what_has_new_ratings():
    data = rated_shop()
    model = MF(factors=3, regularisation=2.0, iterations=4)
    before = model.fit(data)
    rows = [("user1", "item1", 1.0), ("user1", "fresh", 5.0), ("stranger", "fresh", 4.5), ("stranger", "item3", 2.0)]
    events = prepare(pl.DataFrame(rows, schema=["user_id", "item_id", "value"], orient="row"), split="random:0.5,0,0.5")
    all_train = dataclasses.replace(events.interactions, split=np.zeros(len(events.interactions), np.uint8))
    after = model.partial_fit(before, dataclasses.replace(events, interactions=all_train))
    old, new = before.learned.factors, after.learned.factors
    ratings = Ratings.of(after.learned.events, after.learned.ratings_T, len(after.items), before.learned.mean)
    assert len(ratings.users_T) == len(before.learned.ratings_T) + len(rows)
    config = MFConfig(factors=3, regularisation=2.0)
    grown = old.grown(len(after.users), len(after.items))
    residuals_T = ratings.users_T - ratings.mean - grown.biases_N[ratings.users.values]
    users_UD, biases_U = dense_half_step(ratings.users, residuals_T, grown.items_ND, config)
    moved = after.users.rows(["user1", "stranger"])
    np.testing.assert_allclose(new.users_UD[moved], users_UD[moved], atol=1e-5)
    np.testing.assert_allclose(new.biases_U[moved], biases_U[moved], atol=1e-5)
    stay = np.setdiff1d(np.arange(len(data.users)), moved)
    assert np.array_equal(new.users_UD[stay], old.users_UD[stay])
    residuals_T = ratings.items_T - ratings.mean - new.biases_U[ratings.items.values]
    items_ND, _ = dense_half_step(ratings.items, residuals_T, new.users_UD, config)
    moved = after.items.rows(["item1", "fresh", "item3"])
    np.testing.assert_allclose(new.items_ND[moved], items_ND[moved], atol=1e-5)
    stay = np.setdiff1d(np.arange(len(data.items)), moved)
    assert np.array_equal(new.items_ND[stay], old.items_ND[stay])
    known = after.answer([Request(user_id="stranger", k=3)])[0]
    assert known.item_ids and not known.degraded


@pytest.mark.parametrize(
    "settings", [{"factors": 0}, {"regularisation": 0}, {"bias_regularisation": -1}, {"exponent": -1}, {"patience": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        MF(**settings)


def test_error_on_movielens():
    """A random tenth held out: biases and factors of this kind are published at an RMSE of about .87."""
    log = BENCH_DATA / "ml-latest-small" / "interactions.parquet"
    if not log.exists():
        pytest.skip(f"{log} is not there")
    data = prepare(log, split="random:0.8,0.1,0.1")
    ratings_T, scores_T = predictions(MF().fit(data, refit=True), data, "test")
    found = rating_metrics(ratings_T, scores_T)
    assert found["rmse"] < 0.87 and found["mae"] < 0.67
