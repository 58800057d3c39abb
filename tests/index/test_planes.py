from __future__ import annotations

import numpy as np
import pytest

from leanrec.core.errors import BundleError, InputError
from leanrec.index import planes
from leanrec.index.exact import ExactIndex
from leanrec.index.planes import CertifiedInt4Index
from leanrec.kernels.planes import _note_peaks

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


def test_bundles_from_before_rows_were_sorted_are_read_and_damaged_orders_are_not() -> None:
    items_ND, queries_BD = table(3000, 16), table(5, 16, seed=1)
    before = CertifiedInt4Index(items_ND, **CertifiedInt4Index.placed(items_ND, np.arange(3000, dtype=np.int32)))
    tensors = {name: array for name, array in before.tensors().items() if name != "order"}
    found = CertifiedInt4Index.from_tensors(items_ND, tensors).search(queries_BD, 10)
    np.testing.assert_array_equal(found.items_BK, ExactIndex.build(items_ND).search(queries_BD, 10).items_BK)
    sorted_ = dict(CertifiedInt4Index.build(items_ND).tensors())
    sorted_["order"] = np.where(sorted_["order"] == 7, 8, sorted_["order"]).astype(np.int32)
    with pytest.raises(BundleError, match="name every row once"):
        CertifiedInt4Index.from_tensors(items_ND, sorted_)


def test_what_norms_rule_out_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    items_ND = table(60_000, 8) * np.exp(np.random.default_rng(0).normal(0, 1, (60_000, 1))).astype(np.float32)
    index, spans = CertifiedInt4Index.build(items_ND), []
    run = planes.scan_planes
    for name in ("scan_planes", "scan_planes_parallel"):
        monkeypatch.setattr(planes, name, lambda *told: (spans.append(told[4] - told[3]), run(*told)))
    index.search(items_ND[:1], 10)
    assert sum(spans) < 60
    spans.clear()
    CertifiedInt4Index.build(np.sign(table(60_000, 8))).search(items_ND[:1], 10)
    assert spans == [118]


def test_a_long_row_that_came_later_does_not_make_all_blocks_count() -> None:
    items_ND = table(60_000, 8) * np.exp(np.random.default_rng(0).normal(0, 1, (60_000, 1))).astype(np.float32)
    index = CertifiedInt4Index.build(items_ND).add(items_ND[:1] * 1000)
    asked = planes.asked_of(items_ND[:1], index.low_NH.shape[1])
    floors_B, none = np.array([index.search(items_ND[:1], 10).scores_BK[0, -1]], np.float64), np.empty(0, np.bool_)
    peaks_QC = np.empty((1, 118 * 16), np.float32)
    _note_peaks(0, 0, 118, 0, floors_B, index.table(), asked, none, peaks_QC)
    read_J = np.isfinite(peaks_QC.reshape(118, 16)).any(axis=1)
    norm = np.linalg.norm(items_ND[0])
    assert read_J.sum() < 60
    assert read_J[-1]
    assert (index.longest_J[~read_J] * norm < floors_B[0]).all()
