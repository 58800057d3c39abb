"""A bundle on disk into a leaner one, with the report of what every step bought and cost."""

from __future__ import annotations

from leanrec.compression.compress import Report, compress_with_report
from leanrec.core.config import Config
from leanrec.data.dataset import Dataset

__all__ = ["CompressJob", "compress_bundle"]


class CompressJob(Config, frozen=True, kw_only=True):
    """What `leanrec compress` is told."""

    bundle: str
    data: str
    out: str
    plan: str = "int8"
    metric: str = "ndcg@10"


def compress_bundle(job: CompressJob) -> Report:
    """Write the lean bundle to `job.out`, complete when this returns."""
    return compress_with_report(job.bundle, Dataset.load(job.data), plan=job.plan, metric=job.metric, out=job.out)[1]
