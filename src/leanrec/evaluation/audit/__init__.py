"""The referee: faults of data, splits and anyone's recommendations that make a result wrong or impossible to repeat.

`base` says what a finding is; `events` and `lists` hold one function a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leanrec.evaluation.audit.base import Audit, Finding
from leanrec.evaluation.audit.events import EVENT_CHECKS
from leanrec.evaluation.audit.lists import LIST_CHECKS, NEEDS_SPLIT
from leanrec.evaluation.audit.log import read_log, read_recommendations

__all__ = ["Audit", "Finding", "audit"]


def audit(
    events: Any, recommendations: Any = None, *, k: int | None = None, columns: Mapping[str, str | None] | None = None
) -> Audit:
    """Look for every fault there is a check for.

    events: a prepared data set, or any events (a path or a frame), with a column of labels (train, valid, test) where
    they were split. recommendations: a frame or file of user_id, item_id, and rank or score. k: how long lists should
    be. columns: user_col, item_col, time_col, order_by, split_col of `read_log`.
    """
    log = read_log(events, **(columns or {}))
    found = [check(log) for check in EVENT_CHECKS.values()]
    looked, where = list(EVENT_CHECKS), [log.where]
    if recommendations is not None:
        lists = read_recommendations(recommendations, k=k)
        possible = {kind: check for kind, check in LIST_CHECKS.items() if log.split or kind not in NEEDS_SPLIT}
        found += [check(log, lists) for check in possible.values()]
        looked += possible
        where.append(lists.where)
    return Audit(
        where=tuple(where),
        findings=tuple(one for one in found if one is not None and one.fault),
        notes=tuple(one for one in found if one is not None and not one.fault),
        checks=tuple(looked),
    )
