from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import InputError
from leanrec.index import planes
from leanrec.index.exact import ExactIndex
from leanrec.index.planes import CertifiedInt4Index

from .contract import ExactIndexContract, table


class TestCertifiedInt4(ExactIndexContract):
    name = "certified-int4"

    def test_scans_seven_times_fewer_bytes(self) -> None:
        items_ND = table(1000, 128)
        assert items_ND.nbytes / CertifiedInt4Index.build(items_ND).bytes_scanned >= 7.4

    def test_few_rows_are_read_again_and_fewer_rescored(self) -> None:
        _, proof = CertifiedInt4Index.build(table(20_000, 64)).search_with_proof(table(8, 64, seed=1), 10)
        assert proof.rescored_B.mean() < 40
        assert proof.rescored_B.mean() < proof.refined_B.mean() < 1000

    def test_threads_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        items_ND, queries_BD = table(4001, 16), table(9, 16, seed=1)
        expected = ExactIndex.build(items_ND).search(queries_BD, 50)
        monkeypatch.setattr(planes, "_WORTH_THREADS", 0)
        monkeypatch.setattr(CertifiedInt4Index, "scans", lambda self, batch: 3)
        hits = CertifiedInt4Index.build(items_ND).search(queries_BD, 50)
        np.testing.assert_array_equal(hits.items_BK, expected.items_BK)
        np.testing.assert_array_equal(hits.scores_BK, expected.scores_BK)

    def test_wide_vectors_use_a_narrower_query(self) -> None:
        self.check(self.build(table(200, 700)), table(2, 700, seed=1), 10)

    def test_vectors_too_wide_for_its_sums_are_refused(self) -> None:
        with pytest.raises(InputError, match="8,192 values at most"):
            CertifiedInt4Index.build(np.zeros((1, 8193), np.float32))
