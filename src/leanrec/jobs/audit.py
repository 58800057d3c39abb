"""The referee on files: events or prepared data, and recommendations from anywhere."""

from __future__ import annotations

from pathlib import Path

from leanrec.core.config import Config
from leanrec.core.errors import InputError
from leanrec.evaluation.audit import Audit, audit

__all__ = ["AuditJob", "run_audit"]


class AuditJob(Config, frozen=True, kw_only=True):
    """What `leanrec audit` is told."""

    events: str
    recommendations: str | None = None
    k: int | None = None
    user_col: str | None = None
    item_col: str | None = None
    time_col: str | None = None
    order_by: str | None = None
    split_col: str | None = None


def run_audit(job: AuditJob) -> Audit:
    """Every check that what is there allows."""
    if job.recommendations is not None and not Path(job.recommendations).exists():
        raise InputError(f"{job.recommendations} does not exist: name a table of user_id, item_id and rank or score")
    if job.k is not None and job.k < 1:
        raise InputError(f"--k is the length of a list, at least 1, not {job.k}")
    columns = {name: getattr(job, name) for name in ("user_col", "item_col", "time_col", "order_by", "split_col")}
    return audit(job.events, job.recommendations, k=job.k, columns=columns)
