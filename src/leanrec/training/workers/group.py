"""The processes of a torch.distributed group, over gloo between CPUs and NCCL between GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from leanrec.core.errors import ConfigError, MachineError
from leanrec.core.registry import nearest
from leanrec.kernels.packing import deal
from leanrec.nn.tables.base import Table
from leanrec.nn.tables.sharded import ShardedTable, SpreadTable
from leanrec.training.loader import Batch
from leanrec.training.workers.base import Rows, Workers, WorkersConfig
from leanrec.training.workers.dense import (
    Dense,
    Local,
    Replicated,
    Sharded,
    TensorParallel,
    place,
    split_squares,
    whole,
)
from leanrec.training.workers.exchange import Replicas

__all__ = ["Group", "deal_rows", "take_rows"]

_CHOICES = {
    "parallel": ("ddp", "fsdp", "tensor"),
    "table_placement": ("replicated", "sharded", "torchrec"),
    "table_updates": ("sync", "async"),
}
_POLL_EVERY = 16


class Group(Workers):
    """This process and the others of the default group, which must exist."""

    def __init__(self, config: WorkersConfig) -> None:
        _check(config)
        self.config = config
        self.rank, self.world, self.poll_every = dist.get_rank(), dist.get_world_size(), _POLL_EVERY
        self._dense = _dense(config)
        self.uniform = config.parallel != "tensor"
        self.lane = self.rank if self._dense.splits_batch else 0
        self._table: Any = None
        self._pending: Callable[[], tuple[Rows | None, Tensor]] | None = None
        self._steps = 0

    def wrap(self, net: nn.Module) -> nn.Module:
        return self._dense.wrap(net)

    def table(self, num_rows: int, make: Callable[[int], Table]) -> Table:
        placement = self.config.table_placement
        if placement != "replicated":
            self._table = ShardedTable(num_rows, make) if placement == "sharded" else _torchrec(num_rows, make)
            return self._table  # type: ignore[no-any-return]
        table = make(num_rows)
        self._table = Replicas(table)
        return table

    def part(self, batch: Batch) -> tuple[Batch, float]:
        if not self._dense.splits_batch:
            return batch, 1.0
        row_T = batch.slots_T // batch.items_RL.shape[1]
        count_R = np.bincount(row_T, minlength=len(batch.items_RL))
        mine = deal_rows(count_R, self.world)[self.rank]
        if len(mine) == 0:  # fewer rows than workers: compute one all the same, and let it count nothing
            return batch.rows(0, 1), 0.0
        part = take_rows(batch, mine)
        return part, len(part.targets_T) * self.world / len(batch.targets_T)

    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        return self._dense.accumulating(more)

    def announce(self, rows_U: Rows | None) -> None:
        if self._dense.splits_batch and isinstance(self._table, Replicas):
            self._table.announce(rows_U)

    def mean(self, loss: float) -> Callable[[], float]:
        total = torch.tensor([loss], dtype=torch.float64)
        work = dist.all_reduce(total, async_op=True)
        return lambda: (work.wait(), float(total) / self.world)[1]

    def merge(self, rows_U: Rows | None, grad_UD: Tensor) -> tuple[Rows | None, Tensor]:
        if not self._dense.splits_batch:
            return rows_U, grad_UD
        finish = self._table.exchange(rows_U, grad_UD / self.world)
        if self.config.table_updates == "async":
            finish, self._pending = self._pending, finish
        if finish is None:
            return np.empty(0, np.int32), grad_UD.new_empty(0, grad_UD.shape[1])
        return finish()  # type: ignore[no-any-return]

    def drain(self) -> tuple[Rows | None, Tensor] | None:
        finish, self._pending = self._pending, None
        return None if finish is None else finish()

    def resident(self, table: Table) -> npt.NDArray[np.float32]:
        return table.resident() if isinstance(table, SpreadTable) else table.weight()

    def resident_rows(self, rows_U: Rows) -> Rows:
        return self._table.resident_rows(rows_U) if isinstance(self._table, SpreadTable) else rows_U

    def join(self, array_M: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._table.join(array_M) if isinstance(self._table, SpreadTable) else array_M

    def mine(self, array_N: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return self._table.mine(array_N) if isinstance(self._table, SpreadTable) else array_N

    def norm(self, grads: Iterable[Tensor], grad_UD: Tensor) -> float:
        same, split = split_squares(list(grads))
        rows = float(grad_UD.square().sum())
        if isinstance(self._table, Replicas):
            same += rows
        else:
            split += rows
        total = torch.tensor([split], dtype=torch.float64)
        dist.all_reduce(total)
        return float((total + same).sqrt())

    def stepped(self, net: nn.Module) -> None:
        self._steps += 1
        if self.config.local_steps > 1 and self._steps % self.config.local_steps == 0:
            self.settle(net.parameters())

    def settle(self, weights: Iterable[Tensor]) -> None:
        if self.config.local_steps == 1:
            return
        tensors = list(weights)
        with torch.no_grad():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            flat /= self.world
            parts = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def whole(self, parameter: Tensor, value: Tensor) -> npt.NDArray[np.float32]:
        return whole(value, self._dense.order(parameter))

    def place(self, parameter: Tensor, value: npt.NDArray[Any]) -> Tensor:
        return place(parameter, value, self._dense.order(parameter))

    def agree(self, value: float) -> float:
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, 0)
        return float(told)


def deal_rows(count_R: npt.NDArray[np.int64], world: int) -> list[npt.NDArray[np.int64]]:
    """The packed rows of each worker, balanced by predictions: the fullest first, to who has least.

    Workers also get as equal a number of rows as there is, because an empty slot costs what a full one does.
    """
    owner_R = np.empty(len(count_R), np.int64)
    deal(np.argsort(-count_R, kind="stable"), count_R, world, owner_R)
    return [np.flatnonzero(owner_R == rank) for rank in range(world)]


def take_rows(batch: Batch, rows: npt.NDArray[np.int64]) -> Batch:
    """The part of a batch in these packed rows, with the same negatives."""
    place_R = np.full(len(batch.items_RL), -1, np.int64)
    place_R[rows] = np.arange(len(rows))
    row_T, column_T = np.divmod(batch.slots_T, batch.items_RL.shape[1])
    kept = np.flatnonzero(place_R[row_T] >= 0)
    parts = {}
    for field in fields(batch):  # names end in the shape
        value = getattr(batch, field.name)
        if value is not None and field.name.endswith(("_RL", "_T")):
            parts[field.name] = value[rows if field.name.endswith("_RL") else kept]
    parts["slots_T"] = place_R[row_T[kept]] * batch.items_RL.shape[1] + column_T[kept]
    return replace(batch, **parts)


def _dense(config: WorkersConfig) -> Dense:
    if config.parallel == "fsdp":
        return Sharded()
    if config.parallel == "tensor":
        return TensorParallel()
    return Local() if config.local_steps > 1 else Replicated(config.gradient_compression)


def _torchrec(num_rows: int, make: Callable[[int], Table]) -> SpreadTable:
    try:
        from leanrec.nn.tables.torchrec import TorchRecTable
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("leanrec"):
            raise
        raise MachineError(
            f"table_placement=torchrec needs the package {error.name!r}, which is not installed: run  "
            "scripts/install_torchrec.sh"
        ) from error
    return TorchRecTable(num_rows, make)


def _check(config: WorkersConfig) -> None:
    """Refuse an unknown choice, or two that exclude each other."""
    for key, known in _CHOICES.items():
        value = getattr(config, key)
        if value not in known:
            raise ConfigError(f"{key}={value!r} is not one of {', '.join(known)}{nearest(value, list(known))}")
    if config.local_steps < 1:
        raise ConfigError(f"local_steps={config.local_steps} is below 1: 1 averages at every step")
    if config.parallel != "ddp":
        for key, plain in (("gradient_compression", "none"), ("local_steps", 1)):
            if getattr(config, key) != plain:
                raise ConfigError(f"{key} goes with parallel=ddp, not {config.parallel}: leave one of them out")
    if config.local_steps > 1 and config.gradient_compression != "none":
        raise ConfigError("local_steps sends weights, not gradients: leave gradient_compression out")
    if config.parallel == "tensor" and (config.table_placement, config.table_updates) != ("replicated", "sync"):
        raise ConfigError("parallel=tensor gives every worker the same rows: use table_placement=replicated, sync")
    if (config.table_placement, config.table_updates) == ("torchrec", "async"):
        raise ConfigError("table_updates=async goes with replicated or sharded tables: leave it out with torchrec")
