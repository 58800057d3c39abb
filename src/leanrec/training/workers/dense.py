"""How the dense weights of a network are spread over workers: one class a way, chosen by `parallel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from leanrec.core.errors import ConfigError
from leanrec.nn.blocks.attention import Attention
from leanrec.nn.blocks.ligr import LiGRBlock
from leanrec.nn.blocks.sasrec import SASRecBlock
from leanrec.training.workers.compression import compress

__all__ = ["Dense", "Local", "Replicated", "Sharded", "TensorParallel", "place", "split_squares", "whole"]


class Dense(ABC):
    """One way to spread dense weights. splits_batch: workers see different parts of a batch."""

    splits_batch: ClassVar[bool] = True

    @abstractmethod
    def wrap(self, net: nn.Module) -> nn.Module:
        """The module to call forward on; parameters of `net` may become DTensors."""

    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        """Around a backward; gradients travel only when no more is to come."""
        del more
        return nullcontext()

    def order(self, parameter: Tensor) -> Tensor | None:
        """How the first dimension of a parameter was permuted before it was split; None: it was not."""
        del parameter
        return None


class Replicated(Dense):
    """All weights at every worker; gradients are averaged while backward goes on (DistributedDataParallel)."""

    def __init__(self, compression: str) -> None:
        self.compression = compression

    def wrap(self, net: nn.Module) -> nn.Module:
        self._net = DistributedDataParallel(net, gradient_as_bucket_view=True)
        compress(self._net, self.compression)
        return self._net

    def accumulating(self, more: bool) -> AbstractContextManager[Any]:
        return self._net.no_sync() if more else nullcontext()


class Local(Dense):
    """All weights at every worker, each with its own gradients: the group averages weights now and then."""

    def wrap(self, net: nn.Module) -> nn.Module:
        with torch.no_grad():
            for parameter in net.parameters():
                dist.broadcast(parameter, 0)
        return net


class Sharded(Dense):
    """Weights, gradients and moments cut into W parts, gathered layer by layer while they are needed (FSDP2)."""

    def wrap(self, net: nn.Module) -> nn.Module:
        mesh = _mesh(net)
        for layers in (module for module in net.modules() if isinstance(module, nn.ModuleList)):
            for layer in layers:
                fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh)
        return net


class TensorParallel(Dense):
    """Attention heads and the hidden units of feed-forward layers split over workers, which share every batch.

    Where one linear layer holds several kinds of outputs end to end (queries, keys and values; value and gate), its
    outputs are put in an order whose W-th parts hold a part of each kind (Megatron-LM, arXiv:1909.08053).
    """

    splits_batch: ClassVar[bool] = False

    def __init__(self) -> None:
        self._orders: dict[int, Tensor] = {}

    def wrap(self, net: nn.Module) -> nn.Module:
        mesh = _mesh(net)
        world, split = mesh.size(), 0
        for module in net.modules():
            if isinstance(module, Attention):
                if module.heads % world:
                    raise ConfigError(
                        f"parallel=tensor splits {module.heads} heads over {world} workers: choose heads as a multiple"
                    )
                self._split(module, "qkv", "out", kinds=3, mesh=mesh)
                module.heads //= world
            elif isinstance(module, (SASRecBlock, LiGRBlock)):
                self._split(module, "up", "down", kinds=1 if isinstance(module, SASRecBlock) else 2, mesh=mesh)
            else:
                continue
            split += 1
        if not split:
            raise ConfigError("parallel=tensor knows transformers; use parallel=ddp or fsdp with this model")
        return net

    def _split(self, module: nn.Module, first: str, second: str, *, kinds: int, mesh: DeviceMesh) -> None:
        into: nn.Linear = getattr(module, first)
        order = torch.arange(into.out_features).view(kinds, mesh.size(), -1).transpose(0, 1).reshape(-1)
        with torch.no_grad():
            into.weight.copy_(into.weight[order])
            into.bias.copy_(into.bias[order])
        parallelize_module(module, mesh, {first: ColwiseParallel(), second: RowwiseParallel()})
        if kinds > 1:
            self._orders |= {id(into.weight): order, id(into.bias): order}

    def order(self, parameter: Tensor) -> Tensor | None:
        return self._orders.get(id(parameter))


def _mesh(net: nn.Module) -> DeviceMesh:
    device = next(net.parameters()).device.type
    return init_device_mesh(device, (dist.get_world_size(),))


def whole(value: Tensor, order: Tensor | None) -> npt.NDArray[np.float32]:
    """All of a tensor that may be split, in its order before `wrap`."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    if order is not None and value.ndim:
        back = torch.empty_like(value)
        back[order] = value
        value = back
    array: npt.NDArray[np.float32] = value.detach().cpu().numpy()
    return array


def place(parameter: Tensor, value: npt.NDArray[Any], order: Tensor | None) -> Tensor:
    """The inverse of `whole`, split as `parameter` is; a value of another shape (a step count) stays whole."""
    tensor = torch.from_numpy(value.copy())
    if tensor.shape != parameter.shape:
        return tensor
    if order is not None:
        tensor = tensor[order]
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
    return tensor


def split_squares(grads: list[Tensor]) -> tuple[float, float]:
    """Sums of squares of the gradients that every worker has whole, and of this worker's parts of the others."""
    sums = [0.0, 0.0]
    for grad in grads:
        split = isinstance(grad, DTensor) and any(isinstance(p, Shard) for p in grad.placements)
        local = grad.to_local() if isinstance(grad, DTensor) else grad
        sums[split] += float(local.square().sum())
    return sums[0], sums[1]
