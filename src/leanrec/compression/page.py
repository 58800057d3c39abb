"""A search for a lean bundle as one HTML page: front, ladder, what was dropped, sensitivity by layer, certificate."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from leanrec import __version__
from leanrec.compression.budget import Budget
from leanrec.compression.ladder import Rung, ladder_cells
from leanrec.compression.outcome import Optimised
from leanrec.core.machine import cpu_model, human
from leanrec.evaluation.report.page import document, figures, section, table
from leanrec.evaluation.report.svg import Limit, Line, Spot, interval_plot, line_plot

__all__ = ["render"]

_AXES = (
    ("p99_ms", "p99, ms", 1.0),
    ("memory", "memory of the process, MiB", 2.0**-20),
    ("size", "bundle, MiB", 2.0**-20),
    ("cost", "cost of a million answers", 1.0),
)
SENSITIVITY = "sensitivity"
"""Where a step's facts say how much each layer minds: rows of layer, precision, loss and what else is known. `metric`
beside it says of what the loss is, `pays` whether costs before and after are bytes or seconds."""


def render(found: Optimised) -> str:
    """The page."""
    parts = [_head(found), _circumstances(found), _front(found), _ladder(found), _singles(found), _sensitivity(found),
             _certificate(found)]  # fmt: skip
    return document("A lean bundle and what it keeps", "".join(parts))


def _head(found: Optimised) -> str:
    price = found.price
    about = [
        ["asked", str(found.budget)],
        ["answer", "; ".join([found.sentence, *found.doubts])],
        ["from bundle", found.before_id],
        ["price", f"{price.core_hour:g} {price.currency} a core-hour, {price.gib_hour:g} a GiB-hour"],
        ["users the search looked at", f"{found.metric_users:,}"],
    ]
    plan = (
        "" if found.chosen is None else f"<p>The plan with every digit: <code>{escape(found.chosen.exact)}</code></p>"
    )
    return section("Budget", [table(["", ""], about), plan])


def _circumstances(found: Optimised) -> str:
    """When, where and under which load all of this was measured."""
    about = [
        ["page written", f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"],
        ["leanrec", __version__],
        ["data set", found.data or "not known"],
        ["machine", f"{cpu_model()}, {len(os.sched_getaffinity(0))} cores for this process"],
    ]
    measured = [one.measured for one in [*found.singles, *found.rows, *found.ladder] if one.measured is not None]
    if measured:
        loads, cores = [one.load for one in measured], {one.cores for one in measured}
        about += [
            ["measured with", f"a process for each plan, {_numbers(cores)} cores; products on one thread, scans as the "
                              "plan says"],
            ["asked at once", _numbers({one.concurrency for one in measured})],
            ["asked again", f"{100 * found.again:g} % of the questions"],
            ["processes that wanted a core", f"{min(loads):.2f} to {max(loads):.2f} in the minute before"],
        ]  # fmt: skip
    if found.alpha is not None:
        about.append(["confidence", f"{100 * (1 - found.alpha):g} % for all looks at certifying users together"])
    return section("How it was measured", [table(["", ""], about)])


def _numbers(values: set[int]) -> str:
    return " or ".join(map(str, sorted(values)))


def _limit(budget: Budget, field: str, scale: float) -> Limit | None:
    """What the budget allows, in the units of a plot."""
    allowed: float | None = getattr(budget, field)
    return None if allowed is None else Limit(f"budget {scale * allowed:.4g}", scale * allowed)


def _exact(rungs: Sequence[Rung]) -> list[str]:
    return [one.exact for one in rungs]


def _front(found: Optimised) -> str:
    plots = []
    for field, label, scale in _AXES:
        rest = [one for one in found.rows if not any(one is other for other in found.front)]
        lines = [_points("on the front", found.front, field, scale), _points("beaten", rest, field, scale)]
        if found.chosen is not None:
            lines.append(_points(f"chosen: {found.chosen.name}", [found.chosen], field, scale))
        lost = -100 * found.budget.max_quality_loss
        plots.append(line_plot(
            label, lines, x=label, y=f"change of {found.budget.metric}, %",
            x_limit=_limit(found.budget, field, scale), y_limit=Limit(f"budget {lost:g}", lost),
        ))  # fmt: skip
    headers, rows = ladder_cells(found.front, found.budget.metric, found.price.currency)
    return section(
        "Pareto front", [figures(plots), table(headers[:-1], [row[:-1] for row in rows], _exact(found.front))]
    )


def _points(name: str, rungs: Sequence[Rung], field: str, scale: float) -> Line:
    known = [(one.exact, one.figures) for one in rungs if one.figures is not None]
    return Line(
        name,
        [scale * getattr(f, field) for _, f in known],
        [-100 * f.loss for _, f in known],
        dots=True,
        joined=False,
        names=[plan for plan, _ in known],
    )


def _ladder(found: Optimised) -> str:
    if not found.ladder:
        return ""
    headers, rows = ladder_cells(found.ladder, found.budget.metric, found.price.currency)
    spots = [
        interval_plot(
            label,
            [Spot(one.name, scale * getattr(one.figures, field)) for one in found.ladder if one.figures is not None],
            _limit(found.budget, field, scale),
        )
        for field, label, scale in _AXES
    ]
    said = [[one.name, one.said] for one in found.ladder if one.said]
    return section(
        "Ladder of the chosen plan",
        [table(headers, rows, _exact(found.ladder)), figures(spots), table(["step", "said"], said)],
    )


def _singles(found: Optimised) -> str:
    headers, rows = ladder_cells(found.singles, found.budget.metric, found.price.currency)
    rows = [[*cells, one.said] for cells, one in zip(rows, found.singles, strict=True)]
    return section("Each step alone", [table([*headers, "what came of it"], rows, _exact(found.singles))])


def _sensitivity(found: Optimised) -> str:
    """Tables of steps that say how much each layer minds, each once."""
    tables: dict[str, str] = {}
    for one in [*found.singles, *found.rows]:
        for record in one.records:
            if layers := record.facts.get(SENSITIVITY):
                tables.setdefault(record.step, f"<h3>{escape(record.step)}</h3>" + _layers(layers, record.facts))
    return section("Sensitivity by layer", tables.values()) if tables else ""


def _layers(layers: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    columns = list(dict.fromkeys(name for row in layers for name in row))
    lost = f"loss of {facts['metric']}" if "metric" in facts else "loss"
    unit = {"bytes": "bytes ", "time": "us "}.get(facts.get("pays", ""), "")
    heads = {"group": "what", "loss": lost, "before": f"{unit}before", "after": f"{unit}after"}
    rows = [[_cell(column, row.get(column), facts) for column in columns] for row in layers]
    known = [row for row in layers if isinstance(row.get("loss"), int | float) and not row.get("group")]
    by_precision: dict[str, list[Spot]] = {}
    for row in known:
        by_precision.setdefault(str(row.get("precision", "")), []).append(Spot(str(row.get("layer")), row["loss"]))
    plots = [interval_plot(f"{lost} with {name} in this layer alone", spots) for name, spots in by_precision.items()]
    explained = (
        f"<p>{escape(lost[0].upper() + lost[1:])} on users that tune when nothing but this layer, or these layers "
        "together, is kept in that precision.</p>"
    )
    return explained + figures(plots) + table([heads.get(column, column) for column in columns], rows)


def _cell(column: str, value: object, facts: Mapping[str, Any]) -> str:
    """A value of the table of sensitivity as a person reads it."""
    match column, value:
        case _, None:
            return "-"
        case "group", bool():
            return "layers together" if value else "one layer"
        case "loss", int() | float():
            return f"{100 * value:.2f} %"
        case "before" | "after", int() | float():
            pays = facts.get("pays")
            return human(value) if pays == "bytes" else f"{1e6 * value:.1f}" if pays == "time" else f"{value:.4g}"
        case _, float():
            return f"{value:.4g}"
    return str(value)


def _certificate(found: Optimised) -> str:
    rows, plans = [], [found.candidates[look.candidate] for look in found.looks]
    for look, one_plan in zip(found.looks, plans, strict=True):
        name = one_plan.name
        if look.quality is None:
            rows.append([name, look.kept, "-", "-", "-", "-", "-"])
            continue
        one = look.quality.certificate
        ends = [f"{100 * value:.2f} %" for value in (one.loss, one.lower, one.upper)]
        rows.append([name, look.kept, f"{one.users:,}", *ends, f"{100 * (1 - look.alpha):.4g} %"])
    if not rows:
        return section("Promise", ["<p>No measured plan keeps the other parts of the budget.</p>"])
    explained = (
        f"<p>A loss of at most {100 * found.budget.max_quality_loss:g} % on users that nothing was tuned on; the "
        "probability of a wrong statement is shared by all looks.</p>"
    )
    headers = ["plan", "kept by", "users", "measured loss", "at least", "at most", "confidence of this look"]
    return section("Promise", [explained, table(headers, rows, _exact(plans))])
