"""How a search goes about, and what its answers depend on."""

from __future__ import annotations

import os
from typing import Any

import leanrec
from leanrec.compression.samplers import SAMPLERS
from leanrec.compression.space import PlanSpace
from leanrec.core.config import Config
from leanrec.core.errors import ConfigError
from leanrec.core.machine import cpu_flags, cpu_model
from leanrec.data.dataset import Dataset
from leanrec.runtime.recommender import Recommender

__all__ = ["SearchOptions", "circumstances"]

_LEARN = 30.0
_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class SearchOptions(Config, frozen=True, kw_only=True):
    """How a search goes about. steps: which may be tried, all by default. survivors: how many are measured in full."""

    trials: int = 40
    seconds: float | None = None
    concurrency: int = 1
    again: float = 0.0
    """Share of the questions that were asked shortly before, word for word: what answers that are kept can buy."""
    sampler: str = "tpe"
    seed: int = 0
    survivors: int = 6
    steps: tuple[str, ...] | None = None
    alpha: float = 0.05
    measure_seconds: float = 2.0
    learn_seconds: float | None = None
    """How long one step may learn; a twentieth of `seconds` when nothing is said, half a minute without either."""

    def __post_init__(self) -> None:
        for name in ("trials", "concurrency", "survivors"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seconds", "measure_seconds", "learn_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be above 0, not {value:g}")
        if not 0 <= self.again < 1:
            raise ConfigError(f"again is a share of the questions, from 0 to less than 1, not {self.again:g}")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"alpha is a probability above 0 and below 1, not {self.alpha:g}")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, not {self.seed}")
        _ = SAMPLERS[self.sampler]  # known

    @property
    def learning(self) -> float:
        """Seconds that one step may learn."""
        if self.learn_seconds is not None:
            return self.learn_seconds
        return _LEARN if self.seconds is None else self.seconds / 20

    def plans(self) -> PlanSpace:
        """What may be tried; ConfigError for a step that there is not."""
        return PlanSpace.of(self.steps)


def circumstances(model: Recommender, data: Dataset, options: SearchOptions) -> dict[str, Any]:
    """What every answer in the journal depends on."""
    flags = sorted(cpu_flags() & {"avx2", "avx512f", "avx512_vnni", "amx_int8"})
    return {
        "bundle": model.id,
        "data": data.fingerprint,
        "seed": options.seed,
        "concurrency": options.concurrency,
        "again": options.again,
        "measure_seconds": options.measure_seconds,
        "learn_seconds": options.learning,
        "processor": [cpu_model(), *flags],
        "cores": len(os.sched_getaffinity(0)),
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
        "version": leanrec.__version__,
    }
