"""A table in one torch tensor, on whatever device: for GPUs, with the same optimisers in torch's operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.kernels.fresh import fresh_range
from leanrec.nn.tables.base import MemoryTable, Rows, State, TableOptions
from leanrec.nn.tables.optimisers import OPTIMISERS, make_optimiser

__all__ = ["DeviceTable"]

_BLOCK = 1 << 18


class DeviceOptions(TableOptions, frozen=True, kw_only=True):
    """Settings of a table on a device."""

    device: str = "cpu"
    """As torch names it: `cuda`, `cuda:1`, `cpu`."""


class DeviceTable(MemoryTable):
    """Rows and moments in tensors on one device; leaves are on that device too."""

    Options = DeviceOptions

    def __init__(self, num_rows: int, dim: int, config: DeviceOptions, *, seed: int) -> None:
        super().__init__(num_rows, dim, config, seed=seed)
        try:
            self.device = torch.device(config.device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigError(f"table_options: device={config.device!r} is not a device of this machine") from error
        self._step = 0
        self._moments = {
            name: torch.zeros(num_rows, moment.shape[1], device=self.device)
            for name, moment in make_optimiser(0, dim, config).moments.items()
        }
        self._weight = torch.empty(num_rows, dim, device=self.device)
        self._fill(0)

    def _fill(self, first: int) -> None:
        """Fresh values from row `first` on, by blocks so that host memory stays small."""
        for low in range(first, len(self._weight), _BLOCK):
            block = np.empty((min(_BLOCK, len(self._weight) - low), self.dim), np.float32)
            fresh_range(block, low, self.seed, self.std)
            self._weight[low : low + len(block)] = torch.from_numpy(block)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self._weight, *self._moments.values()))

    def weight(self) -> npt.NDArray[np.float32]:
        """(N, D) a view on the CPU, a copy from elsewhere."""
        return self._weight.cpu().numpy()

    def _index(self, rows_U: Rows | None) -> Tensor:
        if rows_U is None:
            return torch.arange(self.num_rows, device=self.device)
        return torch.from_numpy(rows_U.astype(np.int64)).to(self.device)

    def _read(self, rows_U: Rows | None) -> Tensor:
        return self._weight.clone() if rows_U is None else self._weight.index_select(0, self._index(rows_U))

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        self._step += 1
        index, grad_UD = self._index(rows_U), grad_UD.to(self.device)
        step_UD = grad_UD * lr
        if self.config.optimiser == "rowwise-adagrad":
            sums = self._moments["sums"]
            sums.index_add_(0, index, grad_UD.square().mean(dim=1, keepdim=True))
            step_UD /= sums.index_select(0, index).sqrt() + self.config.eps
        elif self.config.optimiser == "lazy-adam":
            step_UD = self._adam(index, grad_UD, lr)
        self._weight.index_add_(0, index, step_UD, alpha=-1.0)

    def _adam(self, index: Tensor, grad_UD: Tensor, lr: float) -> Tensor:
        c, mean, square = self.config, self._moments["mean"], self._moments["square"]
        mean_UD = mean.index_select(0, index).lerp_(grad_UD, 1.0 - c.beta1)
        square_UD = square.index_select(0, index).mul_(c.beta2).addcmul_(grad_UD, grad_UD, value=1.0 - c.beta2)
        mean.index_copy_(0, index, mean_UD)
        square.index_copy_(0, index, square_UD)
        rate = lr * (1.0 - c.beta2**self._step) ** 0.5 / (1.0 - c.beta1**self._step)
        return mean_UD.mul_(rate).div_(square_UD.sqrt_().add_(c.eps))

    def _grow(self, num_rows: int) -> None:
        old, more = self.num_rows, num_rows - self.num_rows
        self._weight = torch.cat([self._weight, torch.empty(more, self.dim, device=self.device)])
        self._fill(old)
        for name, moment in self._moments.items():
            self._moments[name] = torch.cat([moment, moment.new_zeros(more, moment.shape[1])])

    def _forget(self, rows_E: Rows) -> None:
        for tensor in (self._weight, *self._moments.values()):
            tensor.index_fill_(0, self._index(rows_E), 0.0)

    def _tensors(self) -> State:
        moments = {name: moment.cpu().numpy() for name, moment in self._moments.items()}
        return {"weight": self._weight.cpu().numpy(), "step": np.asarray([self._step], np.int64), **moments}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._step = int(state["step"][0])
        for name, tensor in (("weight", self._weight), *self._moments.items()):
            tensor.copy_(torch.from_numpy(np.array(state[name])))


assert set(OPTIMISERS) == {"lazy-adam", "rowwise-adagrad", "sgd"}, "each needs its torch form above"
