"""ALS: the contract, and half steps against the normal equations by brute force."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError, InputError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.data.prepare import prepare
from leanrec.kernels.als import half_step, half_step_reference, in_eigenbasis
from leanrec.models.als import ALS, ALSConfig, Pairs, alternate

from .contract import ModelContract
from .worlds import shop


class TestALS(ModelContract):
    model = "als"


class TestALSWithSettings(ModelContract):
    model = "als"
    settings = {"factors": 12, "unobserved": 0.3, "regularisation": 0.02, "exponent": 0.5}  # noqa: RUF012


def random_pairs(seed: int, users: int, items: int) -> Jagged:
    rng = np.random.default_rng(seed)
    return Jagged.from_rows([rng.choice(items, rng.integers(0, items), replace=False) for _ in range(users)])


def objective(pairs, users_UD, items_ND, unobserved, weights_U, weights_N):
    """Rendle et al. 2022, eq. 1 and 2, over the dense matrix."""
    scores_UN = users_UD @ items_ND.T
    had_UN = np.zeros(scores_UN.shape, bool)
    had_UN[pairs.users.row_of(), pairs.users.values] = True
    loss = ((scores_UN[had_UN] - 1) ** 2).sum() + unobserved * (scores_UN**2).sum()
    return loss + weights_U @ (users_UD**2).sum(axis=1) + weights_N @ (items_ND**2).sum(axis=1)


@given(st.integers(0, 200), st.integers(1, 9), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_a_half_step_solves_the_normal_equations(seed, items, dim):
    rng = np.random.default_rng(seed)
    observed = random_pairs(seed, 5, items)
    table_ND, weights_B = rng.standard_normal((items, dim)), rng.random(5) + 0.1
    turned_ND, spectrum_D = in_eigenbasis(table_ND)
    np.testing.assert_allclose(turned_ND @ turned_ND.T, table_ND @ table_ND.T, atol=1e-10)
    expected = half_step_reference(observed, turned_ND, 0.2, weights_B)
    for threads in (1, 2):
        found = half_step(observed, turned_ND, 0.2 * spectrum_D, weights_B, tolerance=1e-12, steps=100, threads=threads)
        np.testing.assert_allclose(found, expected, atol=1e-8)
    exact = half_step(
        observed, turned_ND.astype(np.float32), (0.2 * spectrum_D).astype(np.float32), weights_B,
        tolerance=1e-7, steps=100, threads=1,
    )  # fmt: skip
    np.testing.assert_allclose(exact, expected, atol=1e-3 * max(1.0, np.abs(expected).max()))


def test_whole_iterations_equal_dense_least_squares():
    """Five iterations by normal equations over the dense matrix in float64, to the rounding of float32."""
    pairs = Pairs.of(random_pairs(3, 20, 14), 14)
    config = ALSConfig(
        factors=4, unobserved=0.1, regularisation=0.05, exponent=0.7, iterations=5, steps=60, tolerance=1e-7
    )
    *_, factors = alternate(pairs, config, seed=0)
    items_ND = np.random.default_rng(0).standard_normal((14, 4), np.float32) * np.float32(0.1 / 4**0.5)
    for _ in range(5):
        users_UD = half_step_reference(pairs.users, items_ND, 0.1, 0.05 * (pairs.users.lengths + 0.1 * 14) ** 0.7)
        items_ND = half_step_reference(pairs.items, users_UD, 0.1, 0.05 * (pairs.items.lengths + 0.1 * 20) ** 0.7)
    found_NN = factors.items_ND.astype(np.float64) @ factors.items_ND.T
    np.testing.assert_allclose(found_NN, items_ND @ items_ND.T, atol=2e-5)


def test_each_iteration_lowers_the_objective():
    pairs = Pairs.of(random_pairs(5, 30, 20), 20)
    config = ALSConfig(factors=6, unobserved=0.2, regularisation=0.02, iterations=6, steps=50, tolerance=1e-6)
    weights_U = 0.02 * (pairs.users.lengths + 0.2 * 20)
    weights_N = 0.02 * (pairs.items.lengths + 0.2 * 30)
    losses = []
    for factors in alternate(pairs, config, seed=1):
        users_UD = half_step_reference(pairs.users, factors.items_ND, 0.2, weights_U)
        losses.append(objective(pairs, users_UD, factors.items_ND, 0.2, weights_U, weights_N))
    assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_what_is_served_is_the_next_half_step_of_training():
    data = shop()
    config = ALSConfig(factors=8, unobserved=0.1, regularisation=0.05, iterations=3)
    recommender = ALS(config).fit(data)
    source, train = recommender.source, data.train()
    pairs = Pairs.of(train, len(data.items))
    kept = np.flatnonzero(pairs.users.lengths)
    weights_U = 0.05 * (pairs.users.lengths + 0.1 * len(data.items))
    expected_UD = half_step_reference(pairs.users, source.index.items_ND, 0.1, weights_U)
    np.testing.assert_allclose(source.engine.encode(train.take(kept)), expected_UD[kept], rtol=1e-4, atol=1e-5)


def test_settings_that_are_given_stay_and_others_are_chosen(capsys):
    data = shop()
    given_all = ALS(factors=8, unobserved=0.1, regularisation=0.05, iterations=3).fit(data).card["config"]
    assert (given_all["factors"], given_all["unobserved"], given_all["regularisation"]) == (8, 0.1, 0.05)
    assert 1 <= given_all["iterations"] <= 3 and capsys.readouterr().err == ""
    chosen = ALS().fit(data).card["config"]
    assert chosen["factors"] == 64 and chosen["unobserved"] > 0 and chosen["regularisation"] > 0
    assert "als (defaults 1): factors=64 unobserved=" in capsys.readouterr().err


def test_scores_are_told_and_patience_ends_the_fit():
    told = []
    ALS(factors=8, patience=1, iterations=50).fit(shop(), on_score=lambda epoch, score: told.append((epoch, score)))
    assert [epoch for epoch, _ in told] == list(range(1, len(told) + 1)) and len(told) < 50
    assert max(score for _, score in told) > told[-1][1] or len(told) == 1


def test_without_validation_there_are_plain_defaults():
    config = ALS().fit(shop(split="time:0.9,0,0.1")).card["config"]
    assert config["regularisation"] == 0.003 and config["iterations"] == 6


def test_refit_learns_from_validation_too():
    data = shop()
    once, again = (ALS(factors=8).fit(data, refit=refit) for refit in (False, True))
    assert once.card["config"]["iterations"] == again.card["config"]["iterations"]
    assert not np.array_equal(once.source.index.items_ND, again.source.index.items_ND)


def test_new_users_are_folded_in():
    data = shop()
    source = ALS(factors=8).fit(data).source
    hits = source.search(Queries(Jagged.from_rows([[0, 2], []]), 5))
    assert (hits.items_BK[0] >= 0).all() and (hits.items_BK[1] == -1).all()


def all_train(data):
    split = np.zeros(len(data.interactions), np.uint8)
    return dataclasses.replace(data, interactions=dataclasses.replace(data.interactions, split=split))


def test_partial_fit_moves_only_items_with_new_events():
    data = shop()
    config = ALSConfig(factors=6, unobserved=0.1, regularisation=0.05, iterations=3, steps=60, tolerance=1e-7)
    model = ALS(config)
    before = model.fit(data)
    rows = [
        ("user1", "item1", 1.7e9),
        ("user1", "fresh", 1.7e9 + 1),
        ("stranger", "fresh", 1.7e9),
        ("user3", "fresh", 1.7e9),
    ]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    after = model.partial_fit(before, all_train(prepare(events, split="random:0.5,0,0.5")))
    fresh = after.items.row("fresh")
    assert fresh == len(data.items) and before.items.row("fresh") == -1
    old_ND, new_ND = before.source.index.items_ND, after.source.index.items_ND
    stay = np.setdiff1d(np.arange(len(data.items)), [data.items.row("item1")])
    np.testing.assert_allclose(new_ND[stay] @ new_ND[stay].T, old_ND[stay] @ old_ND[stay].T, atol=1e-5)
    pairs = Pairs.of(after.learned.events, len(after.items))
    table_ND = np.append(old_ND, np.zeros((1, 6), np.float32), axis=0)
    users_UD = half_step_reference(pairs.users, table_ND, 0.1, 0.05 * (pairs.users.lengths + 0.1 * len(after.items)))
    weights_N = 0.05 * (pairs.items.lengths + 0.1 * len(pairs.users))
    expected_ND = half_step_reference(pairs.items, users_UD, 0.1, weights_N)
    np.testing.assert_allclose(new_ND[stay] @ new_ND[fresh], old_ND[stay] @ expected_ND[fresh], atol=1e-4)
    likes_it = after.recommend(histories=[["fresh"]], k=3)["item_id"].to_list()
    assert likes_it == after.recommend(["stranger"], k=3)["item_id"].to_list()
    after.learned = None
    with pytest.raises(ConfigError, match="bundles do not hold the events"):
        model.partial_fit(after, data)


@pytest.mark.parametrize(
    "settings",
    [{"factors": 0}, {"unobserved": 0}, {"regularisation": -1}, {"exponent": -0.5}, {"steps": 0}, {"tolerance": 0}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ALS(**settings)


def test_nothing_to_learn_is_refused():
    data = shop()
    held_out = dataclasses.replace(data.interactions, split=np.full(len(data.interactions), 2, np.uint8))
    with pytest.raises(InputError, match="no training events"):
        ALS().fit(dataclasses.replace(data, interactions=held_out))
