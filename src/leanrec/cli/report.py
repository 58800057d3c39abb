"""`leanrec report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from leanrec.cli.options import Cuts, Json, Texts
from leanrec.cli.output import emit

__all__ = ["report"]


def report(
    *sources: Annotated[str, Parameter(name="RUN_OR_EVALUATION", required=True)],
    out: Path,
    data: Path | None = None,
    k: Cuts = (10,),
    slices: Texts = (),
    title: str = "leanrec report",
    json: Json = False,
) -> int:
    """Write one self-contained HTML page: tables, plots with intervals, curves, slices, learning curves, findings.

    Args:
        sources: Run folders, bundles, or files of what `leanrec evaluate --json` or `leanrec audit --json` printed.
        out: The page to write.
        data: A data set to evaluate the runs and bundles on, in detail; without it they are only described.
        k: Lengths of the list.
        slices: Columns of users' or items' attributes to judge by, value by value.
        title: What the page is called.
    """
    from leanrec.jobs.report import ReportJob, write_report

    job = ReportJob(
        sources=sources, out=str(out), data=None if data is None else str(data), k=k, slices=slices, title=title
    )
    material = write_report(job)
    return emit(f"{out}: {out.stat().st_size:,} bytes", {"out": str(out), **msgspec.to_builtins(material)}, json)
