"""What each step of compression buys on this machine, and how many questions it carries."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from leanrec.compression.base import Work
from leanrec.compression.budget import DEFAULT_LOSS, Price, read_price
from leanrec.compression.capacity.plan import Capacity, Need, measure_capacity
from leanrec.compression.compress import asked_histories
from leanrec.compression.journal import Journal
from leanrec.compression.ladder import Rung, build_up, ladder_table, single_steps
from leanrec.compression.measure import busy
from leanrec.compression.space import PlanSpace
from leanrec.compression.workbench import Workbench
from leanrec.core.config import Config
from leanrec.core.console import format_table
from leanrec.core.errors import ConfigError, InputError
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.runtime.bundle import resolve_bundle
from leanrec.runtime.recommender import Recommender

__all__ = ["BenchJob", "CapacityFound", "Ladder", "bench_capacity", "bench_ladder"]

_USERS, _EVENTS = 600, 20


class BenchJob(Config, frozen=True, kw_only=True):
    """What `leanrec bench` is told. rate, p99_ms, items, history: what capacity is asked for, when it is."""

    bundle: str
    data: str | None = None
    metric: str = "ndcg@10"
    steps: tuple[str, ...] = ()
    concurrency: int = 1
    price: str | None = None
    seconds: float = 2.0
    rate: float | None = None
    p99_ms: float | None = None
    items: int | None = None
    history: int | None = None

    def __post_init__(self) -> None:
        for name in ("rate", "p99_ms", "items", "history", "concurrency"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} must be above 0, not {value:g}")


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """singles: the original and each step alone. ladder: step on step. known: whether loss could be measured."""

    metric: str
    price: Price
    singles: list[Rung]
    ladder: list[Rung]
    known: bool

    def __str__(self) -> str:
        dropped = [f"dropped: {one.name}: {one.said}" for one in self.singles[1:] if not one.pays and one.said]
        blind = ["without --data the loss of a step is not known, and histories are made up"] * (not self.known)
        parts = ["each step alone", self._table(self.singles), "", "step on step", self._table(self.ladder)]
        noise = busy([one.measured.busy for one in [*self.singles, *self.ladder] if one.measured is not None])
        return "\n".join([*parts, *dropped, *blind, *noise])

    def _table(self, rungs: list[Rung]) -> str:
        return ladder_table(rungs, self.metric, self.price.currency)


class CapacityFound(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted model, and what the rates that were asked for need."""

    capacity: Capacity
    needs: list[Need]
    beyond: list[str] = []
    """What of the question lies beyond what was measured."""

    def __str__(self) -> str:
        rows = [
            [f"{one.rate:,.0f}", f"{one.p99_ms:.3g}", str(one.cores), f"{one.expected_p99_ms:.3g}"]
            for one in self.needs
        ]
        table = format_table(["answers/s", "p99 ms asked", "cores", "p99 ms foreseen"], rows)
        m = self.capacity.model
        error = f"the service model is off by {100 * m.error:.0f} % in the middle and {100 * m.worst:.0f} % at most"
        return "\n".join([f"{self.capacity}\n\n{table}", error, *self.beyond])


def bench_ladder(job: BenchJob) -> Ladder:
    """Every step alone, then the best of each stage on top of each other; nothing is written."""
    price = read_price(job.price)
    model, data, known = _opened(job)
    space = PlanSpace.of(job.steps or None)
    with tempfile.TemporaryDirectory(prefix="leanrec-") as scratch:
        folder = Path(scratch)
        work = Work(histories=asked_histories(model, data, users="tune"), data=data)
        with Journal(folder / "journal.jsonl", {}) as journal:
            bench = Workbench(
                model=model, place=resolve_bundle(job.bundle), data=data, metric=job.metric, work=work, journal=journal,
                folder=folder / "bundles", concurrency=job.concurrency, seconds=job.seconds,
            )  # fmt: skip
            singles = single_steps(bench, space, price)
            ladder = build_up(bench, space, singles, price, bound=DEFAULT_LOSS if known else 1.0)
    return Ladder(metric=job.metric, price=price, singles=singles, ladder=ladder, known=known)


def bench_capacity(job: BenchJob) -> CapacityFound:
    """Measure, fit, and answer how many cores `job.rate` needs at `job.p99_ms`; some rates where none is said."""
    model, data, _ = _opened(job)
    histories = asked_histories(model, data)
    capacity = measure_capacity(
        resolve_bundle(job.bundle), histories, rows=len(model.items), seconds=job.seconds
    )  # fmt: skip
    if job.rate is None:
        return CapacityFound(capacity=capacity, needs=capacity.table(job.p99_ms))
    limit = job.p99_ms or 1e3 * 5 * capacity.served.percentile()
    need = capacity.need(job.rate, limit, rows=job.items, tokens=job.history)
    return CapacityFound(capacity=capacity, needs=[need], beyond=capacity.beyond(job.items, job.history))


def _opened(job: BenchJob) -> tuple[Recommender, Dataset, bool]:
    """The model, data to ask it with, and whether that is real."""
    model = Recommender.load(job.bundle)
    if job.data is not None:
        return model, Dataset.load(job.data), True
    return model, _made_up(model), False


def _made_up(model: Recommender) -> Dataset:
    """Users whose events fall on the model's items by Zipf's law: good for times, not for quality."""
    if len(model.items) < 2:
        raise InputError(f"{model.source.name} has fewer than two items: there is nothing to measure")
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, len(model.items) + 1)
    rows = rng.permutation(len(model.items))[
        rng.choice(len(model.items), _USERS * _EVENTS, p=weights / weights.sum())
    ]  # fmt: skip
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(_USERS), _EVENTS),
            "item_id": model.items.ids(rows),
            "timestamp": np.arange(_USERS * _EVENTS),
        }
    )
    return prepare(frame, split="leave-one-out", repeats=True, name="made up")
