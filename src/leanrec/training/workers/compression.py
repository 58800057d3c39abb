"""Gradients made smaller on their way between workers, as hooks of DistributedDataParallel.

It checks the annotations of a hook, so they are not deferred here.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import GradBucket
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest

__all__ = ["COMPRESSIONS", "compress"]

COMPRESSIONS = ("none", "fp16", "int8", "powersgd")
_GROUP = 256
"""Values that share a scale."""


def compress(net: DistributedDataParallel, name: str) -> None:
    """Register the way of that name on the wrapped network."""
    if name not in COMPRESSIONS:
        raise ConfigError(f"unknown gradient_compression {name!r}{nearest(name, list(COMPRESSIONS))}")
    if name == "fp16":
        net.register_comm_hook(None, fp16_compress_hook)
    elif name == "int8":
        net.register_comm_hook(None, int8_hook)
    elif name == "powersgd":
        # rank 4 after ten full steps, with the residual carried over (Vogels et al., arXiv:1905.13727)
        net.register_comm_hook(PowerSGDState(None, matrix_approximation_rank=4, start_powerSGD_iter=10), powerSGD_hook)


def int8_hook(state: Any, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Each worker's gradient as int8 with one scale for 256 values; the sum is of what all of them sent.

    torch's own quantization hooks move tensors to a GPU; this one runs on any device.
    """
    del state
    flat = bucket.buffer()
    sent = _quantise(flat)
    received = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    future = dist.all_gather(received, sent, async_op=True).get_future()

    def average(_: Any) -> Tensor:
        total = torch.stack([_dequantise(piece) for piece in received]).mean(0)
        return flat.copy_(total[: flat.numel()])

    mean: torch.futures.Future[Tensor] = future.then(average)
    return mean


def _quantise(flat: Tensor) -> Tensor:
    """(groups, 256 + 4) int8: the values of each group and the bytes of its scale."""
    groups = -(-flat.numel() // _GROUP)
    values = torch.nn.functional.pad(flat, (0, groups * _GROUP - flat.numel())).view(groups, _GROUP)
    scale = (values.abs().amax(1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return torch.cat([(values / scale).round().to(torch.int8), scale.view(torch.int8)], dim=1)


def _dequantise(sent: Tensor) -> Tensor:
    scale = sent[:, _GROUP:].contiguous().view(torch.float32)
    return (sent[:, :_GROUP].float() * scale).view(-1)
