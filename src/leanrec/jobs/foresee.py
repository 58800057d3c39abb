"""The memory that training a model on a data set would take, before anything is started."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.config import Config
from leanrec.core.machine import free_memory, resident_memory
from leanrec.data.dataset import Dataset
from leanrec.models import MODELS
from leanrec.training.memory import MemoryNeed

__all__ = ["ForeseeJob", "Foreseen", "foresee"]


class ForeseeJob(Config, frozen=True, kw_only=True):
    """What `leanrec doctor MODEL` is told."""

    model: str
    data: str
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    workers: int = 1
    """Processes on this machine that train together, each with all it needs."""
    folder: str = "."
    """Where the run is to live."""


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed beside what there is. Bytes."""

    need: MemoryNeed
    program: int
    """The interpreter with its libraries, which the process holds before it trains."""
    memory: int
    """Of all workers together, their programs included."""
    memory_free: int
    disk: int
    disk_free: int

    @property
    def fits(self) -> bool:
        return self.memory <= self.memory_free and self.disk <= self.disk_free


def foresee(job: ForeseeJob) -> Foreseen:
    """Look at configuration and data; InputError for a model that has no forecast."""
    model: Any = MODELS[job.model](**job.settings)
    data = Dataset.load(job.data)
    program, free = resident_memory(), free_memory()
    need: MemoryNeed = model.memory(data)
    return Foreseen(
        need=need,
        program=program,
        memory=(program + need.memory_bytes) * job.workers,
        memory_free=free + program,
        disk=need.disk_bytes,
        disk_free=shutil.disk_usage(Path(job.folder)).free,
    )
