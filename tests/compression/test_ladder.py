"""Step on step: what `leanrec bench` puts on top of each other, with made-up measurements."""

from __future__ import annotations

from typing import Any, cast

import pytest

from leanrec.compression import ladder
from leanrec.compression.base import Plan, StepRecord
from leanrec.compression.budget import Price
from leanrec.compression.figures import Figures
from leanrec.compression.ladder import Rung, build_up, rung
from leanrec.compression.measure import Measurement
from leanrec.compression.space import PlanSpace
from leanrec.compression.workbench import Probe, Turns, Workbench

COSTS = {
    (): (10.0, 100.0), ("items",): (11.0, 30.0), ("int8-items",): (8.0, 110.0), ("engine",): (9.0, 100.0),
    ("int8-items", "engine"): (7.0, 110.0), ("serving",): (9.5, 100.0), ("prune",): (9.0, 90.0),
    ("int8-items", "engine", "serving"): (7.0, 90.0),
}  # fmt: skip
"""Cost and bytes of each plan."""


def made_up(_: Any, plan: Plan, price: Any, before: Rung | None = None) -> Rung:
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


class Machine:
    """A workbench on which every plan takes as long as the next of its times says."""

    def __init__(self, **times: list[float]) -> None:
        self.times = {name: iter(values) for name, values in times.items()}
        self.data = self.model = None

    def probe(self, plan: Plan) -> Probe:
        return Probe(
            id="".join(map(str, plan.steps)),
            records=[StepRecord(step=str(s), applied=True, said="") for s in plan.steps],
        )

    def loss(self, plan: Plan, users: int) -> Any:
        return type("Loss", (), {"value": 0.0})()

    def measured(self, plan: Plan) -> Measurement:
        ms = next(self.times["".join(map(str, plan.steps)) or "before"])
        return Measurement(
            latency_p50_ms=ms, latency_p99_ms=2 * ms, answers_per_second=1.0, first_answer_seconds=1.0,
            bytes_scanned=None, bundle_bytes=100, rss=100, pss=100, private=100, torch_imported=False, cores=2,
            load=0.0, served_per_second=1e3 / ms, core_seconds=ms / 1e3,
        )  # fmt: skip

    def turns(self, before: Plan, after: Plan) -> Turns:
        return Turns(before=self.measured(before), after=self.measured(after))


@pytest.mark.parametrize(
    ("before", "step", "pays"),
    [
        ([10.0, 10.0], [5.0, 5.0], True),
        ([10.0, 5.0], [5.0, 5.0], False),  # the machine was slow when the original was measured
        ([10.0], [9.9], False),  # not asked again
    ],
)
def test_a_step_that_is_only_quicker_has_to_be_so_twice(before: list[float], step: list[float], pays: bool) -> None:
    bench = cast(Workbench, Machine(before=before, engine=step))
    original = rung(bench, Plan(steps=()), Price())
    assert rung(bench, Plan(steps=("engine",)), Price(), original).pays is pays
