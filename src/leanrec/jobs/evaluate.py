"""Recommenders and tables of recommendations against held-out events, with the baselines always beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from leanrec.core.config import Config
from leanrec.core.console import say, step
from leanrec.core.errors import InputError
from leanrec.data.dataset import Dataset
from leanrec.data.examples.stored import StoredExamples, holds_examples
from leanrec.evaluation.evaluate import Results, evaluate
from leanrec.evaluation.rows import RowResults, judge_examples, judge_rows
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

__all__ = ["BASELINES", "EvaluateJob", "evaluate_models", "fit_baselines"]

BASELINES = ("popular", "popular-recent")


class EvaluateJob(Config, frozen=True, kw_only=True):
    """What `leanrec evaluate` is told."""

    models: tuple[str, ...]
    """Bundles, run folders, or tables of recommendations (user_id, item_id, and rank or score)."""
    data: str
    on: Literal["test", "valid"] = "test"
    k: tuple[int, ...] = (10,)
    include_seen: bool | None = None
    details: bool = False
    slices: tuple[str, ...] = ()
    task: Literal["ranking", "ctr", "rating"] | None = None
    """What to judge; by default what the models' cards say, ranking where any says nothing."""


def evaluate_models(job: EvaluateJob) -> Results | RowResults:
    """Everything named in the job, in its order, then the baselines."""
    for name in job.models:
        if not Path(name).exists():
            raise InputError(f"{name} does not exist: name bundles, run folders or tables of recommendations")
    if holds_examples(job.data):
        rows = StoredExamples.load(job.data)
        with step(f"judging {len(job.models)} models on rows of {rows.name}"):
            return judge_examples({name: Recommender.load(name) for name in job.models}, rows, on=job.on)
    data = Dataset.load(job.data)
    loaded = {name: Recommender.load(name) for name in job.models if Path(name).is_dir()}
    task = job.task or _task([loaded.get(name) for name in job.models])
    if task != "ranking":
        tables = [name for name in job.models if name not in loaded]
        if tables:
            raise InputError(
                f"{tables[0]} is a table of recommendations and cannot predict a {task}: use --task ranking"
            )
        with step(f"judging {len(loaded)} models on single events of {data.name}"):
            return judge_rows(loaded, data, task, on=job.on)
    models = [*job.models, *fit_baselines(data, refit=job.on == "test")]
    with step(f"evaluating {len(models)} models on {data.name}"):
        return evaluate(
            models, data, on=job.on, k=job.k, include_seen=job.include_seen, details=job.details, slices=job.slices
        )


def _task(models: Sequence[Recommender | None]) -> Literal["ranking", "ctr", "rating"]:
    tasks = {"ranking" if model is None else model.card.get("task", "ranking") for model in models}
    for task in ("ctr", "rating"):
        if tasks == {task}:
            return task
    return "ranking"


def fit_baselines(data: Dataset, *, refit: bool) -> list[Recommender]:
    """The popularity baselines this data set allows; with `refit` they count the validation part too."""
    fitted = []
    for name in BASELINES:
        try:
            fitted.append(MODELS[name]().fit(data, refit=refit))
        except InputError as error:
            say(f"no {name} baseline: {error}")
    return fitted
