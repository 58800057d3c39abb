from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leanrec.core.errors import BundleError, InputError
from leanrec.core.tensors import map_tensors, serialize
from leanrec.index.ivf import IvfConfig, IvfIndex

from .approximate import ApproximateIndexContract
from .contract import table


class TestIvf(ApproximateIndexContract):
    name = "ivf-int4"

    def test_all_lists_are_exact(self) -> None:
        items_ND, queries_BD = table(3000, 24), table(40, 24, seed=1)
        index = IvfIndex.build(items_ND, IvfConfig(lists=37, probes=37))
        self.check_exact(index, queries_BD, 15)

    def test_more_probes_find_more(self) -> None:
        items_ND, queries_BD = table(4000, 16), table(64, 16, seed=1)
        index = IvfIndex.build(items_ND, IvfConfig(lists=64, probes=1))
        found = [self.recall(index.probing(probes), queries_BD) for probes in (1, 8, 64)]
        assert found[0] < found[1] < found[2] == 1

    def test_damaged_lists_are_refused(self, tmp_path: Path) -> None:
        items_ND = table(200, 8)
        tensors = dict(IvfIndex.build(items_ND).tensors())
        for name, value in (("rows", 300), ("rows", 0), ("edges", 10_000), ("probes", 0)):
            damaged = {key: array.copy() for key, array in tensors.items()}
            damaged[name][-1] = value
            if name == "rows":
                damaged[name][:2] = value
            with pytest.raises(BundleError, match="lists of the index"):
                IvfIndex.from_tensors(items_ND, damaged)

    def test_one_query_equals_the_batch(self) -> None:
        index, queries_BD = IvfIndex.build(table(3000, 16)), table(20, 16, seed=1)
        whole = index.search(queries_BD, 10)
        for b in range(20):
            np.testing.assert_array_equal(index.search(queries_BD[b : b + 1], 10).items_BK[0], whole.items_BK[b])

    def test_impossible_rows_are_refused(self) -> None:
        items_ND = table(20, 8)
        items_ND[3, 3] = np.inf
        with pytest.raises(InputError, match="row 3 of the item table"):
            IvfIndex.build(items_ND)

    def test_stored_and_mapped(self, tmp_path: Path) -> None:
        index, queries_BD = IvfIndex.build(table(500, 16), IvfConfig(probes=5)).add(table(9, 16, seed=3)), table(7, 16)
        (tmp_path / "index").write_bytes(serialize(index.tensors()))
        stored = IvfIndex.from_tensors(index.items_ND, map_tensors(tmp_path / "index"))
        assert stored.probes == 5
        np.testing.assert_array_equal(index.search(queries_BD, 9).items_BK, stored.search(queries_BD, 9).items_BK)
