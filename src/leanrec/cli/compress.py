"""`leanrec compress`."""

from __future__ import annotations

from pathlib import Path

from leanrec.cli.options import DataFolder, Json
from leanrec.cli.output import emit

__all__ = ["compress"]


def compress(
    bundle: Path,
    /,
    *,
    data: DataFolder,
    out: Path,
    plan: str = "int8",
    metric: str = "ndcg@10",
    json: Json = False,
) -> int:
    """Make a recommender leaner, and say what every step bought and cost, with what is certified about the loss.

    Args:
        bundle: A bundle or a run folder.
        out: The bundle to write.
        plan: int8, or a TOML file with steps = [...].
        metric: The metric whose loss is certified, on users that nothing was tuned on.
    """
    from leanrec.jobs.compress import CompressJob, compress_bundle

    job = CompressJob(bundle=str(bundle), data=str(data), out=str(out), plan=plan, metric=metric)
    report = compress_bundle(job)
    return emit(f"{report}\nwritten to {out}", {"bundle": str(out), **report.to_dict()}, json)
