"""How the learning rate moves over a run."""

from __future__ import annotations

import math

from leanrec.core.errors import ConfigError
from leanrec.core.registry import nearest

__all__ = ["SCHEDULES", "check_schedule", "rate_at"]

SCHEDULES = ("constant", "linear", "cosine", "inverse-sqrt")


def check_schedule(name: str) -> None:
    """A ConfigError unless `name` is one of SCHEDULES."""
    if name not in SCHEDULES:
        raise ConfigError(f"schedule={name!r} is not one of {', '.join(SCHEDULES)}{nearest(name, list(SCHEDULES))}")


def rate_at(name: str, lr: float, warmup: int, total: int, step: int) -> float:
    """The learning rate of step 1, 2, ...: a linear rise to `lr` over `warmup` steps, then as `name` says.

    linear and cosine (Loshchilov & Hutter, arXiv:1608.03983) fall to zero at `total` steps; inverse-sqrt (Vaswani et
    al., arXiv:1706.03762) falls with the root of the step and needs no end.
    """
    rise = min(1.0, step / max(warmup, 1))
    if name == "constant":
        return lr * rise
    if name == "inverse-sqrt":
        return lr * rise * math.sqrt(max(warmup, 1) / max(step, warmup, 1))
    left = 1.0 - min(max(step - warmup, 0) / max(total - warmup, 1), 1.0)
    return lr * rise * (left if name == "linear" else 0.5 - 0.5 * math.cos(math.pi * left))
