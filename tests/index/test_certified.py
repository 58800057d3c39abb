from __future__ import annotations

import numpy as np
import pytest

from leanrec.index import certified
from leanrec.index.certified import CertifiedInt8Index
from leanrec.index.exact import ExactIndex

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
