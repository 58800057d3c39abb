from __future__ import annotations

import sys

import numpy as np
import pytest

from leanrec.core.errors import BundleError, ConfigError, MissingExtra
from leanrec.index import INDEXES

from .approximate import ApproximateIndexContract
from .contract import table

pytest.importorskip("faiss")

from leanrec.index.faiss_hnsw import FaissHnswConfig, FaissHnswIndex
from leanrec.index.faiss_ivf import FaissIvfConfig, FaissIvfIndex
from leanrec.index.faiss_pq import FaissPqConfig, FaissPqIndex


class LibraryContract(ApproximateIndexContract):
    def test_a_large_table_is_searched_by_the_library(self) -> None:
        items_ND, queries_BD = table(6000, 16), table(40, 16, seed=1)
        index = self.build(items_ND)
        assert self.recall(index, queries_BD) >= 0.85
        stored = type(index).from_tensors(items_ND, index.tensors())
        np.testing.assert_array_equal(stored.search(queries_BD, 10).items_BK, index.search(queries_BD, 10).items_BK)
        allowed_N = np.random.default_rng(0).random(6000) < 0.5
        hits = index.search(queries_BD, 10, None, allowed_N)
        assert allowed_N[hits.items_BK].all()


class TestFaissHnsw(LibraryContract):
    name = "faiss-hnsw"

    @pytest.mark.parametrize(
        ("name", "place", "value"),
        [
            ("neighbours", 3, 500),
            ("neighbours", 3, -2),
            ("offsets", 5, 0),
            ("levels", 4, 9),
            ("facts", 0, 500),
            ("facts", 3, 1 << 30),
        ],
    )
    def test_damaged_graphs_are_refused(self, name: str, place: int, value: int) -> None:
        items_ND = table(500, 8)
        tensors = {key: array.copy() for key, array in self.build(items_ND).tensors().items()}
        tensors[name][place] = value
        with pytest.raises(BundleError, match="graph of the index"):
            INDEXES[self.name].from_tensors(items_ND, tensors)

    def test_looking_deeper_finds_more_and_is_kept(self) -> None:
        items_ND, queries_BD = table(6000, 32), table(40, 32, seed=1)
        index = FaissHnswIndex.build(items_ND, FaissHnswConfig(neighbours=4, build_depth=16, depth=10))
        found = [self.recall(index.looking(depth), queries_BD) for depth in (10, 200, 2000)]
        assert found[0] < found[1] < found[2]
        assert index.depth == 10
        deep = index.looking(500)
        assert deep.bytes_scanned > index.bytes_scanned
        for other in (FaissHnswIndex.from_tensors(items_ND, deep.tensors()), deep.add(table(3, 32, seed=2))):
            assert other.depth == 500


class TestFaissIvf(LibraryContract):
    name = "faiss-ivf"

    def test_more_probes_find_more_and_are_kept(self) -> None:
        items_ND, queries_BD = table(6000, 16), table(40, 16, seed=1)
        index = FaissIvfIndex.build(items_ND, FaissIvfConfig(lists=64, probes=1))
        found = [self.recall(index.probing(probes), queries_BD) for probes in (1, 8, 100)]
        assert found[0] < found[1] < found[2] == 1
        assert index.probes == 1
        wide = index.probing(9)
        assert wide.bytes_scanned > index.bytes_scanned
        for other in (FaissIvfIndex.from_tensors(items_ND, wide.tensors()), wide.add(table(3, 16, seed=2))):
            assert other.probes == 9

    def test_damaged_lists_are_refused(self) -> None:
        items_ND = table(500, 8)
        tensors = {key: array.copy() for key, array in self.build(items_ND).tensors().items()}
        tensors["lists"][7] = 10_000
        with pytest.raises(BundleError, match="lists of the index"):
            INDEXES[self.name].from_tensors(items_ND, tensors)


class TestFaissPq(LibraryContract):
    name = "faiss-pq"

    def test_refining_finds_more_and_is_kept(self) -> None:
        items_ND, queries_BD = table(6000, 16), table(40, 16, seed=1)
        index = FaissPqIndex.build(items_ND, FaissPqConfig(width=4, refine=1))
        found = [self.recall(index.refining(refine), queries_BD) for refine in (1, 4, 60)]
        assert found[0] < found[1] < found[2]
        assert index.more == 1
        for other in (
            FaissPqIndex.from_tensors(items_ND, index.refining(7).tensors()), index.refining(7).add(table(3, 16))
        ):  # fmt: skip
            assert other.more == 7

    def test_damaged_codes_and_odd_widths_are_refused(self) -> None:
        items_ND = table(500, 8)
        tensors = self.build(items_ND).tensors()
        with pytest.raises(BundleError, match="product codes of the index"):
            INDEXES[self.name].from_tensors(items_ND, {**tensors, "codes": tensors["codes"][:-1]})
        with pytest.raises(ConfigError, match="does not divide 8"):
            FaissPqIndex.build(items_ND, FaissPqConfig(width=3))


@pytest.mark.parametrize("name", ["faiss-hnsw", "faiss-ivf", "faiss-pq"])
def test_without_the_library_the_command_that_installs_it_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, f"leanrec.index.{name.replace('-', '_')}", raising=False)
    with pytest.raises(MissingExtra, match=r"'leanrec\[ann\]'"):
        INDEXES[name]
