"""Where the trials of a search run: one after the other here, in processes side by side, or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from optuna.trial import Trial, TrialState

from leanrec.core.console import say
from leanrec.core.errors import MachineError, MissingExtra
from leanrec.core.machine import environment
from leanrec.jobs.trials import TuneJob, counts, open_study, run_trial

__all__ = ["run_trials"]

_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS")


def run_trials(job: TuneJob, indices: range, deadline: float | None) -> None:
    """Carry out those trials. Processes here share the cores; a cluster gives each trial its share or one core.

    The folder of the search and the data must be seen by every machine under the same path.
    """
    if job.cluster is not None:
        _on_ray(job, indices, deadline)
    elif job.workers > 1:
        _in_processes(job, indices, deadline)
    else:
        for index in indices:
            run_trial(job, index, deadline)


def _in_processes(job: TuneJob, indices: range, deadline: float | None) -> None:
    """A process that dies (the system ends one when memory runs out) costs the trials under way, not the search."""
    share = max(1, len(os.sched_getaffinity(0)) // job.workers)
    with environment(dict.fromkeys(_THREADS, str(share))):
        while indices:
            pool = ProcessPoolExecutor(job.workers, mp_context=multiprocessing.get_context("spawn"))
            try:
                for future in as_completed([pool.submit(run_trial, job, index, deadline) for index in indices]):
                    future.result()
                return
            except BrokenProcessPool:
                lost = _record_lost(job)
                say(f"a process died with {lost} trials under way; the search goes on")
            finally:
                pool.shutdown(cancel_futures=True)
            indices = range(sum(map(counts, open_study(job).trials)), indices.stop)


def _record_lost(job: TuneJob) -> int:
    """Mark the trials of dead processes as failed; at least one is, so that a search always comes to an end."""
    study = open_study(job)
    lost = study.get_trials(states=(TrialState.RUNNING,))
    if not lost:
        raise MachineError("the processes of the search die before they begin: try fewer --workers")
    for frozen in lost:
        trial = Trial(study, frozen._trial_id)
        trial.set_user_attr("error", "its process died, perhaps for lack of memory: try fewer --workers")
        trial.set_user_attr("exit_code", MachineError.exit_code)
        study.tell(trial, state=TrialState.FAIL)
    return len(lost)


def _on_ray(job: TuneJob, indices: range, deadline: float | None) -> None:
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise MissingExtra("cluster", "ray", "--cluster") from error
    try:
        ray.init(address=None if job.cluster == "local" else job.cluster, logging_level=logging.WARNING)
    except (ConnectionError, ValueError) as error:
        raise MachineError(f"there is no Ray cluster at {job.cluster!r} ({error}): start one, or say local") from error
    try:
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        share = max(1, cores // job.workers) if job.workers > 1 else 1
        variables = {"env_vars": dict.fromkeys(_THREADS, str(share))}
        trial: Any = ray.remote(num_cpus=share, max_retries=0, runtime_env=variables)(run_trial)
        for reference in [trial.remote(job, index, deadline) for index in indices]:
            try:
                ray.get(reference)
            except ray.exceptions.WorkerCrashedError:
                say("a worker of the cluster died; the search goes on")
        if open_study(job).get_trials(states=(TrialState.RUNNING,)):
            _record_lost(job)
    finally:
        ray.shutdown()
