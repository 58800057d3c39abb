"""A raw log on disk into a prepared data set on disk."""

from __future__ import annotations

from leanrec.core.config import Config
from leanrec.core.console import step
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare

__all__ = ["PrepareJob", "prepare_dataset"]


class PrepareJob(Config):
    """What `leanrec prepare` is told; see `data.prepare.prepare` for what each field means."""

    events: str
    out: str
    items: str | None = None
    users: str | None = None
    user_col: str = "user_id"
    item_col: str = "item_id"
    time_col: str = "timestamp"
    value_col: str | None = None
    order_by: str | None = None
    split: str = "leave-one-out"
    min_count: int = 1
    repeats: str | None = None
    positive: str | None = None
    drop: tuple[str, ...] = ()


def prepare_dataset(job: PrepareJob) -> Dataset:
    """Read, clean, encode and split the log; the data set is complete in `job.out` when this returns."""
    settings = {field: getattr(job, field) for field in job.__struct_fields__ if field != "events"}
    with step(f"preparing {job.events}"):
        return prepare(job.events, **settings)
