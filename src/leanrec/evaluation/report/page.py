"""Evaluations, runs and audits as one HTML page (well-formed XML too), with all its plots and styles inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import msgspec

from leanrec.evaluation.report.svg import Line, Spot, interval_plot, line_plot

__all__ = ["Material", "RunFacts", "document", "figures", "render", "section", "table"]

_CURVES = {
    "roc": ("ROC", "false positive rate", "true positive rate"),
    "pr": ("Precision and recall", "recall", "precision"),
    "reliability": ("Calibration", "probability said", "share that came"),
}
_MOST_PLOTS = 12
_FEW = 30


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A run folder or a bundle. curves: figure -> (step, value) of training."""

    name: str
    id: str
    card: dict[str, Any]
    lineage: dict[str, Any] = {}
    certificate: dict[str, Any] | None = None
    curves: dict[str, list[tuple[float, float]]] = {}


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What a page is made of: `to_dict` of Results and RowResults by name, facts of runs, audits by name."""

    evaluations: dict[str, dict[str, Any]] = {}
    runs: list[RunFacts] = []
    audits: dict[str, dict[str, Any]] = {}


def render(material: Material, title: str) -> str:
    """The page."""
    sections = [_evaluation(name, found) for name, found in material.evaluations.items()]
    sections += [_run(run) for run in material.runs]
    sections += [_audit(name, found) for name, found in material.audits.items()]
    return document(title, "".join(sections))


def document(title: str, body: str) -> str:
    """A whole page around its sections."""
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )


def _evaluation(name: str, found: Mapping[str, Any]) -> str:
    results: Sequence[Mapping[str, Any]] = found["results"]
    metrics = list(dict.fromkeys(metric for row in results for metric in row["metrics"]))
    overview = table(
        ["model", *metrics], [[row["model"], *(_with_ends(row, metric) for metric in metrics)] for row in results]
    )
    judged = results[0] if results else {}
    counts = [f"{judged[key]:,} {key}" for key in ("users", "rows") if key in judged]
    about = f"{', '.join(counts)}; {judged.get('on', '')}; 95 % intervals: {found.get('intervals', '')}"
    plots = [
        interval_plot(metric, [_spot(row, metric) for row in results if row["metrics"].get(metric) is not None])
        for metric in _shown(metrics)
    ]
    notes = [f"{row['model']}: {note}" for row in results for note in row.get("notes", ())]
    parts = [f"<p>{escape(about)}</p>", overview, figures(plots), _curves(found.get("curves", {})), _slices(results),
             _pairs(found.get("paired", ())), "".join(f"<p>{escape(note)}</p>" for note in notes)]  # fmt: skip
    return section(f"Evaluation: {name}", parts)


def _shown(metrics: Sequence[str]) -> list[str]:
    """The figures worth a plot of their own."""
    wanted = ("ndcg", "recall", "coverage", "auc", "log_loss", "ece", "rmse", "mae", "diversity", "serendipity")
    order = {name: place for place, name in enumerate(wanted)}
    found = [metric for metric in metrics if metric.partition("@")[0] in order]
    return sorted(found, key=lambda metric: order[metric.partition("@")[0]])[:_MOST_PLOTS]


def _spot(row: Mapping[str, Any], metric: str) -> Spot:
    low, high = row.get("interval", {}).get(metric, (None, None))
    return Spot(row["model"], row["metrics"][metric], low, high)


def _with_ends(row: Mapping[str, Any], metric: str) -> str:
    value = row["metrics"].get(metric)
    if value is None:
        return "-"
    low, high = row.get("interval", {}).get(metric, (None, None))
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _curves(curves: Mapping[str, Mapping[str, Any]]) -> str:
    plots = []
    for kind, (title, x, y) in _CURVES.items():
        lines = [
            Line(model, one[kind]["x"], one[kind]["y"], dots=kind == "reliability")
            for model, one in curves.items() if kind in one
        ]  # fmt: skip
        plots.append(line_plot(title, lines, x=x, y=y, shares=True, diagonal=kind != "pr"))
    return figures(plots)


def _slices(results: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(part["slice"] for row in results for part in row.get("slices", ())))
    if not names:
        return ""
    by_model = {row["model"]: {part["slice"]: part for part in row.get("slices", ())} for row in results}
    first = next(part for row in results for part in row.get("slices", ()))
    metrics = list(first["metrics"])
    shown = next((metric for metric in reversed(metrics) if metric.startswith("ndcg@")), metrics[0])
    rows = []
    for name in names:
        cells = [parts.get(name) for parts in by_model.values()]
        users = next(f"{part['users']:,}" for part in cells if part is not None)
        rows.append([name, users, *("-" if part is None else _with_ends(part, shown) for part in cells)])
    plots = []
    for model, parts in by_model.items():
        spots = [Spot(name, one["metrics"][shown], *one["interval"][shown]) for name, one in parts.items()]
        plots.append(interval_plot(f"{shown}, {model}", spots))
    heading = f"<h3>{escape(shown)} of parts of the users and items</h3>"
    return heading + table(["slice", "users", *by_model], rows) + figures(plots)


def _pairs(pairs: Sequence[Mapping[str, Any]]) -> str:
    if not pairs:
        return ""
    rows = [
        [pair["metric"], pair["model"], pair["baseline"], f"{pair['difference']:+.4f}",
         f"[{pair['interval'][0]:+.4f}, {pair['interval'][1]:+.4f}]", pair["verdict"],
         *(f"{pair[p]:.3g}" if p in pair else "-" for p in ("p", "p_holm", "p_bh"))]
        for pair in pairs
    ]  # fmt: skip
    heads = ["metric", "model", "against", "difference", "95 % interval", "verdict", "p", "p (Holm)",
             "p (Benjamini-Hochberg)"]  # fmt: skip
    return f"<h3>Paired differences</h3><details><summary>{len(rows)} pairs</summary>{table(heads, rows)}</details>"


def _run(run: RunFacts) -> str:
    facts = [["id", run.id], *([key, _plain(value)] for key, value in {**run.card, **run.lineage}.items()
                               if key != "compression")]  # fmt: skip
    parts = [table(["fact", "value"], facts)]
    ladder = run.card.get("compression", ())
    if ladder:
        rows = [[step["step"], "yes" if step["applied"] else "no", step["said"]] for step in ladder]
        parts.append("<h3>What each step bought and cost</h3>" + table(["step", "applied", "what came of it"], rows))
    if run.certificate is not None:
        loss = run.certificate.get("loss", run.certificate)
        parts.append("<h3>Certificate</h3>" + table(["fact", "value"], [[k, _plain(v)] for k, v in loss.items()]))
    plots = [
        line_plot(figure, [Line(run.name, [s for s, _ in points], [v for _, v in points], len(points) < _FEW)],
                  x="step", y=figure)
        for figure, points in run.curves.items()
    ]  # fmt: skip
    if plots:
        parts.append("<h3>Learning curves</h3>" + figures(plots))
    return section(f"Model: {run.name}", parts)


def _audit(name: str, found: Mapping[str, Any]) -> str:
    rows = [
        [kind, one["kind"], f"{one['count']:,}", one["message"], ", ".join(one["examples"])]
        for kind in ("findings", "notes") for one in found[kind]
    ]  # fmt: skip
    said = "nothing found" if not found["findings"] else f"{len(found['findings'])} findings"
    parts = [f"<p>{len(found['checks'])} checks: {said}.</p>"]
    if rows:
        parts.append(table(["", "kind", "count", "what", "for instance"], rows))
    return section(f"Audit: {name}", parts)


def section(title: str, parts: Iterable[str]) -> str:
    """Parts under a heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def figures(plots: Iterable[str]) -> str:
    """Plots side by side; those that are empty are left out."""
    drawn = [plot for plot in plots if plot]
    return f'<div class="figures">{"".join(drawn)}</div>' if drawn else ""


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], titles: Sequence[str] = ()) -> str:
    """A table of texts. titles: what a row shows when it is pointed at."""
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(
        f"<tr{_hint(titles, place)}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _hint(titles: Sequence[str], place: int) -> str:
    return f' title="{escape(titles[place])}"' if place < len(titles) and titles[place] else ""


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1100px;padding:0 1rem;color:#1a1a1a;"
    "background:#fff}h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #ccc}"
    ".table{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}"
    "td,th{padding:.25rem .7rem;border-bottom:1px solid #e4e4e4;text-align:left;white-space:nowrap}"
    "td{max-width:40rem;overflow:hidden;text-overflow:ellipsis}.figures{display:flex;flex-wrap:wrap;gap:1rem;"
    "margin:1rem 0}svg{font:12px system-ui,sans-serif;max-width:100%;height:auto}.title{font-weight:600}"
    ".axis line{stroke:#e4e4e4}.axis text{fill:#555}"
)
