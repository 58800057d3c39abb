"""A raw log on disk into a prepared data set, or into labelled rows, on disk."""

from __future__ import annotations

from leanrec.core.config import Config, to_dict
from leanrec.core.console import step
from leanrec.data.dataset import Dataset
from leanrec.data.examples.prepare import prepare_examples
from leanrec.data.examples.stored import StoredExamples
from leanrec.data.prepare import prepare

__all__ = ["ExamplesJob", "PrepareJob", "prepare_dataset", "prepare_rows"]

_OF_EVENTS = "leave-one-out"
"""The split of events when none is asked for, which labelled rows do not have."""


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
    context: tuple[str, ...] = ()
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


class ExamplesJob(Config, frozen=True, kw_only=True):
    """What `leanrec prepare --format` is told; see `data.examples.prepare.prepare_examples`."""

    source: str
    out: str
    format: str
    label: str | None = None
    split: str = _OF_EVENTS
    keep_negatives: float = 1.0
    seed: int = 0


def prepare_rows(job: ExamplesJob) -> StoredExamples:
    """Read and split the log of labelled rows; they are complete in `job.out` when this returns."""
    settings = to_dict(job)
    source, out = settings.pop("source"), settings.pop("out")
    if job.split == _OF_EVENTS:
        settings["split"] = None
    with step(f"preparing {source}"):
        return prepare_examples(source, out, **settings)
