"""H1: HSTU against SASRec of equal width, layers, heads, objective and negatives, whichever way it falls.

Two data sets: MovieLens-100K leave-one-out, and `online-retail` split at two points in time. Trials: over dropout, for
HSTU also over whether it looks at times, each as long; the one with the best validation NDCG@10 names settings and
epochs, and the model is trained again on train + validation. Then both are judged on the same test users. A trial has
H1_SECONDS (60); LONG=1 lifts that.

ratio: the smaller, over the data sets, of HSTU's NDCG@10 over SASRec's, with its paired interval. Gate: ok where the
interval is decided on both, one way or the other; inconclusive otherwise, with the number of users that would decide.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import LONG, Result, bench_data
from leanrec.data.catalog import load_public
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.paired import Paired, compare
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

METRICS = ("recall@10", "ndcg@10")
SIZE: dict[str, Any] = {"dim": 64, "layers": 2, "heads": 2, "objective": "sampled-softmax", "negatives": 256}
TRIALS: dict[str, tuple[dict[str, Any], ...]] = {
    "sasrec": ({"dropout": 0.2}, {"dropout": 0.4}),
    "hstu": (
        {"dropout": 0.2}, {"dropout": 0.2, "elapsed": True}, {"dropout": 0.4, "elapsed": True},
    ),
}  # fmt: skip
SECONDS = None if LONG else float(os.environ.get("H1_SECONDS", "60"))
"""Of one trial."""


def run() -> Result:
    """Both models on both data sets."""
    rows: list[tuple[str, ...]] = []
    pairs = []
    for name, data in _data().items():
        fitted = {}
        for model in TRIALS:
            start = time.perf_counter()
            fitted[model], settings = _fit(model, data)
            rows.append(_row(name, model, fitted[model], data, settings, time.perf_counter() - start))
            print(" | ".join(rows[-1]), flush=True)
        pairs.append((name, _paired(fitted, data)))
        print(f"{name}: {pairs[-1][1]}", flush=True)
    return _result(rows, pairs)


def _data() -> dict[str, Dataset]:
    events, items = load_public("ml-100k")
    shop = bench_data("online-retail") / "interactions.parquet"
    return {
        "ml-100k, leave-one-out": prepare(events, items=items, name="ml-100k"),
        "online-retail, time": prepare(shop, split="time:0.8,0.1,0.1", name="online-retail"),
    }


def _fit(name: str, data: Dataset) -> tuple[Recommender, dict[str, Any]]:
    """The best trial's settings on validation, trained again on train + validation for its best number of epochs."""
    best: tuple[float, dict[str, Any], int] | None = None
    for trial in TRIALS[name]:
        card = MODELS[name](**SIZE, **trial).fit(data, time_limit=SECONDS).card
        score = max(card["validation"])
        if best is None or score > best[0]:
            best = score, trial, card["best_epoch"]
    assert best is not None
    score, trial, epochs = best
    # the search goes the same way as in the trial and ends with its best epoch
    refitted = MODELS[name](**SIZE, **trial, epochs=epochs, patience=epochs).fit(data, refit=True)
    return refitted, {**trial, "epochs": refitted.card["epochs"], "validation": round(score, 4)}


def _row(
    data_name: str, model: str, fitted: Recommender, data: Dataset, settings: Mapping[str, Any], seconds: float
) -> tuple[str, ...]:
    found = evaluate({model: fitted}, data, on="test", k=(10,))
    low, high = found.interval(model, "ndcg@10")
    said = " ".join(f"{key}={value}" for key, value in settings.items())
    metrics = (f"{found[model].metrics[metric]:.4f}" for metric in METRICS)
    return (f"{model} ({data_name})", *metrics, f"{low:.4f} to {high:.4f}", said, f"{seconds:.0f}")


def _paired(fitted: Mapping[str, Recommender], data: Dataset) -> Paired:
    found = evaluate(dict(fitted), data, on="test", k=(10,))
    old, new = (found[name].values["ndcg@10"] for name in ("sasrec", "hstu"))
    return compare(old, new, metric="ndcg@10", baseline="sasrec", model="hstu")


def _result(rows: list[tuple[str, ...]], pairs: list[tuple[str, Paired]]) -> Result:
    ratios = []
    for _, pair in pairs:
        ends = pair.relative_interval or (float("nan"), float("nan"))
        ratios.append((1 + (pair.relative or 0.0), (1 + ends[0], 1 + ends[1])))
    ratio, interval = min(ratios)
    undecided = [f"{name}: about {_users_needed(pair):,} users would decide" for name, pair in pairs if _open(pair)]
    return Result(
        id="H1", ratio=ratio, interval=interval, gate="inconclusive" if undecided else "ok",
        headers=("model", "Recall@10", "NDCG@10", "95 % interval", "chosen on validation", "s"), rows=rows,
        figures="; ".join(f"{name}: HSTU {pair.difference:+.4f} [{pair.interval[0]:+.4f}, {pair.interval[1]:+.4f}]"
                          for name, pair in pairs),
        notes=(*(f"{name}: {pair}" for name, pair in pairs), *undecided),
    )  # fmt: skip


def _open(pair: Paired) -> bool:
    return pair.verdict == "undecided"


def _users_needed(pair: Paired) -> int:
    """The interval's half width shrinks with the root of the users: how many until it is below the difference."""
    half = (pair.interval[1] - pair.interval[0]) / 2
    return int(pair.users * (half / max(abs(pair.difference), 1e-6)) ** 2)
