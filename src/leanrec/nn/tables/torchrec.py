"""A table whose rows TorchRec deals out over the workers of a torch.distributed group, in blocks of ceil(N / W).

Lookups and their gradients travel by TorchRec's row-wise sharding; FBGEMM's fused optimiser, on CPUs, makes the step.
`scripts/install_torchrec.sh` installs both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor
from torchrec.distributed.comm_ops import get_gradient_division
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.sharding.sequence_sharding import SequenceShardingContext
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
from torchrec.distributed.types import ShardingEnv
from torchrec.modules.embedding_configs import EmbeddingConfig
from torchrec.modules.embedding_modules import EmbeddingCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from leanrec.core.errors import ConfigError
from leanrec.nn.tables.base import Rows, State, Table, TableOptions
from leanrec.nn.tables.dense import DenseTable
from leanrec.nn.tables.sharded import SpreadTable

__all__ = ["TorchRecTable"]

_OPTIMISERS = {"rowwise-adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD, "sgd": EmbOptimType.EXACT_SGD}
"""Those of ours that FBGEMM has on CPUs: its Adam is for GPUs only."""
_TABLE, _FEATURE = "rows", "row"


@dataclass(frozen=True, slots=True)
class _Lookup:
    """The last `gather`, kept for the way back."""

    local_V: Rows
    """What all workers asked of this one, as places in its block; repeats allowed."""
    mine_VD: Tensor
    """The values that it sent: a leaf, where their gradients arrive."""
    got_UD: Tensor
    """What this worker asked for and got, with TorchRec's exchange behind it."""


class TorchRecTable(SpreadTable):
    """An EmbeddingCollection of one table, sharded row-wise; its state is that of a `dense` table.

    FBGEMM takes the learning rate of a step when rows are looked up, before it is known. So only the exchange is
    differentiated through to the other workers, and `apply` looks the touched rows up again where they live, which
    costs no message, for the fused step.
    """

    def __init__(self, num_rows: int, make: Callable[[int], Table]) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._make = make
        fresh = self._fresh(num_rows)
        super().__init__(num_rows, fresh.dim, fresh.config, seed=fresh.seed)
        self._lookup: _Lookup | None = None
        self._steps = 0
        self._build(num_rows)
        self._load_tensors(fresh.state())

    def _fresh(self, num_rows: int) -> Table:
        """The unsharded table as it starts."""
        fresh = self._make(num_rows)
        if not isinstance(fresh, DenseTable):
            raise ConfigError("table_placement=torchrec keeps rows in memory as float32: use table=dense with it")
        if fresh.config.optimiser not in _OPTIMISERS:
            raise ConfigError(
                f"table_placement=torchrec cannot step rows by {fresh.config.optimiser}: set table_options.optimiser "
                f"to {' or '.join(_OPTIMISERS)}"
            )
        if num_rows <= (self.world - 1) * -(-num_rows // self.world):
            raise ConfigError(f"{num_rows} rows leave one of {self.world} workers without any: use fewer workers")
        return fresh

    def _build(self, num_rows: int) -> None:
        self._block = -(-num_rows // self.world)
        self._first = self.rank * self._block
        rows = EmbeddingConfig(name=_TABLE, embedding_dim=self.dim, num_embeddings=num_rows, feature_names=[_FEATURE])
        whole = EmbeddingCollection(tables=[rows], device=torch.device("meta"))
        sharder = EmbeddingCollectionSharder(fused_params=_fused(self.config))
        plan = construct_module_sharding_plan(
            whole, {_TABLE: row_wise(compute_kernel="fused")}, sharder=sharder,
            local_size=self.world, world_size=self.world, device_type="cpu",
        )  # fmt: skip
        group = ShardingEnv.from_process_group(dist.group.WORLD)
        self._sharded = sharder.shard(whole, plan, group, torch.device("cpu"))
        (weight,) = self._sharded.state_dict().values()
        (moments,) = self._sharded.fused_optimizer.state_dict()["state"].values()
        self._local: dict[str, npt.NDArray[np.float32]] = {"weight": _shard(weight)}
        for moment in moments.values():  # Adagrad's sums; nothing for SGD
            self._local["sums"] = _shard(moment)[:, None]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self._local.values())

    def resident(self) -> npt.NDArray[np.float32]:
        return self._local["weight"]

    def resident_rows(self, rows_M: Rows) -> Rows:
        return rows_M - np.int32(self._first)

    def close(self) -> None:
        self._lookup = None

    def _read(self, rows_U: Rows | None) -> Tensor:
        if rows_U is None:
            return torch.from_numpy(self.weight())
        context = self._sharded.create_context()
        asked = self._sharded.input_dist(context, _keyed(rows_U)).wait().wait()
        with torch.no_grad():
            mine_VD = self._sharded.compute(context, asked)[0]
        mine_VD = mine_VD.detach().requires_grad_()
        got_UD = self._sharded.output_dist(context, [mine_VD])[_FEATURE].values()
        local_V = asked[0].values().numpy().astype(np.int32)
        self._lookup = _Lookup(local_V, mine_VD, got_UD)
        values_UD: Tensor = got_UD.detach().clone()
        return values_UD

    def exchange(self, rows_U: Rows | None, grad_UD: Tensor) -> Callable[[], tuple[Rows | None, Tensor]]:
        if rows_U is None:
            whole = dist.all_reduce(grad_UD, async_op=True)
            return lambda: (whole.wait(), (None, grad_UD))[1]
        lookup, self._lookup = self._lookup, None
        assert lookup is not None and len(lookup.got_UD) == len(rows_U), "gather comes first"
        # TorchRec takes the mean over workers unless it is told otherwise; here gradients are summed
        torch.autograd.backward(lookup.got_UD, grad_UD * self.world if get_gradient_division() else grad_UD)
        received_VD = lookup.mine_VD.grad
        assert received_VD is not None
        local_M, place_V = self.distinct(lookup.local_V)
        summed_MD = torch.zeros(len(local_M), self.dim).index_add_(0, torch.from_numpy(place_V), received_VD)
        return lambda: (local_M + np.int32(self._first), summed_MD)

    def _update(self, rows_U: Rows | None, grad_UD: Tensor, lr: float) -> None:
        self._steps += 1
        if rows_U is None:
            rows_U = self.mine(np.arange(self.num_rows, dtype=np.int32))
            grad_UD = grad_UD[self.part(self.rank)]
        if not len(rows_U):
            return
        optimiser = self._sharded.fused_optimizer
        for group in optimiser.param_groups:
            group["lr"] = lr
        optimiser.step()  # sets the rate; the step itself is made by backward
        context = self._sharded.create_context()
        context.sharding_contexts.append(SequenceShardingContext())
        torch.autograd.backward(self._sharded.compute(context, [_keyed(self.resident_rows(rows_U))]), [grad_UD])

    def _grow(self, num_rows: int) -> None:
        kept, grown = self._tensors(), self._fresh(num_rows).state()
        for name in self._local:
            grown[name][: self.num_rows] = kept[name]
        self._build(num_rows)
        self._load_tensors({**grown, "step": kept["step"]})

    def _forget(self, rows_E: Rows) -> None:
        local_E = self.resident_rows(rows_E)
        local_E = local_E[(local_E >= 0) & (local_E < len(self.resident()))]
        for array in self._local.values():
            array[local_E] = 0.0

    def _tensors(self) -> State:
        step = np.asarray([self._steps], np.int64)
        return {"step": step, **{name: self.join(array) for name, array in self._local.items()}}

    def _load_tensors(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self._steps = int(state["step"][0])
        for name, array in self._local.items():
            array[:] = self.mine(state[name])

    def part(self, rank: int) -> slice:
        return slice(rank * self._block, (rank + 1) * self._block)


def _fused(config: TableOptions) -> dict[str, Any]:
    return {"optimizer": _OPTIMISERS[config.optimiser], "learning_rate": 0.0, "eps": config.eps}


def _shard(values: Any) -> npt.NDArray[np.float32]:
    """A view of what this worker holds of a ShardedTensor."""
    array: npt.NDArray[np.float32] = values.local_shards()[0].tensor.detach().numpy()
    return array


def _keyed(rows_U: Rows) -> Any:
    """The rows as one bag, whose values TorchRec keeps apart and in order."""
    values_U = torch.from_numpy(rows_U.astype(np.int64))
    return KeyedJaggedTensor(keys=[_FEATURE], values=values_U, lengths=torch.tensor([len(rows_U)]))
