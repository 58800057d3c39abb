"""Every way of being a table but the dense one: the contract, and what is special to each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrec.core.errors import ConfigError
from leanrec.core.jagged import Jagged
from leanrec.nn.tables import TABLES, Table, make_table
from leanrec.nn.tables.bounded import BoundedTable
from leanrec.nn.tables.composed import ComposedTable
from leanrec.nn.tables.product_quantised import svd_codes
from tests.nn.table_contract import ROWS, TableContract, gradient


class OfKind(TableContract):
    kind: str
    options: dict[str, Any]

    def make(self, num_rows: int, dim: int, seed: int = 0) -> Table:
        return make_table(self.kind, num_rows, dim, seed=seed, options=self.options)


@pytest.mark.parametrize("optimiser", ["lazy-adam", "rowwise-adagrad", "sgd"])
class OfKindWithEveryOptimiser(OfKind):
    @pytest.fixture(autouse=True)
    def _optimiser(self, optimiser: str) -> None:
        self.options = {**self.options, "optimiser": optimiser}


class TestDeviceTable(OfKindWithEveryOptimiser):
    kind, options = "device", {"device": "cpu"}


class TestBoundedTable(OfKindWithEveryOptimiser):
    kind, options = "bounded", {"slots": 400}


class TestBFloat16Table(OfKindWithEveryOptimiser):
    kind, options = "bfloat16", {}


class TestSplitBFloat16Table(OfKindWithEveryOptimiser):
    kind, options = "split-bfloat16", {}


class TestHashedTable(OfKind):
    kind, options, own_rows = "hashed", {"buckets": 50}, False


class TestQuotientRemainderTable(OfKind):
    kind, options, own_rows = "quotient-remainder", {"remainders": 4}, False


class TestRobeTable(OfKind):
    kind, options, own_rows = "robe", {"values": 500, "piece": 2}, False


class TestTensorTrainTable(OfKind):
    kind, options, own_rows = "tensor-train", {"rank": 4, "radix": 3}, False


class TestProductQuantisedTable(OfKind):
    kind, options, own_rows = "product-quantised", {"splits": 2, "codes": "random"}, False


def test_every_way_in_memory_starts_from_the_same_rows_as_the_dense_table() -> None:
    dense = make_table("dense", 50, 8, seed=3).weight()
    for kind in ("device", "bounded", "mapped"):
        np.testing.assert_array_equal(make_table(kind, 50, 8, seed=3).weight(), dense)
    for kind, error in (("bfloat16", 2**-7), ("split-bfloat16", 2**-7)):
        np.testing.assert_allclose(make_table(kind, 50, 8, seed=3).weight(), dense, rtol=error)


@pytest.mark.parametrize("kind", ["hashed", "quotient-remainder", "robe", "tensor-train", "product-quantised"])
@pytest.mark.parametrize("optimiser", ["sgd", "lazy-adam"])
def test_components_get_the_gradient_that_autograd_gives_them(kind: str, optimiser: str) -> None:
    options: dict[str, Any] = {
        "hashed": {"buckets": 7, "functions": 3}, "quotient-remainder": {"remainders": 5},
        "robe": {"values": 40, "piece": 4}, "tensor-train": {"rank": 3, "radix": 3},
        "product-quantised": {"splits": 4, "codes": "random"},
    }[kind]  # fmt: skip
    table = make_table(kind, 23, 8, options={**options, "optimiser": optimiser})
    assert isinstance(table, ComposedTable)
    whole = {name: torch.from_numpy(c.weight().copy()).requires_grad_() for name, c in table._components.items()}
    rows, all_rows = np.asarray([3, 20, 11, 4], np.int32), np.arange(23, dtype=np.int32)
    make = torch.optim.SGD if optimiser == "sgd" else torch.optim.SparseAdam
    steps = {
        name: make([weight], lr=0.1) if optimiser == "sgd" else make([weight], lr=0.1, betas=(0.9, 0.98))
        for name, weight in whole.items()
    }
    for step in range(3):
        composed = table._compose({n: whole[n][torch.from_numpy(p.astype(int))] for n, p in table._parts(rows).items()})
        grad = gradient(step, 4, 8)
        for optim in steps.values():
            optim.zero_grad()
        composed.backward(grad)
        for name, optim in steps.items():
            if optimiser == "lazy-adam":
                touched = torch.from_numpy(np.unique(table._parts(rows)[name]).astype(int))
                dense = whole[name].grad
                assert dense is not None
                whole[name].grad = torch.sparse_coo_tensor(
                    touched[None], dense[touched], dense.shape, check_invariants=True
                )
            optim.step()
        table.apply(rows, grad, 0.1)
    expected = table._compose({n: whole[n][torch.from_numpy(p.astype(int))] for n, p in table._parts(all_rows).items()})
    np.testing.assert_allclose(table.weight(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_no_two_rows_share_both_parts() -> None:
    table = make_table("quotient-remainder", 1000, 4, options={"remainders": 30})
    parts = table._parts(np.arange(1000, dtype=np.int32))  # type: ignore[attr-defined]
    pairs = np.concatenate([parts["quotients"], parts["remainders"]], axis=1)
    assert len(np.unique(pairs, axis=0)) == 1000
    assert parts["quotients"].max() + 1 + 30 == 34 + 30


def test_the_size_of_a_composed_table_is_that_of_its_components() -> None:
    dense = make_table("dense", 100_000, 64).nbytes
    small = {
        "hashed": {"buckets": 1000}, "quotient-remainder": {"remainders": 300}, "robe": {"values": 64_000},
        "tensor-train": {"rank": 8, "radix": 50}, "product-quantised": {"splits": 8},
    }  # fmt: skip
    for kind, options in small.items():
        assert make_table(kind, 100_000, 64, options=options).nbytes < dense / 20, kind


def test_options_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="splits=3"):
        make_table("product-quantised", 10, 8, options={"splits": 3})
    with pytest.raises(ConfigError, match="piece=3"):
        make_table("robe", 10, 8, options={"piece": 3})
    with pytest.raises(ConfigError, match="warp"):
        make_table("device", 10, 8, options={"device": "warp"})
    with pytest.raises(ConfigError, match="did you mean 'splits'"):
        make_table("product-quantised", 10, 8, options={"split": 3})
    with pytest.raises(ConfigError, match="did you mean 'hashed'"):
        make_table("hashd", 10, 8)
    assert all(TABLES.entries[name].summary for name in TABLES)


class TestSVDCodes:
    """Items that the same users have get close codes."""

    def _groups(self) -> Jagged:
        random = np.random.default_rng(0)
        return Jagged.from_rows([random.integers(0, 300, 30) + 300 * (user % 2) for user in range(400)])

    def test_groups_of_items_are_told_apart(self) -> None:
        codes = svd_codes(self._groups(), 600, 2, seed=0).astype(int)
        # two groups of users: some leading direction separates them
        apart = max(abs(codes[:300, s].mean() - codes[300:, s].mean()) for s in range(2))
        assert apart > 100

    def test_codes_are_even_and_follow_the_seed(self) -> None:
        codes = svd_codes(self._groups(), 600, 4, seed=0)
        np.testing.assert_array_equal(codes, svd_codes(self._groups(), 600, 4, seed=0))
        for split in range(4):
            assert np.bincount(codes[:, split], minlength=256).max() <= 3

    def test_a_table_made_with_the_sequences_has_their_codes(self) -> None:
        table = make_table("product-quantised", 600, 8, options={"splits": 4}, sequences=self._groups())
        np.testing.assert_array_equal(table.state()["codes"], svd_codes(self._groups(), 600, 4, seed=0))


class TestEviction:
    def _table(self, slots: int = 4) -> BoundedTable:
        table = make_table("bounded", 100, 4, options={"slots": slots})
        assert isinstance(table, BoundedTable)
        return table

    def _train(self, table: BoundedTable, *rows: int) -> None:
        wanted = np.asarray(rows, np.int32)
        table.gather(wanted)
        table.apply(wanted, torch.ones(len(rows), 4), 0.1)

    def test_the_rows_used_longest_ago_are_fresh_again(self) -> None:
        table, fresh = self._table(), make_table("dense", 100, 4).weight()
        for row in (5, 6, 7, 5):
            self._train(table, row)
        learned = table.weight()[5].copy()
        assert table.evict(2).tolist() == [6, 7]
        np.testing.assert_array_equal(table.weight()[[6, 7]], fresh[[6, 7]])
        np.testing.assert_array_equal(table.weight()[5], learned)

    def test_a_full_table_makes_room_and_keeps_what_is_used(self) -> None:
        table = self._table()
        self._train(table, 50)
        for row in range(20):
            self._train(table, 50, row)
        changed = np.flatnonzero((table.weight() != make_table("dense", 100, 4).weight()).any(axis=1))
        assert len(changed) == 4
        assert 50 in changed

    def test_a_row_that_comes_back_starts_afresh_with_its_optimiser(self) -> None:
        table, other = self._table(), self._table()
        self._train(table, 9)
        self._train(table, 1, 2, 3, 4)
        self._train(other, 1, 2, 3, 4)
        for each in (table, other):
            each.optimiser.step = 5
            self._train(each, 9)
        np.testing.assert_array_equal(table.weight()[9], other.weight()[9])

    def test_more_rows_than_slots_at_once_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="touches 5 rows and the table has memory for 4"):
            self._table().gather(np.arange(5, dtype=np.int32))


class TestBFloat16:
    def test_rounding_is_right_on_average(self) -> None:
        table = make_table("bfloat16", 20_000, 4, options={"optimiser": "sgd", "std": 0.0})
        table.apply(None, torch.full((20_000, 4), -1.0), 1.0)
        for _ in range(16):  # a 512th of the value each, which plain rounding would lose entirely
            table.apply(None, torch.full((20_000, 4), -1.0), 2.0**-9)
        weight = table.weight()
        assert abs(weight.mean() - (1 + 16 * 2.0**-9)) < 1e-3
        assert (weight.view(np.uint32) & 0xFFFF == 0).all()

    def test_split_halves_step_exactly_as_float32(self) -> None:
        split, dense = (make_table(kind, 30, 8, seed=1) for kind in ("split-bfloat16", "dense"))
        for step in range(5):
            for table in (split, dense):
                table.apply(ROWS, gradient(step, 3, 8), 0.01)
        state = split.state()
        whole = (state["upper"].astype(np.uint32) << 16 | state["lower"]).view(np.float32)
        np.testing.assert_array_equal(whole, dense.weight())

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**31), st.integers(1, 10_000))
    def test_rounding_goes_to_a_neighbour(self, seed: int, step: int) -> None:
        from leanrec.kernels.bfloat16 import round_rows

        values = np.random.default_rng(seed).standard_normal((3, 5), dtype=np.float32)
        upper = np.zeros((3, 5), np.uint16)
        round_rows(values, np.asarray([2, 0, 1], np.int32), upper, seed, step)
        down = values[[1, 2, 0]].view(np.uint32) >> 16
        assert ((upper == down) | (upper == down + 1)).all()
