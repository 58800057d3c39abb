from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.config import build
from leanrec.index.coded import CodedIndex
from leanrec.index.norm_order import NormOrder, blocks_from
from leanrec.index.vectors import VECTORS, Float32Vectors
from leanrec.kernels.candidates import BLOCK

from .contract import table


@settings(max_examples=60, deadline=None)
@given(size=st.integers(0, 700), spread=st.floats(0, 3), added=st.integers(0, 100), seed=st.integers(0, 999))
def test_every_block_once_and_no_row_longer_than_what_is_left(size: int, spread: float, added: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table_ND = (rng.standard_normal((size, 4)) * np.exp(rng.normal(0, spread, (size, 1)))).astype(np.float32)
    order = NormOrder.of(Float32Vectors(table_ND))
    grown_ND = np.concatenate([table_ND, (100 * rng.standard_normal((added, 4))).astype(np.float32)])
    grown = NormOrder.of(Float32Vectors(grown_ND), order, size)
    for one, rows_ND in ((order, table_ND), (grown, grown_ND)):
        norms_N = np.linalg.norm(rows_ND.astype(np.float64), axis=1)
        assert np.array_equal(np.sort(one.order_M), np.arange(-(-len(rows_ND) // BLOCK)))
        assert one.longest >= norms_N.max(initial=0)
        for place, block in enumerate(one.order_M):
            assert norms_N[BLOCK * block : BLOCK * (block + 1)].max() <= one.norms_J[block] <= one.rest_M[place]
        assert (np.diff(one.rest_M) <= 0).all()
        for norm in (0.0, 1.0, *one.rest_M[:3].tolist(), *(one.rest_M[-3:] * 1.001).tolist(), np.inf, -np.inf):
            assert blocks_from(one.rest_M, norm) >= (one.rest_M >= norm).sum()
            assert blocks_from(one.rest_M, norm) <= (one.rest_M >= norm - 1e-6 * abs(norm) - 1e-30).sum()
    again = NormOrder.of(Float32Vectors(grown_ND))
    assert np.array_equal(grown.norms_J, again.norms_J)
    assert np.array_equal(grown.order_M, again.order_M)


def test_rows_of_like_norms_stay_in_order() -> None:
    order = NormOrder.of(Float32Vectors(table(3000, 64)))
    assert not order.useful
    assert np.array_equal(order.order_M, np.arange(len(order.order_M)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_no_numbers_show(bad: float) -> None:
    table_ND = table(3000, 8)
    table_ND[2999, 3] = bad
    assert not NormOrder.of(Float32Vectors(table_ND)).longest < np.inf


def test_tiny_rows_beside_zero_ones() -> None:
    table_ND = table(700, 8) * np.float32(1e-42)
    table_ND[: 300 // BLOCK * BLOCK] = 0
    assert NormOrder.of(Float32Vectors(table_ND)).useful


def test_zero_rows_come_last() -> None:
    table_ND = table(10 * BLOCK, 8)
    table_ND[: 3 * BLOCK] = 0
    order = NormOrder.of(Float32Vectors(table_ND))
    assert set(order.order_M[-3:]) == {0, 1, 2}
    assert order.useful


def test_a_grown_index_finds_what_is_longer_than_all_before() -> None:
    table_ND = table(4000, 8) * np.exp(np.random.default_rng(0).normal(0, 1, (4000, 1))).astype(np.float32)
    index = CodedIndex(Float32Vectors(table_ND))
    assert index.search(table_ND[:1], 1).items_BK[0, 0] < 4000
    grown = index.add(100 * table_ND[:1])
    assert grown.search(table_ND[:1], 1).items_BK[0, 0] == 4000
    assert index.search(table_ND[:1], 1).items_BK[0, 0] < 4000


@pytest.mark.parametrize("kind", ["float32", "int8", "product"])
def test_a_part_of_the_rows_is_scored(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table_ND = table(40_000, 8) * np.exp(rng.normal(0, 1, (40_000, 1))).astype(np.float32)
    way = VECTORS[kind]
    options = build(way.Options, {"code_bytes": 4} if kind == "product" else {}, where="test")
    index = CodedIndex(way.encode(table_ND, options))
    scored: list[int] = []
    for scan in (index._scan, index._decoded):
        run = scan.score
        monkeypatch.setattr(scan, "score", lambda *told, run=run: (scored.append(told[2].size), run(*told)))
    index.search(table_ND[:1], 10)
    assert sum(scored) < 20_000
    one = sum(scored)
    scored.clear()
    index.search(table_ND[:20], 10)
    assert one < sum(scored) < 20 * 20_000


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8", "int4", "product"])
@pytest.mark.parametrize("batch", [1, 12])
def test_a_row_whose_norm_just_reaches_the_best_is_found(kind: str, batch: int) -> None:
    """Scores equal to norms: the first of equal rows stands in a block that comes after those that filled the list."""
    direction_D = np.float32([0.5, -0.5, 0.5, 0.5])
    sizes_N = np.random.default_rng(0).uniform(0.01, 0.1, 100 * BLOCK).astype(np.float32)
    sizes_N[20 * BLOCK : 60 * BLOCK : BLOCK] = -8
    sizes_N[20 * BLOCK + 1 : 60 * BLOCK : BLOCK] = 2
    sizes_N[7 * BLOCK] = 2
    way = VECTORS[kind]
    options = build(way.Options, {"code_bytes": 4} if kind == "product" else {}, where="test")
    vectors = way.encode(sizes_N[:, None] * direction_D, options)
    queries_BD = np.repeat(direction_D[None], batch, axis=0) * np.arange(1, batch + 1, dtype=np.float32)[:, None]
    hits = CodedIndex(vectors).search(queries_BD, 5)
    expected = [7 * BLOCK, *(BLOCK * block + 1 for block in range(20, 24))]
    assert hits.items_BK.tolist() == [expected] * batch
