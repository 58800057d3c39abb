from __future__ import annotations

from .contract import ExactIndexContract, table


class TestExact(ExactIndexContract):
    name = "exact"

    def test_more_items_than_a_block(self) -> None:
        index = self.build(table(9000, 3))
        self.check(index, table(256, 3, seed=1)[:2], 5)
        hits = index.search(table(256, 3, seed=1), 5)
        again = index.search(table(256, 3, seed=1)[:1], 5)
        assert hits.items_BK[0].tolist() == again.items_BK[0].tolist()
