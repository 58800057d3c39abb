from __future__ import annotations

import sys

import numpy as np
import pytest

from leanrec.core.errors import BundleError, ConfigError, MissingExtra
from leanrec.index import INDEXES

from .approximate import ApproximateIndexContract
from .contract import table

faiss = pytest.importorskip("faiss")


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


class TestFaissIvf(LibraryContract):
    name = "faiss-ivf"

    def test_damaged_lists_are_refused(self) -> None:
        items_ND = table(500, 8)
        tensors = {key: array.copy() for key, array in self.build(items_ND).tensors().items()}
        tensors["lists"][7] = 10_000
        with pytest.raises(BundleError, match="lists of the index"):
            INDEXES[self.name].from_tensors(items_ND, tensors)


class TestFaissPq(LibraryContract):
    name = "faiss-pq"

    def test_damaged_codes_and_odd_widths_are_refused(self) -> None:
        items_ND = table(500, 8)
        tensors = self.build(items_ND).tensors()
        with pytest.raises(BundleError, match="product codes of the index"):
            INDEXES[self.name].from_tensors(items_ND, {**tensors, "codes": tensors["codes"][:-1]})
        from leanrec.index.faiss_pq import FaissPqConfig, FaissPqIndex

        with pytest.raises(ConfigError, match="does not divide 8"):
            FaissPqIndex.build(items_ND, FaissPqConfig(width=3))


@pytest.mark.parametrize("name", ["faiss-hnsw", "faiss-ivf", "faiss-pq"])
def test_without_the_library_the_command_that_installs_it_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, f"leanrec.index.{name.replace('-', '_')}", raising=False)
    with pytest.raises(MissingExtra, match=r"'leanrec\[ann\]'"):
        INDEXES[name]
