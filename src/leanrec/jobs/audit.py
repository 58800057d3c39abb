"""The referee on files: events or prepared data, and recommendations from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leanrec.core.config import Config
from leanrec.core.errors import InputError
from leanrec.data.dataset import Dataset
from leanrec.evaluation.audit import Audit, audit
from leanrec.runtime.recommender import Recommender

__all__ = ["AuditJob", "run_audit"]

_LENGTH = 10


class AuditJob(Config, frozen=True, kw_only=True):
    """What `leanrec audit` is told."""

    events: str
    recommendations: str | None = None
    """A table, or a bundle or run folder, which is asked about every test user of a prepared data set."""
    k: int | None = None
    user_col: str | None = None
    item_col: str | None = None
    time_col: str | None = None
    order_by: str | None = None
    split_col: str | None = None


def run_audit(job: AuditJob) -> Audit:
    """Every check that what is there allows."""
    if job.recommendations is not None and not Path(job.recommendations).exists():
        raise InputError(
            f"{job.recommendations} does not exist: name a bundle, or a table of user_id, item_id and rank"
        )
    if job.k is not None and job.k < 1:
        raise InputError(f"--k is the length of a list, at least 1, not {job.k}")
    columns = {name: getattr(job, name) for name in ("user_col", "item_col", "time_col", "order_by", "split_col")}
    lists: Any = job.recommendations
    if lists is not None and Path(lists).is_dir():
        lists = _answers(lists, job)
    return audit(job.events, lists, k=job.k, columns=columns)


def _answers(bundle: str, job: AuditJob) -> Any:
    """What a bundle or run folder recommends to every test user."""
    data = Dataset.load(job.events)
    users = data.users.ids(data.cases("test", include_seen=True).users)
    return Recommender.load(bundle).recommend(users, k=job.k or _LENGTH)
