"""One trial of a search, in whatever process it runs: settings from the study, a fit, its figures back to the study.

A study is an Optuna study in a journal file; any number of processes that see the file work on it together.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import msgspec
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from leanrec.core.config import Config
from leanrec.core.console import muted, say
from leanrec.core.errors import LeanrecError
from leanrec.core.space import Choice, Dimension, Range, parse_dimension
from leanrec.data.dataset import Dataset
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.metrics import parse_metric
from leanrec.models import MODELS
from leanrec.models.base import FitOptions

__all__ = ["COSTS", "TuneJob", "counts", "open_study", "run_trial", "space"]

COSTS = ("seconds", "bytes")
"""What can be made small beside a metric made large: time to fit, size of the bundle."""

_FIRST_AT_RANDOM = 10
_COMPARED_AFTER_TRIALS, _COMPARED_FROM_EPOCH = 5, 2
_POPULATION = 10

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TuneJob(Config, frozen=True, kw_only=True):
    """What `leanrec tune` is told."""

    model: str
    data: str
    out: str
    trials: int = 20
    objectives: tuple[str, ...] = ("ndcg@10",)
    """A metric to make large, then perhaps more metrics, `seconds` or `bytes`."""
    settings: dict[str, Any] = msgspec.field(default_factory=dict)
    """Not searched."""
    search: tuple[str, ...] = ()
    """`key=low..high` or `key=a,b,c`, beside and above the model's own space."""
    sampler: Literal["tpe", "evolutionary", "random"] = "tpe"
    seed: int = 0
    time_limit: float | None = None
    """Seconds of searching; training with the best settings comes after."""
    refit: bool = False
    """Train the best settings on train + validation in the end."""
    resume: bool = False
    workers: int = 1
    cluster: str | None = None
    """Address of a Ray cluster, or `local`."""


def space(job: TuneJob) -> dict[str, Dimension]:
    """What is searched: the model's own space and the job's, without the settings that the job fixes."""
    own: Mapping[str, Dimension] = MODELS[job.model].Config.space
    asked = dict(map(parse_dimension, job.search))
    return {key: dimension for key, dimension in {**own, **asked}.items() if key in asked or key not in job.settings}


def open_study(job: TuneJob, index: int = 0) -> optuna.Study:
    """The job's study, made when it is not there yet. What the sampler draws follows from (seed, index) alone."""
    seed = (job.seed * 1_000_003 + index) % (1 << 32)
    sampler: optuna.samplers.BaseSampler
    match job.sampler:
        case "tpe":
            together = job.workers > 1 or job.cluster is not None
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_FIRST_AT_RANDOM, multivariate=True, constant_liar=together
            )
        case "evolutionary":
            sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        case "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(Path(job.out) / "journal.log"))),
        study_name=job.model,
        load_if_exists=True,
        directions=["minimize" if objective in COSTS else "maximize" for objective in job.objectives],
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(_COMPARED_AFTER_TRIALS, _COMPARED_FROM_EPOCH),
    )


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial came to an end of its own: not under way, and not cut short together with its process."""
    return trial.state.is_finished() and (trial.state != TrialState.FAIL or "error" in trial.user_attrs)


def run_trial(job: TuneJob, index: int, deadline: float | None = None) -> None:
    """Carry out one more trial of the study. A failure is recorded and ends the trial, not the search.

    index: of the trial in the search. deadline: `time.time()` after which nothing is begun and a fit is stopped.
    """
    if deadline is not None and time.time() >= deadline:
        return
    study = open_study(job, index)
    trial = study.ask()
    settings = {**job.settings, **{key: _suggest(trial, key, one) for key, one in space(job).items()}}
    trial.set_user_attr("settings", settings)
    started = time.perf_counter()
    try:
        with muted():
            values = _try(job, settings, trial, deadline)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        outcome = "worse than the median, stopped"
    except Exception as error:
        known = isinstance(error, LeanrecError)
        trial.set_user_attr("error", str(error) if known else f"{type(error).__name__}: {error}")
        trial.set_user_attr("exit_code", error.exit_code if isinstance(error, LeanrecError) else 1)
        study.tell(trial, state=TrialState.FAIL)
        outcome = f"failed: {error}"
    else:
        study.tell(trial, values)
        outcome = ", ".join(f"{name} {value:.5g}" for name, value in zip(job.objectives, values, strict=True))
    tried = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
    say(f"trial {trial.number}: {outcome}, {time.perf_counter() - started:.0f} s: {tried}")


def _suggest(trial: Trial, key: str, dimension: Dimension) -> Any:
    match dimension:
        case Choice(values):
            return trial.suggest_categorical(key, values)
        case Range(low, high, log) if dimension.whole:
            return trial.suggest_int(key, int(low), int(high), log=log)
        case Range(low, high, log):
            return trial.suggest_float(key, low, high, log=log)


def _try(job: TuneJob, settings: Mapping[str, Any], trial: Trial, deadline: float | None) -> list[float]:
    """The job's objectives after a fit with these settings, on validation events of users that tune."""
    metrics = [parse_metric(name) for name in job.objectives if name not in COSTS]

    def watch(epoch: int, score: float) -> None:
        trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    options = FitOptions(
        seed=job.seed,
        time_limit=None if deadline is None else max(deadline - time.time(), 1.0),
        metric=str(metrics[0]),
        on_score=watch if len(job.objectives) == 1 else None,  # with several there is no one order to stop by
    )
    data = _data(job.data)
    started = time.perf_counter()
    recommender = MODELS[job.model](**settings).fit_with(data, options)
    found = {"seconds": time.perf_counter() - started}
    found |= evaluate(recommender, data, on="valid", k=[m.k for m in metrics], users="tune").rows[0].metrics
    if "bytes" in job.objectives:
        with tempfile.TemporaryDirectory() as folder:
            recommender.save(Path(folder) / "bundle")
            found["bytes"] = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    trial.set_user_attr("seconds", found["seconds"])
    trial.set_user_attr("epochs", recommender.card.get("epochs"))
    return [float(found[name]) for name in job.objectives]


@lru_cache(maxsize=1)
def _data(path: str) -> Dataset:
    return Dataset.load(path)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
