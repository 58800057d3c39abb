"""Q1: `sasrec` and `esasrec` on Amazon Beauty, leave-one-out, full ranking, seen items excluded, default settings.

Settings and the number of epochs come from validation alone; then the model is trained again on train + validation for
as many epochs, as the published numbers are. Both rows stand in the table, popularity of all time and of the last days
beside them, and a split at one point in time, where leave-one-out tables seldom look. LONG=1: three seeds.

ratio: the smallest, over the two models, of NDCG@10 over the published number. Gate: with LONG=1 the mean of the seeds
plus two standard errors reaches both numbers, without it one seed is within 3 %.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import LONG, Result, bench_data
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

TARGETS = {"sasrec": (0.0921, 0.0531), "esasrec": (0.0928, 0.0523)}
SEEDS = range(3 if LONG else 1)
METRICS = ("recall@10", "ndcg@10")
BASELINES = ("popular", "popular-recent")


def run() -> Result:
    """Train both models for each seed, then the rows on the split in time."""
    log = bench_data("amazon-beauty-5core") / "interactions.parquet"
    data = prepare(log, order_by="pos")
    rows = _baselines("leave-one-out", data)
    reached: dict[str, list[Measured]] = {}
    for name in TARGETS:
        for seed in SEEDS:
            found, more = fit_seed(name, data, seed)
            reached.setdefault(name, []).append(found)
            rows += more
    in_time = prepare(log, order_by="pos", split="time:0.8,0.1,0.1")
    rows += _baselines("time", in_time)
    start = time.perf_counter()
    later = MODELS["esasrec"]().fit(in_time, refit=True, time_limit=None if LONG else 300)
    rows.append(_row("time", "esasrec, refit", _measure(later, in_time), time.perf_counter() - start))
    return _result(reached, rows)


def fit_seed(name: str, data: Dataset, seed: int) -> tuple[Measured, list[tuple[str, ...]]]:
    """The measured refit model, and the table's rows for it and for the model before the refit."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        refitted = MODELS[name]().fit(data, seed=seed, refit=True, run=Path(folder))
        seconds = time.perf_counter() - start
        before = Recommender.load(folder)
        rows = []
        if not before.card["refit"]:
            rows.append(_row("leave-one-out", f"{name}, seed {seed}", _measure(before, data), None))
        found = _measure(refitted, data)
        rows.append(_row("leave-one-out", f"{name}, seed {seed}, refit", found, seconds))
        return found, rows


def _baselines(split: str, data: Dataset) -> list[tuple[str, ...]]:
    return [_row(split, name, _measure(MODELS[name]().fit(data, refit=True), data), None) for name in BASELINES]


@dataclass(frozen=True, slots=True)
class Measured:
    """One model's metrics on the test part, and the interval of its NDCG@10."""

    metrics: Mapping[str, float]
    interval: tuple[float, float]


def _measure(model: Recommender, data: Dataset) -> Measured:
    found = evaluate({"model": model}, data, on="test", k=(10,))
    return Measured(found["model"].metrics, found.interval("model", "ndcg@10"))


def _row(split: str, name: str, found: Measured, seconds: float | None) -> tuple[str, ...]:
    low, high = found.interval
    took = "" if seconds is None else f"{seconds:.0f}"
    return (f"{name} ({split})", *(f"{found.metrics[m]:.4f}" for m in METRICS), f"{low:.4f} to {high:.4f}", took)


def _result(reached: dict[str, list[Measured]], rows: list[tuple[str, ...]]) -> Result:
    ratios, gate, figures = [], "ok", []
    for name, runs in reached.items():
        means = [float(np.mean([run.metrics[metric] for run in runs])) for metric in METRICS]
        errors = [float(np.std([run.metrics[m] for run in runs], ddof=1)) if len(runs) > 1 else 0.0 for m in METRICS]
        slack = [2 * e / len(runs) ** 0.5 if LONG else 0.03 * t for e, t in zip(errors, TARGETS[name], strict=True)]
        if any(mean + more < target for mean, more, target in zip(means, slack, TARGETS[name], strict=True)):
            gate = "failed"
        ends = [run.interval for run in runs]
        target = TARGETS[name][1]
        interval = (float(np.mean([e[0] for e in ends])) / target, float(np.mean([e[1] for e in ends])) / target)
        ratios.append((means[1] / target, interval))
        figures.append(f"{name} {means[0]:.4f} / {means[1]:.4f}")
    ratio, interval = min(ratios)
    return Result(
        id="Q1", ratio=ratio, interval=interval, gate=gate,
        headers=("model", "Recall@10", "NDCG@10", "95 % interval", "s"), rows=rows,
        figures=f"{', '.join(figures)}; {len(SEEDS)} seed(s)",
        notes=("to reach: " + ", ".join(f"{n} {r:.4f} / {g:.4f}" for n, (r, g) in TARGETS.items()),),
    )  # fmt: skip
