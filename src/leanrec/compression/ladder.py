"""What each single step bought and cost: rows that were measured, each in a process of its own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from leanrec.compression import STEPS
from leanrec.compression.base import Plan, StepRecord
from leanrec.compression.budget import Price
from leanrec.compression.figures import Figures, measured_figures
from leanrec.compression.measure import Measurement
from leanrec.compression.space import PlanSpace, step_names
from leanrec.compression.workbench import ALL_USERS, Workbench
from leanrec.core.console import Progress, format_table
from leanrec.core.machine import human

__all__ = ["Rung", "build_up", "climb", "ladder_cells", "ladder_table", "plan_name", "rung", "single_steps"]

_VARIANTS, _LONG = 4, 5.0
"""Other settings of a step that are tried where it does not pay, unless it takes so many seconds."""
_PAYS = 0.97
"""A step pays where it makes p50, memory, bytes or cost at least 3 % smaller than without it; where time alone speaks
for it, it has to be so twice, the second time right after the plan without it was measured again."""


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One plan measured. said: what came of its last step. pays: whether it is worth having on this machine beside the
    plan that it was compared with, which is most often the same without its last step.

    A plan whose last step was not applied has no figures.
    """

    plan: tuple[str | dict[str, Any], ...]
    said: str
    pays: bool
    figures: Figures | None = None
    measured: Measurement | None = None
    agreement: float | None = None
    lossless: bool = False
    records: list[StepRecord] = []

    @property
    def name(self) -> str:
        return plan_name(self.plan)

    @property
    def exact(self) -> str:
        """The plan with every digit, as JSON."""
        return msgspec.json.encode(self.plan).decode()


def plan_name(steps: Sequence[str | dict[str, Any]]) -> str:
    """A plan in a few words, numbers to three digits: for people; what a plan says exactly is `Rung.exact`."""
    return " + ".join(map(_step_name, steps)) or "as it was"


def _step_name(entry: str | dict[str, Any]) -> str:
    if isinstance(entry, str):
        return entry
    return f"{entry['step']}({_settings({key: value for key, value in entry.items() if key != 'step'})})"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    match value:
        case float():
            return f"{value:.3g}"
        case dict():
            return f"{{{_settings(value)}}}"
        case list() | tuple():
            return f"[{', '.join(map(_short, value))}]"
    return str(value)


def rung(bench: Workbench, plan: Plan, price: Price, before: Rung | None = None) -> Rung:
    """Measure one plan; `before` is the plan without the step in question, its last one in most cases."""
    probe = bench.probe(plan)
    record = probe.records[-1] if probe.records else None
    if probe.error or (record is not None and not record.applied):
        said = probe.error or (record.said if record else "")
        return Rung(plan=plan.steps, said=said, pays=False, records=probe.records)
    measured = bench.measured(plan)
    figures = measured_figures(measured, bench.loss(plan, ALL_USERS).value, price)
    return Rung(
        plan=plan.steps,
        said=record.said if record else "",
        pays=before is None or _pays(bench, before, plan, figures, price),
        figures=figures,
        measured=measured,
        agreement=probe.agreement,
        lossless=probe.lossless,
        records=probe.records,
    )


def single_steps(bench: Workbench, space: PlanSpace, price: Price, deadline: float | None = None) -> list[Rung]:
    """The original, then each step alone: as it is by default, or with the first other setting that pays.

    deadline: seconds of the search after which nothing further is tried. Until then breadth comes before depth: the
    first step of each stage, then the second ones, and other settings only when every step has been tried. Those that
    learn come last: each may take as long as all others together.
    """
    before = rung(bench, Plan(steps=()), price)
    found: dict[str, Rung] = {}
    with Progress("measuring single steps", len(space.steps)) as progress:
        for name in _by_breadth(space):
            if bench.late(deadline):
                break
            found[name] = rung(bench, Plan(steps=(name,)), price, before)
            progress.advance(note=name)
    waiting = [name for name, one in found.items() if not one.pays]
    with Progress("measuring other settings", len(waiting)) as progress:
        for name in waiting:
            if bench.late(deadline):
                break
            found[name] = _other_setting(bench, space, name, price, before) or found[name]
            progress.advance(note=name)
    return [before, *found.values()]


def _by_breadth(space: PlanSpace) -> list[str]:
    rounds = itertools.zip_longest(*space.stages.values())
    names = [name for names in rounds for name in names if name is not None]
    return sorted(names, key=lambda name: STEPS[name].learns)


def _other_setting(bench: Workbench, space: PlanSpace, name: str, price: Price, before: Rung) -> Rung | None:
    """The step with the first other setting that pays, of a few."""
    probe = bench.probe(Plan(steps=(name,)))
    seen = {probe.id}
    for plan in () if probe.seconds > _LONG else space.variants(name)[:_VARIANTS]:
        probe = bench.probe(plan)
        if probe.id not in seen:
            seen.add(probe.id)
            other = rung(bench, plan, price, before)
            if other.pays:
                return other
    return None


def climb(bench: Workbench, plan: Plan, price: Price) -> list[Rung]:
    """The plan step by step: the original, with the first step, with the first two, and so on."""
    rungs: list[Rung] = []
    for count in range(len(plan.steps) + 1):
        before = next((one for one in reversed(rungs) if one.figures is not None), None)
        rungs.append(rung(bench, Plan(steps=plan.steps[:count]), price, before))
    return rungs


def build_up(bench: Workbench, space: PlanSpace, singles: Sequence[Rung], price: Price, *, bound: float) -> list[Rung]:
    """Stage by stage the step that makes answers cheapest, on top of those before it; the original first.

    Only steps that pay alone are tried, and only those kept that make answers cheaper than they were before and with
    which no more than `bound` is lost on tuning users: the cost of the rows never rises.
    """
    paying = {step_names(Plan(steps=one.plan))[0]: one.plan[0] for one in singles[1:] if one.pays}
    rungs = [singles[0]]
    for names in space.stages.values():
        before = rungs[-1]
        tried = [rung(bench, Plan(steps=(*before.plan, paying[name])), price, before)
                 for name in names if name in paying]  # fmt: skip
        good = [(one.figures.cost, one.name, one) for one in tried
                if one.figures is not None and before.figures is not None and one.figures.loss <= bound
                and one.figures.cost < _PAYS * before.figures.cost]  # fmt: skip
        if good:
            rungs.append(min(good, key=lambda one: one[:2])[2])
    return rungs


def _pays(bench: Workbench, before: Rung, plan: Plan, figures: Figures, price: Price) -> bool:
    assert before.figures is not None
    better = _smaller(before.figures, figures)
    if not better or better & {"memory", "size"}:
        return bool(better)
    turns = bench.turns(Plan(steps=before.plan), plan)
    again = [measured_figures(one, figures.loss, price) for one in (turns.before, turns.after)]
    return bool(better & _smaller(*again))


def _smaller(before: Figures, after: Figures) -> set[str]:
    names = ("p50_ms", "memory", "size", "cost")
    return {name for name in names if getattr(after, name) < _PAYS * getattr(before, name)}


def ladder_table(rungs: Sequence[Rung], metric: str, currency: str) -> str:
    """For a terminal."""
    headers, rows = ladder_cells(rungs, metric, currency)
    return format_table(headers, rows)


def ladder_cells(rungs: Sequence[Rung], metric: str, currency: str) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table."""
    headers = ["plan", metric, "p50 ms", "p99 ms", "answers/s", "memory", "bundle", f"{currency}/million", "pays"]
    return headers, [_cells(one) for one in rungs]


def _cells(one: Rung) -> list[str]:
    if one.figures is None or one.measured is None:
        return [one.name, "-", "-", "-", "-", "-", "-", "-", "dropped"]
    figures = one.figures
    change = f"{0.0 - 100 * figures.loss:+.2f} %" + " (proven)" * (one.lossless and bool(one.plan))
    return [
        one.name, change, f"{figures.p50_ms:.3f}", f"{figures.p99_ms:.3f}", f"{one.measured.served_per_second:,.0f}",
        human(figures.memory), human(figures.size), f"{figures.cost:.4g}", "yes" if one.pays else "no",
    ]  # fmt: skip
