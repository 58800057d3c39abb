"""Who takes part in a training run: one process alone, or a group of workers that share every step."""

from __future__ import annotations

from leanrec.core.registry import Entry, Registry
from leanrec.training.workers.base import Workers, WorkersConfig

__all__ = ["WORKERS", "Workers", "WorkersConfig"]

WORKERS: Registry[Workers] = Registry(
    "kind of workers",
    {
        "solo": Entry("leanrec.training.workers.solo:Solo", "one process", "train"),
        "group": Entry("leanrec.training.workers.group:Group", "the processes of a torch.distributed group", "train"),
    },
)
