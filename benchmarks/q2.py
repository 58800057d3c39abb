"""Q2: collaborative filtering on Gowalla, the split of LightGCN's authors, 64 dimensions, full ranking.

Settings and the number of epochs come from validation edges drawn from train (but how many weights `ease` keeps: more
of them are nearer to its definition); then each model is trained again on all
of train, as the published numbers are, and judged once on test with train items excluded. Rows go from cheap to dear;
a finished row is kept under .cache/q2 by its settings, seed and data, so a run that is cut short goes on where it
stopped. Q2_ROWS=item-knn,simplex picks rows. LONG=1: three seeds of each model with chance in it.

ratio: the smallest, over the rows with a published number, of NDCG@20 over that number; the best of all our models
counts against the best published. Gate: both metrics of each row reach theirs, within 3 % for one seed, as the mean
and two standard errors with LONG=1, within .001 for models without chance; rows that were left out make it
inconclusive.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import LONG, ROOT, Result, bench_data
from leanrec.core.config import to_dict
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.models import MODELS

METRICS = ("recall@20", "ndcg@20")
CACHE = ROOT / ".cache" / "q2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model: settings that validation chose on this data, and the published Recall@20 and NDCG@20, if any."""

    model: str
    settings: Mapping[str, Any]
    target: tuple[float, float] | None = None
    chance: bool = True


_GRAPH = {
    "layers": 4, "user_power": 0.75, "batch": 1024, "epochs": 25, "patience": 25, "schedule": "cosine",
    "regularisation": 0.04,
}  # fmt: skip
ROWS = (
    Row(model="popular", settings={}, chance=False),
    Row(model="item-knn", settings={}, target=(0.1570, 0.1214), chance=False),
    Row(model="graph-filter", settings={}, chance=False),
    Row(model="bpr-mf", settings={}, target=(0.1627, 0.1378)),
    Row(model="simplex", settings={}),
    Row(model="ultragcn", settings={}),
    Row(model="lightgcn", settings=_GRAPH, target=(0.1830, 0.1554)),
    Row(model="als", settings={"factors": 64}),
    Row(model="ease", settings={"neighbours": 2000}, target=(0.1765, 0.1467), chance=False),
)
BEST = {"UltraGCN": (0.1862, 0.1580), "SimpleX": (0.1872, 0.1557)}
"""Of which one is to be reached by the best of our models; both is the moonshot."""


def run() -> Result:
    """Every row that was asked for, one after the other."""
    data = prepare(bench_data("gowalla-lightgcn") / "interactions.parquet", split="column:split")
    assert data.protocol.drawn_valid and not data.protocol.repeats
    asked = os.environ.get("Q2_ROWS", "")
    wanted = set(asked.split(",")) if asked else {row.model for row in ROWS}
    unknown = wanted - {row.model for row in ROWS}
    if unknown:
        raise SystemExit(f"Q2_ROWS names no row: {', '.join(sorted(unknown))}")
    found: dict[str, list[Measured]] = {}
    for row in ROWS:
        if row.model in wanted and row.model in MODELS:
            seeds = range(3 if LONG and row.chance else 1)
            found[row.model] = [_measured(row, data, seed) for seed in seeds]
    return _result(found)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one seed of a row came to."""

    values: tuple[float, float]
    interval: tuple[float, float]
    """Of NDCG@20 over users."""
    seconds: float
    epochs: int | None


def _measured(row: Row, data: Dataset, seed: int) -> Measured:
    """From the cache, or trained, judged and kept."""
    model = MODELS[row.model](**row.settings)
    what = json.dumps([row.model, to_dict(model.config), seed, data.fingerprint], sort_keys=True)
    file = CACHE / f"{row.model}-{seed}-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"
    if not file.exists():
        start = time.perf_counter()
        fitted = model.fit(data, seed=seed, refit=True, metric="ndcg@20")
        seconds = time.perf_counter() - start
        results = evaluate({row.model: fitted}, data, on="test", k=(20,))
        values = [results[row.model].metrics[metric] for metric in METRICS]
        kept = {"values": values, "interval": list(results.interval(row.model, "ndcg@20")), "seconds": seconds}
        kept["epochs"] = fitted.card.get("best_epoch")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept))
    kept = json.loads(file.read_text())
    return Measured(tuple(kept["values"]), tuple(kept["interval"]), kept["seconds"], kept["epochs"])


def _result(found: dict[str, list[Measured]]) -> Result:
    rows, ratios, gates = [], [], []
    for row in ROWS:
        runs = found.get(row.model, [])
        for seed, run in enumerate(runs):
            rows.append(_line(row, seed, run))
        if row.target and not runs:
            gates.append("inconclusive")
        elif row.target:
            ratios.append(_ratio(runs, row.target))
            gates.append("ok" if _reached(runs, row.target, row.chance) else "failed")
    if found:
        best = max(found, key=lambda name: _means(found[name])[1])
        chance = next(row.chance for row in ROWS if row.model == best)
        goals = [name for name, goal in BEST.items() if _reached(found[best], goal, chance)]
        ratios.append(max(_ratio(found[best], goal) for goal in BEST.values()))
        gates.append("ok" if goals else "failed")
        rows.append((f"best: {best}", "", "", f"reaches {' and '.join(goals) or 'neither'}", "", ""))
    ratio, interval = min(ratios)
    figures = ", ".join("{} {:.4f} / {:.4f}".format(name, *_means(runs)) for name, runs in found.items())
    return Result(
        id="Q2", ratio=ratio, interval=interval,
        gate=next((gate for gate in ("failed", "inconclusive") if gate in gates), "ok"),
        headers=("model", "Recall@20", "NDCG@20", "95 % interval over users", "epochs", "s"), rows=rows,
        figures=f"{figures}; {3 if LONG else 1} seed(s)",
        notes=("to reach: " + ", ".join("{} {:.4f} / {:.4f}".format(r.model, *r.target) for r in ROWS if r.target),),
    )  # fmt: skip


def _line(row: Row, seed: int, run: Measured) -> tuple[str, ...]:
    name = f"{row.model}, seed {seed}" if row.chance else row.model
    low, high = run.interval
    epochs = "" if run.epochs is None else str(run.epochs)
    return (name, *(f"{value:.4f}" for value in run.values), f"{low:.4f} to {high:.4f}", epochs, f"{run.seconds:.0f}")


def _means(runs: list[Measured]) -> tuple[float, float]:
    recall, ndcg = np.mean([run.values for run in runs], axis=0).tolist()
    return recall, ndcg


def _ratio(runs: list[Measured], target: tuple[float, float]) -> tuple[float, tuple[float, float]]:
    low, high = np.mean([run.interval for run in runs], axis=0).tolist()
    return _means(runs)[1] / target[1], (low / target[1], high / target[1])


def _reached(runs: list[Measured], target: tuple[float, float], chance: bool) -> bool:
    if len(runs) > 1:
        errors = np.std([run.values for run in runs], axis=0, ddof=1) / len(runs) ** 0.5
        slack = tuple((2 * errors).tolist())
    else:
        slack = tuple(0.03 * goal if chance else 0.001 for goal in target)
    return all(mean + more >= goal for mean, more, goal in zip(_means(runs), slack, target, strict=True))
