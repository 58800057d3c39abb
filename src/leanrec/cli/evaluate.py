"""`leanrec evaluate`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from leanrec.cli.options import Cuts, DataFolder, Flag, Json, Texts
from leanrec.cli.output import emit

__all__ = ["evaluate"]


def evaluate(
    *models: Annotated[str, Parameter(name="BUNDLE_OR_TABLE", required=True)],
    data: DataFolder,
    on: Literal["test", "valid"] = "test",
    k: Cuts = (10,),
    include_seen: Annotated[
        bool | None, Parameter(name="--include-seen", negative="--exclude-seen", show_default=False)
    ] = None,
    details: Flag = False,
    slices: Texts = (),
    task: Literal["ranking", "ctr", "rating"] | None = None,
    json: Json = False,
) -> int:
    """Measure recommenders on held-out events, with the popularity baselines after them.

    Args:
        models: Bundles, run folders, or tables of recommendations (user_id, item_id, and rank or score).
        on: The part of the data to answer for.
        k: Lengths of the list.
        include_seen: Whether items a user has already had may be answered (default: as the data set says).
        details: Also judge new and old users, head and tail items, and how varied, surprising and popular lists are.
        task: Judge lists (ranking), or predictions of single events: a click's probability (ctr) or a rating
            (default: as the models say).
        slices: Columns of users' or items' attributes to judge by as well, value by value.
    """
    from leanrec.jobs.evaluate import EvaluateJob, evaluate_models

    job = EvaluateJob(
        models=models, data=str(data), on=on, k=k, include_seen=include_seen, details=details, slices=slices, task=task
    )
    found = evaluate_models(job)
    return emit(str(found), found.to_dict(), json)
