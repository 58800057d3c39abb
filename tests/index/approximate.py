"""What every approximate index promises: canonical scores, recall, no forbidden row, -1 only where nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from leanrec.core.jagged import Jagged
from leanrec.core.tensors import map_tensors, serialize
from leanrec.index import INDEXES, Index
from leanrec.kernels.topk import canonical_scores_reference, topk_reference

from .contract import table

F32 = npt.NDArray[np.float32]


class ApproximateIndexContract:
    name: ClassVar[str]

    def build(self, items_ND: F32) -> Index:
        return INDEXES[self.name].build(items_ND)

    def recall(self, index: Index, queries_BD: F32, k: int = 10) -> float:
        hits = index.search(queries_BD, k)
        found = [
            np.isin(topk_reference(index.items_ND, query_D, k)[0], rows_K).mean()
            for query_D, rows_K in zip(queries_BD, hits.items_BK, strict=True)
        ]
        return float(np.mean(found))

    def check_exact(self, index: Index, queries_BD: F32, k: int) -> None:
        hits = index.search(queries_BD, k)
        for b, query_D in enumerate(queries_BD):
            rows_K, scores_K = topk_reference(index.items_ND, query_D, k)
            np.testing.assert_array_equal(hits.items_BK[b], rows_K)
            np.testing.assert_array_equal(hits.scores_BK[b], scores_K)

    def test_scores_are_canonical_and_ordered(self) -> None:
        index, queries_BD = self.build(table(2000, 32)), table(30, 32, seed=1)
        hits = index.search(queries_BD, 10)
        assert index.name == self.name
        assert not index.exact
        rows_T, query_of_T = hits.items_BK.reshape(-1), np.repeat(np.arange(30), 10)
        expected = canonical_scores_reference(index.items_ND, rows_T, queries_BD, query_of_T).reshape(30, 10)
        np.testing.assert_array_equal(hits.scores_BK, expected)
        assert (np.diff(hits.scores_BK, axis=1) <= 0).all()
        assert all(len(np.unique(rows_K)) == 10 for rows_K in hits.items_BK)

    def test_recall_of_clustered_vectors(self) -> None:
        rng = np.random.default_rng(0)
        centres = rng.standard_normal((40, 24)).astype(np.float32) * 2
        items_ND = centres[rng.integers(0, 40, 4000)] + table(4000, 24)
        queries_BD = centres[rng.integers(0, 40, 50)] + table(50, 24, seed=1)
        assert self.recall(self.build(items_ND), queries_BD) >= 0.9

    def test_forbidden_rows_are_never_answered_and_the_rest_is(self) -> None:
        rng = np.random.default_rng(0)
        items_ND, queries_BD = table(400, 16), table(12, 16, seed=1)
        index = self.build(items_ND)
        exclude = Jagged.from_rows([rng.integers(0, 400, 3 * b) for b in range(12)])
        for share in (1.0, 0.5, 0.02):
            allowed_N = rng.random(400) < share
            for k in (5, 500):
                hits = index.search(queries_BD, k, exclude, allowed_N)
                for b in range(12):
                    may = allowed_N.copy()
                    may[exclude[b]] = False
                    rows = hits.items_BK[b][hits.items_BK[b] >= 0]
                    assert may[rows].all()
                    assert len(np.unique(rows)) == len(rows) == min(k, may.sum())
                    assert np.isneginf(hits.scores_BK[b, len(rows) :]).all()

    def test_added_rows_are_found_and_removed_ones_are_not(self, tmp_path: Path) -> None:
        items_ND = table(700, 16)
        index = self.build(items_ND[:500])
        grown = index.add(items_ND[500:600]).add(items_ND[600:])
        assert len(index.items_ND) == 500
        np.testing.assert_array_equal(grown.items_ND, items_ND)
        hits = grown.search(3 * items_ND[500:], 1)
        assert (hits.items_BK >= 0).all()
        assert index.search(3 * items_ND[500:], 1).items_BK.max() < 500
        top = np.unique(hits.items_BK)
        left = grown.remove(top)
        (tmp_path / "index").write_bytes(serialize(left.tensors()))
        stored = type(index).from_tensors(items_ND, map_tensors(tmp_path / "index"))
        for one in (left, stored):
            assert not np.isin(one.search(items_ND[500:], 5).items_BK, top).any()

    def test_empty_tables_and_batches(self) -> None:
        assert (self.build(np.empty((0, 8), np.float32)).search(table(2, 8), 3).items_BK == -1).all()
        assert self.build(table(4, 8)).search(np.empty((0, 8), np.float32), 3).items_BK.shape == (0, 3)
        assert np.sort(self.build(table(4, 8)).search(table(1, 8), 6).items_BK[0]).tolist() == [-1, -1, 0, 1, 2, 3]
