"""Tables: the contract, and their optimisers against torch's on the whole table."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.nn.tables import make_table
from leanrec.nn.tables.base import Table
from leanrec.nn.tables.dense import OPTIMISERS, DenseTable


class TableContract(ABC):
    """What every table promises; a way of being a table inherits this."""

    @abstractmethod
    def make(self, num_rows: int, dim: int) -> Table:
        """A fresh table."""

    def test_a_leaf_is_a_copy_of_its_rows(self) -> None:
        table = self.make(10, 4)
        leaf = table.gather(np.asarray([7, 2], np.int32))
        np.testing.assert_array_equal(leaf.detach().numpy(), table.weight()[[7, 2]])
        assert leaf.requires_grad
        assert leaf.is_leaf

    def test_only_touched_rows_change(self) -> None:
        table = self.make(10, 4)
        before = table.weight().copy()
        table.apply(np.asarray([3, 8], np.int32), torch.ones(2, 4), 0.1)
        changed = (table.weight() != before).any(axis=1)
        assert np.flatnonzero(changed).tolist() == [3, 8]

    def test_the_whole_table_is_in_order(self) -> None:
        table = self.make(5, 4)
        np.testing.assert_array_equal(table.gather(None).detach().numpy(), table.weight())

    def test_state_resumes_exactly(self) -> None:
        first, second = self.make(10, 4), self.make(10, 4)
        rows, grad = np.asarray([1, 2, 9], np.int32), torch.randn(3, 4)
        first.apply(rows, grad, 0.1)
        second.load_state({name: array.copy() for name, array in first.state().items()})
        for table in (first, second):
            table.apply(rows, grad * 2, 0.1)
        np.testing.assert_array_equal(first.weight(), second.weight())


@pytest.mark.parametrize("optimiser", OPTIMISERS)
class TestDenseTable(TableContract):
    @pytest.fixture(autouse=True)
    def _optimiser(self, optimiser: str) -> None:
        self.optimiser = optimiser

    def make(self, num_rows: int, dim: int) -> Table:
        return make_table("dense", num_rows, dim, options={"optimiser": self.optimiser})


def _both(
    optimiser: str, torch_step: torch.optim.Optimizer, weight: torch.Tensor, table: DenseTable, sparse: bool
) -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        rows = random.permutation(12)[:5].astype(np.int32)
        grad = torch.from_numpy(random.standard_normal((5, 4), dtype=np.float32))
        table.apply(rows, grad, 0.05)
        index = torch.from_numpy(rows.astype(np.int64))
        dense = torch.zeros(12, 4).index_copy_(0, index, grad)
        weight.grad = torch.sparse_coo_tensor(index[None], grad, (12, 4), check_invariants=True) if sparse else dense
        torch_step.step()
    np.testing.assert_allclose(table.weight(), weight.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_sgd_is_torch_sgd_on_the_whole_table() -> None:
    table = make_table("dense", 12, 4, options={"optimiser": "sgd"})
    weight = torch.from_numpy(table.weight().copy()).requires_grad_()
    _both("sgd", torch.optim.SGD([weight], lr=0.05), weight, table, sparse=False)


def test_lazy_adam_is_torch_sparse_adam() -> None:
    table = make_table("dense", 12, 4, options={"optimiser": "lazy-adam"})
    weight = torch.from_numpy(table.weight().copy()).requires_grad_()
    _both("adam", torch.optim.SparseAdam([weight], lr=0.05, betas=(0.9, 0.98)), weight, table, sparse=True)


def test_an_unknown_optimiser_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="lazy-adam"):
        make_table("dense", 2, 2, options={"optimiser": "lazy-adma"})
