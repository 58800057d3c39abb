"""A training run as a Ray Train job: Ray starts the workers, joins them in a torch group and replaces lost ones."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.errors import LeanrecError, MachineError, MissingExtra
from leanrec.jobs.train import TrainJob

__all__ = ["run_on_ray"]


def run_on_ray(job: TrainJob, cores: int, restarts: int) -> None:
    """Train on the cluster at `job.cluster`; `local` starts one here."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_TRAIN_V2_ENABLED", "1"), ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
        ("RAY_TRAIN_ENABLE_PRINT_PATCH", "0"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
        from ray.train.torch import TorchConfig, TorchTrainer
    except ModuleNotFoundError as error:
        raise MissingExtra("cluster", error.name or "ray", "--cluster") from error
    _connect(ray, job.cluster)
    storage = Path(job.out).parent / f".{Path(job.out).name}.ray"
    try:
        trainer = TorchTrainer(
            _worker, train_loop_config={"job": msgspec.json.encode(job).decode(), "threads": cores},
            scaling_config=ScalingConfig(num_workers=job.workers, resources_per_worker={"CPU": cores}),
            torch_config=TorchConfig(backend="gloo", timeout_s=7200),
            run_config=RunConfig(
                name="leanrec", storage_path=str(storage), failure_config=FailureConfig(max_failures=restarts)
            ),
        )  # fmt: skip
        try:
            trainer.fit()
        except TrainingFailedError as error:
            told = _told(error)
            if told is None:
                raise
            raise told from error
    finally:
        ray.shutdown()
        shutil.rmtree(storage, ignore_errors=True)


def _connect(ray: Any, cluster: str | None) -> None:
    where = None if cluster == "local" else cluster
    try:
        # a cluster of our own keeps to this machine and shows no page
        alone: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if where is None else {}
        ray.init(
            address=where, logging_level=logging.ERROR, logging_config=ray.LoggingConfig(log_level="ERROR"), **alone
        )
    except (ConnectionError, ValueError) as error:
        raise MachineError(f"there is no Ray cluster at {cluster!r} ({error}): start one, or say local") from error


def _worker(config: dict[str, Any]) -> None:
    """Inside Ray's process, which has joined the group already."""
    os.environ["OMP_NUM_THREADS"] = str(config["threads"])
    from leanrec.jobs.launch_worker import join_and_train

    join_and_train(msgspec.json.decode(config["job"], type=TrainJob))


def _told(error: Any) -> LeanrecError | None:
    """The error of leanrec among the failures of the workers."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, LeanrecError):
            return cause
    return None
