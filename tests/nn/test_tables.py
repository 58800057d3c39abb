"""The dense table: the contract, and its optimisers against torch's on the whole table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leanrec.core.errors import ConfigError
from leanrec.nn.tables import make_table
from leanrec.nn.tables.base import Table
from leanrec.nn.tables.optimisers import OPTIMISERS
from tests.nn.table_contract import TableContract


@pytest.mark.parametrize("optimiser", OPTIMISERS)
class TestDenseTable(TableContract):
    @pytest.fixture(autouse=True)
    def _optimiser(self, optimiser: str) -> None:
        self.optimiser = optimiser

    def make(self, num_rows: int, dim: int, seed: int = 0) -> Table:
        return make_table("dense", num_rows, dim, seed=seed, options={"optimiser": self.optimiser})


def both(torch_step: torch.optim.Optimizer, weight: torch.Tensor, table: Table, sparse: bool) -> None:
    """Five steps of the same gradients on a 12 x 4 table and on the whole of `weight`, then equal values."""
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


def start(kind: str, optimiser: str, **options: object) -> tuple[Table, torch.Tensor]:
    table = make_table(kind, 12, 4, options={"optimiser": optimiser, **options})
    return table, torch.from_numpy(table.weight().copy()).requires_grad_()


class RowwiseAdagrad(torch.optim.Optimizer):
    """On the whole table, by plain torch operations: torch itself has none (fbgemm's needs its own kernels)."""

    def __init__(self, weight: torch.Tensor, lr: float) -> None:
        super().__init__([weight], {"lr": lr})
        self.sums = torch.zeros(len(weight))

    def step(self, closure: None = None) -> None:
        del closure
        (weight,) = self.param_groups[0]["params"]
        self.sums += weight.grad.square().mean(dim=1)
        weight.data -= self.param_groups[0]["lr"] * weight.grad / (self.sums.sqrt() + 1e-8)[:, None]


@pytest.mark.parametrize("kind", ["dense", "device"])
class TestOptimisers:
    def test_sgd_is_torch_sgd_on_the_whole_table(self, kind: str) -> None:
        table, weight = start(kind, "sgd")
        both(torch.optim.SGD([weight], lr=0.05), weight, table, sparse=False)

    def test_lazy_adam_is_torch_sparse_adam(self, kind: str) -> None:
        table, weight = start(kind, "lazy-adam")
        both(torch.optim.SparseAdam([weight], lr=0.05, betas=(0.9, 0.98)), weight, table, sparse=True)

    def test_lazy_adam_on_every_row_is_adam(self, kind: str) -> None:
        table, weight = start(kind, "lazy-adam")
        adam = torch.optim.Adam([weight], lr=0.05, betas=(0.9, 0.98))
        for step in range(5):
            weight.grad = torch.randn(12, 4, generator=torch.Generator().manual_seed(step))
            table.apply(None, weight.grad, 0.05)
            adam.step()
        np.testing.assert_allclose(table.weight(), weight.detach().numpy(), rtol=1e-4, atol=1e-5)

    def test_rowwise_adagrad_is_exact(self, kind: str) -> None:
        table, weight = start(kind, "rowwise-adagrad")
        both(RowwiseAdagrad(weight, 0.05), weight, table, sparse=False)

    def test_an_unknown_optimiser_is_refused_with_the_nearest(self, kind: str) -> None:
        with pytest.raises(ConfigError, match="lazy-adam"):
            make_table(kind, 2, 2, options={"optimiser": "lazy-adma"})


def test_with_one_dimension_rowwise_adagrad_is_torch_adagrad() -> None:
    table = make_table("dense", 12, 1, options={"optimiser": "rowwise-adagrad", "eps": 1e-10})
    weight = torch.from_numpy(table.weight().copy()).requires_grad_()
    adagrad = torch.optim.Adagrad([weight], lr=0.05)
    for step in range(5):
        weight.grad = torch.randn(12, 1, generator=torch.Generator().manual_seed(step))
        table.apply(None, weight.grad, 0.05)
        adagrad.step()
    np.testing.assert_allclose(table.weight(), weight.detach().numpy(), rtol=1e-5, atol=1e-6)
