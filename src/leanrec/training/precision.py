"""Which arithmetic training uses.

Products run in the mode's type; weights, moments, table rows, normalisation, losses and dropout stay in float32.
"""

from __future__ import annotations

from leanrec.core.errors import ConfigError, MachineError
from leanrec.core.machine import cpu_flags
from leanrec.core.registry import nearest

__all__ = ["PRECISIONS", "choose_device", "choose_precision"]

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
_PAYS_FROM_DIM = 64
"""Narrower layers spend more on casting than bfloat16 products save (docs/log.md has the figures)."""


def choose_precision(precision: str, dim: int, device: str = "cpu") -> str:
    """`float32`, `bfloat16` or `float16`: as asked, or by the device and the width.

    auto is bfloat16 where the processor multiplies it, from a width that makes it pay. float16 is for GPUs without
    bfloat16: its loss is scaled so that small gradients survive.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision={precision!r} is not one of {', '.join(PRECISIONS)}{nearest(precision, list(PRECISIONS))}"
        )
    if precision != "auto":
        return precision
    return "bfloat16" if device != "cpu" or (dim >= _PAYS_FROM_DIM and "avx512_bf16" in cpu_flags()) else "float32"


def choose_device(device: str) -> str:
    """`cpu` or a torch device; `auto` is the GPU when there is one. An absent device is a MachineError."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        raise MachineError(f"device={device}: torch sees no GPU here; leave it out, or use --set device=cpu")
    return device
