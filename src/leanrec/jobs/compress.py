"""A bundle on disk into a leaner one: by a plan, or by what has to hold of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanrec.compression.budget import Budget, read_price
from leanrec.compression.compress import Report, compress_with_report
from leanrec.core.config import Config
from leanrec.core.errors import MissingExtra
from leanrec.data.dataset import Dataset

if TYPE_CHECKING:
    from leanrec.compression.outcome import Optimised

__all__ = ["CompressJob", "SearchJob", "compress_bundle", "search_bundle"]


class CompressJob(Config, frozen=True, kw_only=True):
    """What `leanrec compress` is told when it is told what to do."""

    bundle: str
    data: str
    out: str
    plan: str = "int8"
    metric: str = "ndcg@10"


class SearchJob(Config, frozen=True, kw_only=True):
    """What `leanrec compress` is told when it is told what has to hold."""

    bundle: str
    data: str
    out: str
    budget: Budget
    trials: int = 40
    time_limit: float | None = None
    concurrency: int = 1
    again: float = 0.0
    """Share of the questions that were asked shortly before."""
    price: str | None = None
    sampler: str = "tpe"
    steps: tuple[str, ...] = ()
    """Which may be tried; all when empty."""
    seed: int = 0
    resume: bool = False


def compress_bundle(job: CompressJob) -> Report:
    """Write the lean bundle to `job.out`, complete when this returns."""
    return compress_with_report(job.bundle, Dataset.load(job.data), plan=job.plan, metric=job.metric, out=job.out)[1]


def search_bundle(job: SearchJob) -> Optimised:
    """Search, and write the bundle to `job.out`; PromiseError where no plan keeps the budget, or none is sure to."""
    try:
        from leanrec.compression.optimise import SearchOptions, optimise
    except ModuleNotFoundError as error:
        raise MissingExtra("train", str(error.name), "a search by budget") from error

    options = SearchOptions(
        trials=job.trials,
        seconds=job.time_limit,
        concurrency=job.concurrency,
        again=job.again,
        sampler=job.sampler,
        steps=job.steps or None,
        seed=job.seed,
    )
    price = read_price(job.price)
    return optimise(
        job.bundle, Dataset.load(job.data), job.budget, out=job.out, options=options, price=price, resume=job.resume
    )
