"""`leanrec audit`."""

from __future__ import annotations

import msgspec

from leanrec.cli.options import Flag, Json
from leanrec.cli.output import emit
from leanrec.core.errors import PromiseError

__all__ = ["audit"]


def audit(
    events: str,
    recommendations: str | None = None,
    /,
    *,
    k: int | None = None,
    split_col: str | None = None,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    order_by: str | None = None,
    strict: Flag = False,
    json: Json = False,
) -> int:
    """Look for what makes a result wrong: leaks, unstable order, duplicates, sampled metrics, impossible answers.

    Args:
        events: A folder written by `leanrec prepare`, or any events, with a column of train, valid, test if split.
        recommendations: A table of recommendations (user_id, item_id, and rank or score) from any library, or a bundle.
        k: How long the lists should be.
        split_col: Column of train, valid and test (default: `split`, where there is one).
        user_col: Column of users.
        item_col: Column of items.
        time_col: Column of times.
        order_by: Column that orders a user's events where times are equal.
        strict: End with code 4 when something was found.
    """
    from leanrec.jobs.audit import AuditJob, run_audit

    found = run_audit(
        AuditJob(
            events=events, recommendations=recommendations, k=k, split_col=split_col, user_col=user_col,
            item_col=item_col, time_col=time_col, order_by=order_by,
        )
    )  # fmt: skip
    emit(str(found), {"clean": found.clean, **msgspec.to_builtins(found)}, json)
    if strict and not found.clean:
        kinds = ", ".join(finding.kind for finding in found.findings)
        raise PromiseError(f"the audit found {len(found.findings)} faults ({kinds}): see the list above")
    return 0
