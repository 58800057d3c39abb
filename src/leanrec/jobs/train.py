"""One model, one data set, one run folder: bundle, histories, checkpoints and what was asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

from leanrec.core.config import Config
from leanrec.core.console import say, step
from leanrec.core.errors import InputError
from leanrec.core.files import atomic_write
from leanrec.data.dataset import Dataset
from leanrec.data.examples.stored import StoredExamples, holds_examples
from leanrec.evaluation.metrics import parse_metric
from leanrec.events.history import FolderHistory
from leanrec.jobs.doctor import package_versions
from leanrec.models import MODELS
from leanrec.models.base import FitOptions
from leanrec.runtime.recommender import Recommender

__all__ = ["TrainJob", "fit_into", "fit_rows", "fit_shared", "open_run", "train", "was_started"]

_OURS = (
    "bundle", "history", "checkpoints", "tensorboard", "mlflow", "mlflow.db", "mlflow.run", "wandb", "profile",
    "parts", "run.json",
)  # fmt: skip


class TrainJob(Config, frozen=True, kw_only=True):
    """What `leanrec train` is told."""

    model: str
    data: str
    out: str
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    seed: int = 0
    time_limit: float | None = None
    """Seconds."""
    save_every: float = 60.0
    """Seconds between checkpoints."""
    refit: bool = False
    resume: bool = False
    metric: str = "ndcg@10"
    """What validation measures."""
    track: tuple[str, ...] = ("tensorboard",)
    """Where the figures of the run go, see training.tracking."""
    profile: bool = False
    workers: int = 1
    """Processes that share every step."""
    cluster: str | None = None
    """Address of the Ray cluster that they run on, or `local`; None starts them here."""
    launch: str = ""
    """Of a run on workers: the same when it goes on after losing one."""


def train(job: TrainJob) -> Recommender:
    """Fit the model into the run folder `job.out`; the run can be resumed after any interruption."""
    MODELS[job.model](**job.settings)  # refuses an unknown model, setting or metric before the data is touched
    parse_metric(job.metric)
    if holds_examples(job.data):
        return fit_rows(job)
    if job.workers != 1 or job.cluster is not None:
        from leanrec.jobs.launch import launch

        return launch(job)
    data = Dataset.load(job.data)
    return fit_into(job, data)


def fit_rows(job: TrainJob) -> Recommender:
    """`train` on labelled rows as they were logged: in them nobody has a history."""
    from leanrec.models.scoring import ScoringModel

    model = MODELS[job.model](**job.settings)
    if not isinstance(model, ScoringModel):
        raise InputError(
            f"{job.model} learns from events, and {job.data} holds labelled rows: choose a model of clicks"
        )
    if job.workers != 1 or job.cluster is not None:
        raise InputError(f"{job.model} trains in one process: leave --workers and --cluster out")
    examples, run = StoredExamples.load(job.data), Path(job.out)
    open_run(job, examples)
    options = FitOptions(
        seed=job.seed, refit=job.refit, run=run, resume=job.resume, time_limit=job.time_limit, metric=job.metric
    )
    with step(f"training {job.model} on {examples.name}"):
        recommender = model.fit_examples(examples, options)
        recommender.save(run / "bundle")
    return recommender


def fit_into(job: TrainJob, data: Dataset) -> Recommender:
    """`train` with the data set already open."""
    open_run(job, data)
    return fit_shared(job, data)


def fit_shared(job: TrainJob, data: Dataset, *, first: bool = True) -> Recommender:
    """The fit of a run that is open. first: this process writes its files, which of several workers one does."""
    run = Path(job.out)
    model = MODELS[job.model](**job.settings)
    options = FitOptions(
        seed=job.seed, refit=job.refit, run=run, resume=job.resume, time_limit=job.time_limit, metric=job.metric,
        track=job.track, profile=job.profile, distributed=bool(job.launch), save_every=job.save_every,
    )  # fmt: skip
    with step(f"training {job.model} on {data.name}"):
        recommender = model.fit_with(data, options.on(data))
        if first:
            FolderHistory.save(run / "history", data.users, data.items, data.known("test"))
            recommender.save(run / "bundle")
    return recommender


def was_started(job: TrainJob) -> bool:
    """Whether this very launch has opened its run and saved a checkpoint to go on from."""
    run = Path(job.out)
    try:
        record = msgspec.json.decode((run / "run.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return record.get("launch") == job.launch and (run / "checkpoints" / "last.safetensors").exists()


def open_run(job: TrainJob, data: Dataset | StoredExamples) -> None:
    """Make the run folder, or check that it is the same run that goes on."""
    run = Path(job.out)
    record = {
        "model": job.model,
        "settings": job.settings,
        "seed": job.seed,
        "refit": job.refit,
        "data": {"name": data.name, "fingerprint": data.fingerprint},
    }
    described = run / "run.json"
    if job.resume:
        _check_same_run(described, record)
        return
    if run.exists() and (not run.is_dir() or (any(run.iterdir()) and not described.exists())):
        raise InputError(f"{run} exists and is not a run folder: choose another --out, or remove it")
    if described.exists():
        say(f"replacing the run in {run}")
        for name in _OURS:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    record["versions"] = package_versions()
    record["launch"] = job.launch
    atomic_write(described, msgspec.json.format(msgspec.json.encode(record), indent=1))


def _check_same_run(described: Path, record: dict[str, Any]) -> None:
    try:
        before = msgspec.json.decode(described.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{described.parent} holds no run to resume: leave --resume out") from error
    plain = msgspec.to_builtins(record)
    for key, value in plain.items():
        if before.get(key) != value:
            raise InputError(
                f"{described.parent} was started with {key} {before.get(key)!r}, not {value!r}: "
                "resume it with the same, or choose another --out"
            )
