"""EASE against its closed form written out, in both of its ways, and what is chosen from the data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError, MachineError
from leanrec.core.jagged import Jagged
from leanrec.core.nouns import Queries
from leanrec.kernels.ridge import invert_positive, weights_reference
from leanrec.models import ease, neighbourhood
from leanrec.models.ease import EASE
from leanrec.models.neighbourhood import Incidence
from leanrec.models.ridge import LinearSettings, closed_form, linear_source

from .contract import ModelContract
from .test_item_knn import as_dense
from .worlds import shop


class TestEASE(ModelContract):
    model = "ease"


class TestEASEPruned(ModelContract):
    model = "ease"
    settings = {"regularisation": 5.0, "neighbours": 12, "half_life": 2, "window": 6}  # noqa: RUF012


def had(train: Jagged, num_items: int) -> np.ndarray:
    had_UN = np.zeros((len(train), num_items), bool)
    had_UN[train.row_of(), train.values] = True
    return had_UN


def log(users: int, items: int, seed: int = 0) -> Jagged:
    rng = np.random.default_rng(seed)
    return Jagged.from_rows([np.minimum(rng.zipf(1.4, rng.integers(0, 30)), items) - 1 for _ in range(users)])


@pytest.mark.parametrize(("users", "items"), [(200, 40), (40, 200), (1, 3), (300, 1)])
@pytest.mark.parametrize("ridge", [0.5, 200.0])
def test_weights_equal_the_closed_form(users, items, ridge):
    """More users than items, and fewer, where the inverse is that of users."""
    train = log(users, items)
    found = closed_form(Incidence.of(train, items), ridge, items)
    found_NN = np.zeros((items, items))
    found_NN[found.lists.row_of(), found.lists.values] = found.similarities
    np.testing.assert_allclose(found_NN, weights_reference(had(train, items), ridge), atol=1e-6)


def test_answers_equal_the_definition():
    train, items = log(150, 60), 60
    weights_NN = weights_reference(had(train, items), 10.0)
    model = EASE(regularisation=10.0, half_life=0.0, own=0.0)
    source = linear_source(
        "ease", closed_form(Incidence.of(train, items), 10.0, items), LinearSettings(10.0, 0.0, 0.0), 2000
    )
    assert model.config.neighbours >= items
    every = Jagged.from_rows([range(items)] * len(train))
    scores_BN = source.score(Queries(train, 1), every).reshape(len(train), items)
    sums_BN = np.array([weights_NN[row].sum(axis=0) for row in train])
    np.testing.assert_allclose(scores_BN, sums_BN, atol=1e-6)
    assert (scores_BN < 0).any()
    hits = source.search(Queries(train, 10, train))
    for row, history in enumerate(train):
        open_N = scores_BN[row] > 0
        open_N[history] = False
        best = [item for item in np.lexsort((np.arange(items), -scores_BN[row])) if open_N[item]][:10]
        assert hits.items_BK[row].tolist() == best + [-1] * (10 - len(best))


@given(st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_largest_weights_are_kept(keep, seed):
    train = log(60, 30, seed)
    whole, some = (closed_form(Incidence.of(train, 30), 5.0, k) for k in (30, keep))
    for one, other in zip(range(30), range(30), strict=True):
        low, high = whole.lists.offsets[one], whole.lists.offsets[one + 1]
        expected = np.abs(whole.similarities[low:high])[:keep]
        low, high = some.lists.offsets[other], some.lists.offsets[other + 1]
        np.testing.assert_array_equal(np.abs(some.similarities[low:high]), expected)


@pytest.mark.parametrize("size", [1, 5, 512, 1025, 1600])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_inverse_in_place(size, kind):
    rng = np.random.default_rng(size)
    some = rng.normal(size=(size, size // 2 + 1))
    matrix = some @ some.T / size + np.eye(size)
    found = matrix.astype(kind)
    found[np.triu_indices(size, 1)] = np.nan  # only the lower half is read
    invert_positive(found)
    np.testing.assert_allclose(found, np.linalg.inv(matrix), atol=2e-5 if kind == np.float32 else 1e-11)
    assert np.array_equal(found, found.T)


def test_threads_do_not_matter(monkeypatch):
    train = log(100, 150)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(neighbourhood.numba, "get_num_threads", lambda count=threads: count)
        found.append(closed_form(Incidence.of(train, 150), 20.0, 30))
    assert np.array_equal(found[0].lists.values, found[1].lists.values)
    assert np.array_equal(found[0].similarities, found[1].similarities)


def test_settings_are_chosen_and_said(capsys):
    card = EASE().fit(shop()).card["config"]
    assert card["regularisation"] in (10, 30, 100, 300, 1000, 3000) and card["own"] == 0
    assert "ease (defaults 1): regularisation=" in capsys.readouterr().err
    given = EASE(regularisation=7.0, half_life=2.0).fit(shop()).card["config"]
    assert (given["regularisation"], given["half_life"]) == (7, 2)
    assert capsys.readouterr().err == ""


def test_repeats_come_back_where_they_may():
    recommender = EASE(regularisation=10.0, own=1.0).fit(shop(repeats=True))
    assert recommender.rank(Jagged.from_rows([[3, 3, 3]]), 1)[0].items_BK.tolist() == [[3]]
    assert as_dense(recommender.source)[3, 3] == 1
    assert as_dense(EASE(regularisation=10.0).fit(shop()).source).diagonal().max() == 0


def test_a_catalogue_that_does_not_fit_names_the_sparse_model(monkeypatch):
    monkeypatch.setattr(ease, "free_memory", lambda: 1000)
    with pytest.raises(MachineError, match=r"inverse of .* use the sparse model slim instead"):
        EASE().fit(shop())


@pytest.mark.parametrize(
    "settings", [{"regularisation": 0}, {"neighbours": 0}, {"half_life": -1}, {"own": -0.1}, {"window": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        EASE(**settings)
