"""Greedy orders stay orders of their pool, and within it, also where relevance is no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from leanrec.kernels.diversity import calibrated_order, dpp_order, mmr_order

POOL, K, GUARD = 6, 4, -77


def run(name: str, relevance_BM: Any, order_BM: Any) -> None:
    rng = np.random.default_rng(0)
    batch = len(relevance_BM)
    vectors_BMD = rng.normal(size=(batch, POOL, 3)).astype(np.float32)
    counts_B = np.full(batch, POOL)
    if name == "mmr":
        mmr_order(relevance_BM, vectors_BMD, counts_B, 0.3, K, order_BM)
    elif name == "dpp":
        dpp_order(relevance_BM, vectors_BMD, counts_B, K, 1e-9, order_BM)
    else:
        items_BM = np.tile(np.arange(POOL, dtype=np.int32), (batch, 1))
        offsets, categories = np.arange(POOL + 1), np.arange(POOL, dtype=np.int32) % 2
        wanted_BG = np.full((batch, 2), 0.5)
        calibrated_order(relevance_BM, items_BM, counts_B, wanted_BG, offsets, categories, 0.5, 0.01, K, order_BM)


@pytest.mark.parametrize("name", ["mmr", "dpp", "calibrated"])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, 1.0])
@pytest.mark.parametrize("how_many", [1, POOL - 1, POOL])
def test_every_candidate_has_one_place(name: str, strange: float, how_many: int) -> None:
    relevance_BM = np.random.default_rng(1).random((2, POOL))
    relevance_BM[:, :how_many] = strange
    room = np.full(3 * POOL, GUARD, np.int64)
    order_BM = room[: 2 * POOL].reshape(2, POOL)
    run(name, relevance_BM, order_BM)
    assert np.array_equal(np.sort(order_BM, axis=1), np.tile(np.arange(POOL), (2, 1)))
    assert (room[2 * POOL :] == GUARD).all(), "written beyond the pool"
