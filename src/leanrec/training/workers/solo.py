"""One process: nothing to share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from leanrec.nn.tables.base import Table
from leanrec.training.loader import Batch
from leanrec.training.workers.base import Rows, Workers, WorkersConfig

__all__ = ["Solo"]

_ANY = WorkersConfig()


class Solo(Workers):
    """The only worker of its run."""

    def __init__(self, config: WorkersConfig = _ANY) -> None:
        del config

    def wrap(self, net: nn.Module) -> nn.Module:
        return net

    def table(self, num_rows: int, make: Callable[[int], Table]) -> Table:
        return make(num_rows)

    def part(self, batch: Batch) -> tuple[Batch, float]:
        return batch, 1.0

    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        del more
        return nullcontext()

    def announce(self, rows_U: Rows | None) -> None:
        del rows_U

    def mean(self, loss: float) -> Callable[[], float]:
        return lambda: loss

    def merge(self, rows_U: Rows | None, grad_UD: Tensor) -> tuple[Rows | None, Tensor]:
        return rows_U, grad_UD

    def drain(self) -> tuple[Rows | None, Tensor] | None:
        return None

    def resident(self, table: Table) -> npt.NDArray[np.float32]:
        return table.weight()

    def resident_rows(self, rows_U: Rows) -> Rows:
        return rows_U

    def join(self, array_M: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array_M

    def mine(self, array_N: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array_N

    def norm(self, grads: Iterable[Tensor], grad_UD: Tensor) -> float:
        return float(torch.nn.utils.get_total_norm([*grads, grad_UD]))

    def stepped(self, net: nn.Module) -> None:
        del net

    def settle(self, weights: Iterable[Tensor]) -> None:
        del weights

    def whole(self, parameter: Tensor, value: Tensor) -> npt.NDArray[np.float32]:
        del parameter
        array: npt.NDArray[np.float32] = value.detach().cpu().numpy()
        return array

    def place(self, parameter: Tensor, value: npt.NDArray[Any]) -> Tensor:
        del parameter
        return torch.from_numpy(value.copy())

    def agree(self, value: float) -> float:
        return value
