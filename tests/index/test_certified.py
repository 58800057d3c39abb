from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import BundleError
from leanrec.index import certified
from leanrec.index.certified import CertifiedInt8Index
from leanrec.index.exact import ExactIndex
from leanrec.kernels.panel_scan import BLOCK
from leanrec.kernels.panels import PANEL

from .contract import ExactIndexContract, table


class TestCertifiedInt8(ExactIndexContract):
    name = "certified-int8"

    def test_scans_at_least_three_and_a_half_times_fewer_bytes(self) -> None:
        items_ND = table(1000, 64)
        assert items_ND.nbytes / CertifiedInt8Index.build(items_ND).bytes_scanned >= 3.5

    def test_few_rows_are_rescored(self) -> None:
        _, proof = CertifiedInt8Index.build(table(20_000, 64)).search_with_proof(table(8, 64, seed=1), 10)
        assert proof.rescored_B.mean() < 40

    def test_threads_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        items_ND, queries_BD = table(4001, 16), table(9, 16, seed=1)
        expected = ExactIndex.build(items_ND).search(queries_BD, 50)
        monkeypatch.setattr(certified, "_WORTH_THREADS", 0)
        monkeypatch.setattr(CertifiedInt8Index, "scans", lambda self, batch: 3)
        hits = CertifiedInt8Index.build(items_ND).search(queries_BD, 50)
        np.testing.assert_array_equal(hits.items_BK, expected.items_BK)
        np.testing.assert_array_equal(hits.scores_BK, expected.scores_BK)

    def test_wide_vectors_use_a_narrower_query(self) -> None:
        self.check(self.build(table(200, 700)), table(2, 700, seed=1), 10)


def test_what_norms_rule_out_is_not_read() -> None:
    items_ND = table(4000, 16)
    items_ND[700:] *= 1e-3
    index, queries_BD = CertifiedInt8Index.build(items_ND), table(20, 16, seed=1)
    expected = index.search(queries_BD, 10)
    codes_MG = index.codes_MG.copy()
    codes_MG[BLOCK * 2 // PANEL :, :, :, ::2] = 255  # would reach anything, were they read
    scales_N = np.where(np.arange(4000) < 2 * BLOCK, index.scales_N, np.float32(1e3))
    blind = CertifiedInt8Index(items_ND, codes_MG, scales_N, index.levels_N, index.longest_J, index.order_N)
    seen = CertifiedInt8Index(
        items_ND, codes_MG, scales_N, index.levels_N, np.full_like(index.longest_J, 1e3), index.order_N
    )  # fmt: skip
    assert (seen.search_with_proof(queries_BD, 10)[1].refined_B > 2 * BLOCK).any()
    for part in (slice(0, 20), slice(0, 1)):
        hits, proof = blind.search_with_proof(queries_BD[part], 10)
        np.testing.assert_array_equal(hits.items_BK, expected.items_BK[part])
        assert (proof.refined_B <= 2 * BLOCK).all()


def test_an_index_from_before_rows_were_sorted_answers() -> None:
    items_ND, queries_BD = table(1500, 16), table(5, 16, seed=1)
    index = CertifiedInt8Index.build(items_ND)
    unsorted = CertifiedInt8Index.build(np.ones((1, 16), np.float32)).add(items_ND[:1])  # as rows come
    for row in range(1, 40):
        unsorted = unsorted.add(items_ND[row : row + 1])
    rows = unsorted.order_N
    np.testing.assert_array_equal(rows, np.arange(len(rows)))
    tensors = {name: array for name, array in unsorted.tensors().items() if name != "order"}
    old = CertifiedInt8Index.from_tensors(unsorted.items_ND, tensors)
    np.testing.assert_array_equal(old.search(queries_BD, 10).items_BK, unsorted.search(queries_BD, 10).items_BK)
    for wrong in (np.zeros(1500, np.int32), np.arange(1, 1501, dtype=np.int32)):
        with pytest.raises(BundleError, match="order of the index does not name every row once"):
            CertifiedInt8Index.from_tensors(items_ND, {**index.tensors(), "order": wrong})
