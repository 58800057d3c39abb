"""A search for a lean bundle as one HTML page: front, ladder, what was dropped, sensitivity by layer, certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from leanrec.compression.ladder import Rung, ladder_cells
from leanrec.compression.outcome import Optimised
from leanrec.evaluation.report.page import document, figures, section, table
from leanrec.evaluation.report.svg import Line, Spot, interval_plot, line_plot

__all__ = ["render"]

_AXES = (
    ("p99_ms", "p99, ms", 1.0),
    ("memory", "memory of the process, MiB", 2.0**-20),
    ("size", "bundle, MiB", 2.0**-20),
    ("cost", "cost of a million answers", 1.0),
)
SENSITIVITY = "sensitivity"
"""Where a step's facts say how much each layer minds: rows of layer, precision, loss and what else is known."""


def render(found: Optimised) -> str:
    """The page."""
    parts = [_head(found), _front(found), _ladder(found), _singles(found), _sensitivity(found), _certificate(found)]
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
    return section("Budget", [table(["", ""], about)])


def _front(found: Optimised) -> str:
    plots = []
    for field, label, scale in _AXES:
        rest = [one for one in found.rows if not any(one is other for other in found.front)]
        lines = [_points("on the front", found.front, field, scale), _points("beaten", rest, field, scale)]
        if found.chosen is not None:
            lines.append(_points(f"chosen: {found.chosen.name}", [found.chosen], field, scale))
        plots.append(line_plot(label, lines, x=label, y=f"change of {found.budget.metric}, %"))
    headers, rows = ladder_cells(found.front, found.budget.metric, found.price.currency)
    return section("Pareto front", [figures(plots), table(headers[:-1], [row[:-1] for row in rows])])


def _points(name: str, rungs: Sequence[Rung], field: str, scale: float) -> Line:
    known = [(one.name, one.figures) for one in rungs if one.figures is not None]
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
        )
        for field, label, scale in _AXES
    ]
    said = [[one.name, one.said] for one in found.ladder if one.said]
    return section("Ladder of the chosen plan", [table(headers, rows), figures(spots), table(["step", "said"], said)])


def _singles(found: Optimised) -> str:
    headers, rows = ladder_cells(found.singles, found.budget.metric, found.price.currency)
    rows = [[*cells, one.said] for cells, one in zip(rows, found.singles, strict=True)]
    return section("Each step alone", [table([*headers, "what came of it"], rows)])


def _sensitivity(found: Optimised) -> str:
    """Tables of steps that say how much each layer minds, each once."""
    tables: dict[str, str] = {}
    for one in [*found.singles, *found.rows]:
        for record in one.records:
            if layers := record.facts.get(SENSITIVITY):
                tables.setdefault(record.step, f"<h3>{escape(record.step)}</h3>" + _layers(layers))
    return section("Sensitivity by layer", tables.values()) if tables else ""


def _layers(layers: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in layers for name in row))
    rows = [[_cell(row.get(column)) for column in columns] for row in layers]
    known = [row for row in layers if isinstance(row.get("loss"), int | float) and not row.get("group")]
    by_precision: dict[str, list[Spot]] = {}
    for row in known:
        by_precision.setdefault(str(row.get("precision", "")), []).append(Spot(str(row.get("layer")), row["loss"]))
    plots = [interval_plot(f"loss with {name} in this layer alone", spots) for name, spots in by_precision.items()]
    return figures(plots) + table(columns, rows)


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _certificate(found: Optimised) -> str:
    rows = []
    for look in found.looks:
        name = found.candidates[look.candidate].name
        if look.quality is None:
            rows.append([name, look.kept, "-", "-", "-", "-"])
            continue
        one = look.quality.certificate
        ends = [f"{100 * value:.2f} %" for value in (one.loss, one.lower, one.upper)]
        rows.append([name, look.kept, f"{one.users:,}", *ends])
    if not rows:
        return section("Promise", ["<p>No measured plan keeps the other parts of the budget.</p>"])
    explained = (
        f"<p>A loss of at most {100 * found.budget.max_quality_loss:g} % on users that nothing was tuned on; the "
        "probability of a wrong statement is shared by all looks.</p>"
    )
    headers = ["plan", "kept by", "users", "measured loss", "at least", "at most"]
    return section("Promise", [explained, table(headers, rows)])
