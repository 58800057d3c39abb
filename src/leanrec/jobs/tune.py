"""A search for a model's settings: trials here, in processes or on Ray; then one training with the best of them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import optuna
import polars as pl
from optuna.trial import FrozenTrial, TrialState

from leanrec.core.config import build, to_toml
from leanrec.core.console import say, step
from leanrec.core.errors import ConfigError, InputError, MachineError
from leanrec.core.files import atomic_write
from leanrec.data.dataset import Dataset
from leanrec.evaluation.metrics import parse_metric
from leanrec.jobs.spread import run_trials
from leanrec.jobs.train import TrainJob, train
from leanrec.jobs.trials import COSTS, TuneJob, counts, open_study, space
from leanrec.models import MODELS

__all__ = ["Found", "TuneJob", "tune"]

_OURS = ("journal.log", "journal.log.lock", "tune.json", "trials.csv", "best.toml", "pareto.csv", "pareto", "best")


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a search came to."""

    run: str
    """Run folder of the training with the best settings."""
    settings: dict[str, Any]
    values: dict[str, float]
    """Objectives of the best trial."""
    trials: int
    pruned: int
    failed: int
    pareto: list[dict[str, Any]]
    """Trials that no other beats on every objective, by the first objective; just the best when there is one."""


def tune(job: TuneJob) -> Found:
    """Search until the trials or the time are used up, then train the best into `job.out`/best.

    A search cut short at any point is continued with `resume`. Everything is judged on validation events of users that
    tune; those that certify are never asked. InputError when every trial failed.
    """
    _check(job)
    data = Dataset.load(job.data)
    if not len(data.cases("valid", users="tune")):
        raise InputError(f"{data.name} has no validation events of users that tune: prepare it with another split")
    out = Path(job.out)
    _open_search(out, job, data)
    study = open_study(job)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # its process is gone
    done = sum(map(counts, study.trials))
    deadline = None if job.time_limit is None else time.time() + job.time_limit
    with step(f"searching {', '.join(space(job))} of {job.model} on {data.name}"):
        try:
            run_trials(job, range(done, job.trials), deadline)
        finally:
            _write_table(out / "trials.csv", job, [trial for trial in study.trials if counts(trial)])
    front = _front(job, study)
    best = front[0]
    settings = best.user_attrs["settings"]
    atomic_write(out / "best.toml", to_toml(settings).encode())
    if len(job.objectives) > 1:
        _write_front(out, job, front)
    say(f"best of {len(study.trials)} trials: " + " ".join(f"{key}={value}" for key, value in settings.items()))
    _train_best(job, settings)
    states = [trial.state for trial in study.trials if counts(trial)]
    return Found(
        run=str(out / "best"),
        settings=settings,
        values=_values(job, best),
        trials=len(states),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        pareto=[_row(job, trial) for trial in front],
    )


def _check(job: TuneJob) -> None:
    """Refuse what cannot be meant before the data is touched."""
    kind = MODELS[job.model]
    build(kind.Config, job.settings, where=job.model)
    if not job.objectives or job.objectives[0] in COSTS:
        raise ConfigError(f"the first objective is a metric to make large, for instance ndcg@10,{COSTS[0]}")
    for name in job.objectives:
        if name not in COSTS:
            parse_metric(name)
    for key, least in (("trials", 1), ("workers", 1)):
        if getattr(job, key) < least:
            raise ConfigError(f"{key} must be at least {least}, not {getattr(job, key)}")
    known = {field.name for field in msgspec.structs.fields(kind.Config)}
    if not known:
        raise ConfigError(f"{job.model} has no settings: train it with  leanrec train {job.model}")
    for key in (searched := space(job)):
        if key not in known:
            build(kind.Config, {key: None}, where=f"--search {key}")
    if not searched:
        raise ConfigError(f"everything that could be searched of {job.model} is set: leave a --set out")


def _open_search(out: Path, job: TuneJob, data: Dataset) -> None:
    """Make the folder of the search, or check that it is the same search that goes on."""
    record = {
        "model": job.model,
        "settings": job.settings,
        "search": list(job.search),
        "objectives": list(job.objectives),
        "sampler": job.sampler,
        "seed": job.seed,
        "data": data.fingerprint,
    }
    described = out / "tune.json"
    if job.resume:
        try:
            before = msgspec.json.decode(described.read_bytes())
        except (OSError, msgspec.DecodeError) as error:
            raise InputError(f"{out} holds no search to resume: leave --resume out") from error
        for key, value in msgspec.to_builtins(record).items():
            if before.get(key) != value:
                raise InputError(
                    f"the search in {out} was started with {key} {before.get(key)!r}, not {value!r}: "
                    "resume it with the same, or choose another --out"
                )
        _mend(out / "journal.log")
        return
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not described.exists())):
        raise InputError(f"{out} exists and is not the folder of a search: choose another --out, or remove it")
    if described.exists():
        say(f"replacing the search in {out}")
        for path in map(out.joinpath, _OURS):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    atomic_write(described, msgspec.json.format(msgspec.json.encode(record), indent=1))


def _mend(journal: Path) -> None:
    """Drop the line that a killed process was writing, and its lock."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.exists() and not (content := journal.read_bytes()).endswith(b"\n"):
        atomic_write(journal, content[: content.rfind(b"\n") + 1])


def _front(job: TuneJob, study: optuna.Study) -> list[FrozenTrial]:
    """The trials that no other beats on every objective, the best by the first objective first."""
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        failed = [trial for trial in study.trials if "error" in trial.user_attrs]
        if not failed:
            raise InputError("no trial was completed in this time: allow more with --time, and go on with --resume")
        machine = all(trial.user_attrs["exit_code"] == MachineError.exit_code for trial in failed)
        raise (MachineError if machine else InputError)(
            f"every trial of {job.model} failed ({len(failed)} in all, see {Path(job.out) / 'trials.csv'}), "
            f"the first with: {failed[0].user_attrs['error']}"
        )
    return sorted(study.best_trials, key=lambda trial: (-trial.values[0], *trial.values[1:], trial.number))


def _train_best(job: TuneJob, settings: Mapping[str, Any]) -> None:
    best = TrainJob(
        model=job.model, data=job.data, out=str(Path(job.out) / "best"), settings=dict(settings), seed=job.seed,
        refit=job.refit, metric=next(name for name in job.objectives if name not in COSTS),
    )  # fmt: skip
    described = Path(best.out) / "run.json"
    begun = msgspec.json.decode(described.read_bytes()) if job.resume and described.exists() else {}
    same = (begun.get("settings"), begun.get("refit")) == (best.settings, best.refit)
    train(msgspec.structs.replace(best, resume=same))


def _values(job: TuneJob, trial: FrozenTrial) -> dict[str, float]:
    return dict(zip(job.objectives, trial.values or [], strict=False))


def _row(job: TuneJob, trial: FrozenTrial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed"),
        **dict.fromkeys(job.objectives),
        "seconds": trial.user_attrs.get("seconds"),
        "epochs": trial.user_attrs.get("epochs"),
        **_values(job, trial),
        **trial.params,
        "error": trial.user_attrs.get("error"),
    }


def _write_table(path: Path, job: TuneJob, trials: Sequence[FrozenTrial]) -> None:
    table = pl.DataFrame([_row(job, trial) for trial in trials], infer_schema_length=None)
    atomic_write(path, table.write_csv().encode())


def _write_front(out: Path, job: TuneJob, front: Sequence[FrozenTrial]) -> None:
    """pareto.csv, and each trial's settings as a file that `leanrec train --config` takes."""
    _write_table(out / "pareto.csv", job, front)
    for trial in front:
        atomic_write(out / "pareto" / f"trial-{trial.number}.toml", to_toml(trial.user_attrs["settings"]).encode())
