"""The filter on the graph of items against the dense matrices of its definition."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.kernels.graph import two_hops, two_hops_reference
from leanrec.models import neighbourhood
from leanrec.models.graph_filter import GraphFilter, GraphFilterConfig, Spectrum, filter_weights

from .contract import ModelContract
from .test_ease import had, log
from .test_slim import as_matrix
from .worlds import shop


class TestGraphFilter(ModelContract):
    model = "graph-filter"


class TestGraphFilterWithSettings(ModelContract):
    model = "graph-filter"
    settings: ClassVar[dict[str, Any]] = {
        "ceiling": 0.4, "popularity": 0.2, "rank": 8, "neighbours": 9, "window": 5,
    }  # fmt: skip


def dense(train: Jagged, items: int, ceiling: float, popularity: float, user_power: float) -> np.ndarray:
    """D^-popularity filter(M) D^popularity, by a full decomposition in float64."""
    had_UN = had(train, items).astype(float)
    sizes_N = np.maximum(had_UN.sum(axis=0), 1)
    graph_NN = had_UN.T @ (had_UN / np.maximum(had_UN.sum(axis=1), 1)[:, None] ** user_power)
    values, vectors = np.linalg.eigh(graph_NN / np.sqrt(np.outer(sizes_N, sizes_N)))
    return (
        (vectors * np.minimum(values, ceiling * values.max())) @ vectors.T * (sizes_N / sizes_N[:, None]) ** popularity
    )


@pytest.mark.parametrize(
    ("ceiling", "popularity", "user_power"), [(1.0, 0.0, 1.0), (0.3, 0.15, 1.0), (0.15, 0.5, 1.0), (0.4, 0.3, 0.6)]
)
def test_weights_are_those_of_the_definition(ceiling, popularity, user_power):
    train, items = log(150, 40, 3), 40
    config = GraphFilterConfig(rank=40, user_power=user_power)
    found = filter_weights(Spectrum.of(train, items, config, 0), ceiling, popularity, items)
    wanted_NN = dense(train, items, ceiling, popularity, user_power)
    np.testing.assert_allclose(found.selves_N, np.diag(wanted_NN).clip(0), atol=1e-4)
    np.fill_diagonal(wanted_NN, 0)
    np.testing.assert_allclose(as_matrix(found), wanted_NN, atol=1e-4)


def test_a_history_is_the_sum_of_its_items():
    """What settings are judged by is what the stored weights add up to."""
    train, items = log(150, 40, 3), 40
    spectrum = Spectrum.of(train, items, GraphFilterConfig(rank=16), 0)
    had_by = spectrum.had.by_user
    one = spectrum.filtered(had_by, 0.3, 0.15)
    each = spectrum.filtered(Jagged.from_rows([[item] for item in range(items)]), 0.3, 0.15)
    np.testing.assert_allclose(one, had(had_by, items).astype(np.float32) @ each, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sets(st.integers(0, 8)), min_size=1, max_size=7), st.integers(0, 2**32))
def test_two_hops(sets, seed):
    rng = np.random.default_rng(seed)
    users = Jagged.from_rows([sorted(one) for one in sets])
    items = Jagged.from_rows([[u for u, one in enumerate(sets) if i in one] for i in range(9)])
    rows = Jagged.from_rows([rng.integers(0, 9, int(rng.integers(0, 4))).tolist() for _ in range(3)])
    rest = (
        rng.random(9, np.float32), items.offsets, items.values.astype(np.int32), rng.random(len(sets), np.float32),
        users.offsets, users.values.astype(np.int32),
    )  # fmt: skip
    found, wanted = np.ones((3, 9), np.float32), np.ones((3, 9), np.float32)
    two_hops(rows.offsets, rows.values.astype(np.int32), *rest, found)
    two_hops_reference(rows.offsets, rows.values.astype(np.int32), *rest, wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_threads_do_not_matter(monkeypatch):
    spectrum, found = Spectrum.of(log(200, 120), 120, GraphFilterConfig(rank=16), 0), []
    for threads in (1, 4):
        monkeypatch.setattr(neighbourhood.numba, "get_num_threads", lambda count=threads: count)
        found.append(filter_weights(spectrum, 0.3, 0.15, 20))
    assert np.array_equal(found[0].lists.values, found[1].lists.values)
    assert np.array_equal(found[0].similarities, found[1].similarities)


def test_settings_are_chosen_and_said(capsys):
    card = GraphFilter().fit(shop()).card["config"]
    assert 0 < card["ceiling"] <= 1 and 0 <= card["popularity"] <= 0.5
    assert "graph-filter (defaults 1): ceiling=" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"ceiling": 0}, {"popularity": 1.5}, {"user_power": -1}, {"rank": 0}, {"neighbours": 0}, {"window": 0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        GraphFilter(**wrong)
