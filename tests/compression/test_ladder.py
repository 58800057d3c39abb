"""Step on step: what `leanrec bench` puts on top of each other, with made-up measurements."""

from __future__ import annotations

from typing import Any, cast

import pytest

from leanrec.compression import ladder
from leanrec.compression.base import Plan
from leanrec.compression.figures import Figures
from leanrec.compression.ladder import Rung, build_up
from leanrec.compression.space import PlanSpace
from leanrec.compression.workbench import Workbench

COSTS = {
    (): (10.0, 100.0), ("items",): (11.0, 30.0), ("int8-items",): (8.0, 110.0), ("engine",): (9.0, 100.0),
    ("int8-items", "engine"): (7.0, 110.0), ("serving",): (9.5, 100.0), ("prune",): (9.0, 90.0),
    ("int8-items", "engine", "serving"): (7.0, 90.0),
}  # fmt: skip
"""Cost and bytes of each plan."""


def made_up(_: Any, plan: Plan, price: Any, before: Figures | None = None) -> Rung:
    names = tuple(str(step) for step in plan.steps)
    cost, size = COSTS[names]
    loss = 0.5 if "prune" in names else 0.0
    figures = Figures(loss=loss, p50_ms=1.0, p99_ms=2.0, memory=1e6, size=size, cost=cost)
    return Rung(plan=plan.steps, said="", pays=True, figures=figures)


def test_each_step_makes_answers_cheaper(monkeypatch: pytest.MonkeyPatch) -> None:
    """`items` pays in bytes alone and costs more; `serving` pays in bytes on top of the others and saves nothing;
    `prune` is cheaper and loses too much."""
    monkeypatch.setattr(ladder, "rung", made_up)
    stages = {"prune": ["prune"], "items": ["items", "int8-items"], "engine": ["engine"], "serving": ["serving"]}
    space = cast(PlanSpace, type("Space", (), {"stages": stages})())
    names = [(), ("items",), ("int8-items",), ("engine",), ("serving",), ("prune",)]
    singles = [made_up(None, Plan(steps=steps), None) for steps in names]
    found = build_up(cast(Workbench, None), space, singles, cast(Any, None), bound=0.01)
    assert [one.plan for one in found] == [(), ("int8-items",), ("int8-items", "engine")]
    costs = [one.figures.cost for one in found if one.figures]
    assert costs == sorted(costs, reverse=True)
