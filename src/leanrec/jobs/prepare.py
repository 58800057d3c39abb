"""A raw log on disk into a prepared data set on disk."""

from __future__ import annotations

from leanrec.core.config import Config, to_dict
from leanrec.core.console import step
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare

__all__ = ["PrepareJob", "prepare_dataset"]


class PrepareJob(Config, frozen=True, kw_only=True):
    """What `leanrec prepare` is told; see `data.prepare.prepare` for what each field means."""

    events: str
    out: str
    items: str | None = None
    users: str | None = None
    user_col: str | None = None
    item_col: str | None = None
    time_col: str | None = None
    value_col: str | None = None
    order_by: str | None = None
    split: str = "leave-one-out"
    min_count: int = 0
    repeats: str | None = None
    positive: str | None = None
    drop: tuple[str, ...] = ()
    seed: int = 0


def prepare_dataset(job: PrepareJob) -> Dataset:
    """Read, clean, encode and split the log; the data set is complete in `job.out` when this returns."""
    settings = to_dict(job)
    events = settings.pop("events")
    with step(f"preparing {events}"):
        return prepare(events, **settings)
