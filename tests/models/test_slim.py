"""Neighbourhood weights against the equations written out, and against EASE where neighbourhoods are whole."""

from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.kernels.ridge import weights_reference
from leanrec.models import neighbourhood
from leanrec.models.neighbourhood import Incidence, Neighbourhood
from leanrec.models.slim import SLIM, neighbourhood_weights

from .contract import ModelContract
from .test_ease import had, log
from .worlds import shop


class TestSLIM(ModelContract):
    model = "slim"


class TestSLIMWithSettings(ModelContract):
    model = "slim"
    settings = {"regularisation": 2.0, "neighbours": 9, "half_life": 3, "window": 5}  # noqa: RUF012


def as_matrix(found: Neighbourhood) -> np.ndarray:
    size = len(found.lists)
    weights_NN = np.zeros((size, size))
    weights_NN[found.lists.row_of(), found.lists.values] = found.similarities
    return weights_NN


def test_whole_neighbourhoods_give_the_closed_form():
    """Items that share no user are no neighbours: every user has item 0, so that all are."""
    train = Jagged.from_rows([[0, *row] for row in log(120, 30)])
    found_NN = as_matrix(neighbourhood_weights(Incidence.of(train, 30), 30, 5.0))
    shared_NN = had(train, 30).T.astype(float) @ had(train, 30)
    full_N = (shared_NN > 0).sum(axis=0) == (np.diag(shared_NN) > 0).sum()
    assert full_N.sum() > 3
    live_N = np.diag(shared_NN) > 0
    expected_NN = weights_reference(had(train, 30)[:, live_N], 5.0)
    np.testing.assert_allclose(found_NN[np.ix_(live_N, full_N)], expected_NN[:, full_N[live_N]], atol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 4, 12])
def test_each_item_is_the_ridge_regression_on_its_neighbours(neighbours):
    train, items, ridge = log(150, 40, 3), 40, 3.0
    had_UN = had(train, items).astype(float)
    users_N = had_UN.sum(axis=0)
    shared_NN = had_UN.T @ had_UN
    cosine_NN = np.float32(shared_NN / (np.sqrt(np.outer(users_N, users_N)) + 10.0))
    found_NN = as_matrix(neighbourhood_weights(Incidence.of(train, items), neighbours, ridge))
    for item in range(items):
        order = np.lexsort((np.arange(items), -cosine_NN[item]))
        near = [other for other in order if other != item and cosine_NN[item, other] > 0][:neighbours]
        expected_N = np.zeros(items)
        if near:
            gram = shared_NN[np.ix_(near, near)] + ridge * np.eye(len(near))
            expected_N[near] = np.linalg.solve(gram, shared_NN[near, item])
        np.testing.assert_allclose(found_NN[:, item], expected_N, atol=1e-6)


def test_threads_do_not_matter(monkeypatch):
    had_once = Incidence.of(log(200, 120), 120)
    found = []
    for threads in (1, 4):
        monkeypatch.setattr(neighbourhood.numba, "get_num_threads", lambda count=threads: count)
        found.append(neighbourhood_weights(had_once, 20, 10.0))
    assert np.array_equal(found[0].lists.values, found[1].lists.values)
    assert np.array_equal(found[0].similarities, found[1].similarities)


def test_weights_stand_by_falling_size():
    found = neighbourhood_weights(Incidence.of(log(200, 60), 60), 20, 10.0)
    for row in Jagged(np.abs(found.similarities), found.lists.offsets):
        assert np.array_equal(row, np.sort(row)[::-1])


def test_settings_are_chosen_and_said(capsys):
    card = SLIM().fit(shop()).card["config"]
    assert card["regularisation"] in (10, 30, 100, 300, 1000, 3000)
    assert "slim (defaults 1): regularisation=" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings", [{"regularisation": -1}, {"neighbours": 0}, {"half_life": -1}, {"own": -0.1}, {"window": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SLIM(**settings)
