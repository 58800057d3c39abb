"""One training run on several workers: processes here under torchrun's agent, or workers of a Ray cluster."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.errors import ConfigError, InputError, LeanrecError, MachineError, PromiseError
from leanrec.core.machine import environment
from leanrec.jobs.train import TrainJob
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender
from leanrec.training.workers.base import WorkersConfig

__all__ = ["cores_each", "launch"]

_RESTARTS = 3
"""Times that a run goes on from its last checkpoint after losing a worker."""
_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def launch(job: TrainJob) -> Recommender:
    """Carry out the job on `job.workers` workers, who all must see the data and the run folder."""
    if job.workers < 1:
        raise InputError(f"--workers {job.workers} is below 1")
    if not isinstance(MODELS[job.model](**job.settings).config, WorkersConfig):
        raise ConfigError(f"{job.model} does not train step by step: leave --workers and --cluster out")
    job = msgspec.structs.replace(
        job, launch=uuid.uuid4().hex, data=str(Path(job.data).resolve()), out=str(Path(job.out).resolve())
    )
    if job.cluster is not None:
        from leanrec.jobs.launch_ray import run_on_ray

        run_on_ray(job, cores_each(job.workers), _RESTARTS)
    else:
        _run_here(job)
    return Recommender.load(Path(job.out) / "bundle")


def cores_each(workers: int) -> int:
    """Threads of a worker when so many share this machine."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _run_here(job: TrainJob) -> None:
    """Elastic processes over loopback: one that dies ends the group, which starts again from the last checkpoint."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    wanted = {**dict.fromkeys(_THREADS, str(cores_each(job.workers))), "GLOO_SOCKET_IFNAME": "lo"}
    unsaid = {name: value for name, value in wanted.items() if name not in os.environ}
    with environment(unsaid), tempfile.TemporaryDirectory(prefix="leanrec-") as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=job.workers, run_id=job.launch, max_restarts=_RESTARTS,
            rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", rdzv_configs={"is_host": True}, local_addr="127.0.0.1",
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )  # fmt: skip
        described = Path(folder) / "job.json"
        described.write_bytes(msgspec.json.encode(job))
        try:
            elastic_launch(config, sys.executable)("-m", "leanrec.jobs.launch_worker", str(described))
        except SignalException as error:
            raise KeyboardInterrupt from error
        except ChildFailedError as error:
            faults = sorted(Path(folder).glob("fault-*"), key=lambda path: path.stat().st_mtime)
            text = faults[-1].read_text() if faults else "they were killed"
            raise RuntimeError(f"the workers of the run failed {_RESTARTS + 1} times; at last: {text}") from error
        verdict = Path(folder) / "verdict.json"
        if verdict.exists():
            raise told_error(*json.loads(verdict.read_text()))


def told_error(code: int, message: str) -> LeanrecError:
    """The error that a worker ended with."""
    from leanrec.training.trainer import DivergedError

    kinds: dict[int, Any] = {1: DivergedError, 2: InputError, 3: MachineError, 4: PromiseError}
    error: LeanrecError = kinds[code](message)
    return error
