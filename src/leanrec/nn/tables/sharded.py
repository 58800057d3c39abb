"""Tables whose rows are dealt out over the workers of a torch.distributed group: ours give row r to worker r mod W."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from leanrec.core.errors import ConfigError
from leanrec.kernels.rows import add_rows
from leanrec.nn.tables.base import Rows, State, Table

__all__ = ["ShardedTable", "SpreadTable"]

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the rows that this worker asked for live, and which of its own rows the others asked for."""

    order_U: I64
    """Places of the asked rows, by owner."""
    asked: list[int]
    wanted: list[int]
    """Rows asked of each worker, and wanted by each."""
    local_V: Rows
    """The wanted rows, as places in the local table."""


class SpreadTable(Table):
    """Each row lives on one worker: values travel to who asks, gradients to who owns.

    `gather`, `exchange` and whatever looks at the whole table are called by all workers at once. `apply` takes only
    rows that live here, as `exchange` gives them. Its state is that of the unsharded table, so a checkpoint fits any
    number of workers.
    """

    rank: int
    world: int

    @abstractmethod
    def part(self, rank: int) -> slice:
        """Which rows live on that worker."""

    @abstractmethod
    def resident(self) -> npt.NDArray[np.float32]:
        """(M, D) the rows that live here; a view where the table has one."""

    @abstractmethod
    def resident_rows(self, rows_M: Rows) -> Rows:
        """The places among them of rows that live here."""

    @abstractmethod
    def exchange(self, rows_U: Rows | None, grad_UD: Tensor) -> Callable[[], tuple[Rows | None, Tensor]]:
        """Start sending gradients to the owners; what is returned waits, and gives the rows of this worker that were
        touched by any, with summed gradients. rows_U: those of the last `gather`.
        """

    @final
    def prefetch(self, rows_S: Rows) -> None:
        del rows_S

    @final
    def keep(self, states: Sequence[Mapping[str, npt.NDArray[Any]]]) -> None:
        del states

    @final
    def weight(self) -> npt.NDArray[np.float32]:
        return self.join(self.resident())

    @final
    def join(self, mine: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An entry for each row of the table, from what each worker has for its own."""
        whole = np.empty((self.num_rows, *mine.shape[1:]), mine.dtype)
        for rank in range(self.world):
            part = whole[self.part(rank)]
            piece = np.ascontiguousarray(mine) if rank == self.rank else np.empty_like(part)
            dist.broadcast(torch.from_numpy(piece), rank)
            part[:] = piece
        return whole

    @final
    def mine(self, whole: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `join`."""
        return whole[self.part(self.rank)]


class ShardedTable(SpreadTable):
    """One contract table a worker, of every W-th row; rows travel to who asks, gradients to who owns.

    make: a table of so many rows, fresh.
    """

    def __init__(self, num_rows: int, make: Callable[[int], Table]) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._make = make
        self.local = make(self._share(num_rows))
        super().__init__(num_rows, self.local.dim, self.local.config, seed=self.local.seed)
        self._start(num_rows, 0)
        self._route: _Route | None = None

    def _share(self, num_rows: int) -> int:
        return len(range(self.rank, num_rows, self.world))

    def _start(self, num_rows: int, kept: int) -> None:
        """Give local rows from number `kept` on the values that the unsharded table starts with."""
        fresh, state = self._make(num_rows).weight(), self.local.state()
        if not self.local.num_rows or not _by_row(state.get("weight", fresh[:0]), self.local.num_rows):
            raise ConfigError("this kind of table, or one of so few rows, cannot be sharded: leave table_placement out")
        weight = np.array(state["weight"])
        weight[kept:] = fresh[self.rank :: self.world][kept:]
        self.local.load_state({**state, "weight": weight})

    @property
    def nbytes(self) -> int:
        return self.local.nbytes

    def part(self, rank: int) -> slice:
        return slice(rank, None, self.world)

    def resident(self) -> npt.NDArray[np.float32]:
        return self.local.weight()

    def resident_rows(self, rows_M: Rows) -> Rows:
        return rows_M // np.int32(self.world)

    def close(self) -> None:
        self.local.close()

    def _read(self, rows_U: Rows | None) -> Tensor:
        if rows_U is None:
            return torch.from_numpy(self.weight())
        route = self._route = self._plan(rows_U)
        mine_VD = self.local.gather(route.local_V).detach()
        sorted_UD = torch.empty(len(rows_U), self.dim)
        dist.all_to_all_single(sorted_UD, mine_VD, route.asked, route.wanted)
        leaf = torch.empty_like(sorted_UD)
        leaf[torch.from_numpy(route.order_U)] = sorted_UD
        return leaf

    def _plan(self, rows_U: Rows) -> _Route:
        owner_U = rows_U % self.world
        order_U = np.argsort(owner_U, kind="stable")
        asked = torch.from_numpy(np.bincount(owner_U, minlength=self.world))
        wanted = torch.empty_like(asked)
        dist.all_to_all_single(wanted, asked)
        local_U = torch.from_numpy(rows_U[order_U] // self.world)
        local_V = torch.empty(int(wanted.sum()), dtype=torch.int32)
        dist.all_to_all_single(local_V, local_U, wanted.tolist(), asked.tolist())
        return _Route(order_U, asked.tolist(), wanted.tolist(), local_V.numpy())

    def exchange(self, rows_U: Rows | None, grad_UD: Tensor) -> Callable[[], tuple[Rows | None, Tensor]]:
        if rows_U is None:
            whole = dist.all_reduce(grad_UD, async_op=True)
            return lambda: (whole.wait(), (None, grad_UD))[1]
        route = self._route
        assert route is not None and len(route.order_U) == len(rows_U), "gather comes first"
        received_VD = torch.empty(len(route.local_V), self.dim)
        sorted_UD = grad_UD.index_select(0, torch.from_numpy(route.order_U))
        work = dist.all_to_all_single(received_VD, sorted_UD, route.wanted, route.asked, async_op=True)

        def finish() -> tuple[Rows, Tensor]:
            work.wait()
            local_M, place_V = self.local.distinct(route.local_V)
            summed_MD = np.zeros((len(local_M), self.dim), np.float32)
            add_rows(received_VD.numpy(), place_V, summed_MD)
            return local_M * np.int32(self.world) + np.int32(self.rank), torch.from_numpy(summed_MD)

        return finish

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        if rows_U is None:
            self.local.apply(None, grad_UD[self.rank :: self.world].contiguous(), lr)
        else:
            self.local.apply(rows_U // np.int32(self.world), grad_UD, lr)

    def _grow(self, num_rows: int) -> None:
        kept = self.local.num_rows
        self.local.grow(self._share(num_rows))
        self._start(num_rows, kept)

    def _forget(self, rows_E: Rows) -> None:
        self.local.erase(rows_E[rows_E % self.world == self.rank] // np.int32(self.world))

    def _tensors(self) -> State:
        return {
            name: self.join(array) if _by_row(array, self.local.num_rows) else array
            for name, array in self.local.state().items()
            if name not in _OF_BASE
        }

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        mine = {n: self.mine(a) if _by_row(a, self.num_rows) else a for n, a in state.items()}
        erased = state["erased"]
        mine["rows"] = np.asarray([self.local.num_rows, self.dim], np.int64)
        mine["erased"] = erased[erased % self.world == self.rank] // np.int32(self.world)
        self.local.load_state(mine)


_OF_BASE = ("rows", "erased")


def _by_row(array: npt.NDArray[Any], rows: int) -> bool:
    """Whether an array of a table's state has an entry for each row; counts and marks are int64."""
    return array.dtype.kind == "f" and array.ndim > 0 and len(array) == rows
