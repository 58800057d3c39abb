"""Q4: texts, ids and both in one table, on a shop and two film catalogues; a language model that learns, and one fixed.

Each user's events are split by order 80/10/10. One item in ten, drawn by lot, is held out: its events are taken from
what is trained on and chosen by, so that it is as new as an item added tomorrow. `esasrec` (ids), `esasrec text=gate`
(both) and `text-encoder` (texts, frozen; mean pooling without training; LoRA; whole) answer from the whole catalogue,
with default settings, all trained for the same processor time (what else the machine does is not held against them;
a language model that learns has twice that by the clock, and ends the epoch under way, which is longer still); LONG=1
lets them train to the end. The table has Recall@10 on all items, on items with fewer than 5 training events, and on
items without any. Popularity cannot tell one of those from another, so that the ratio ranks the unseen items alone, and
popularity's recall there is the lot's, k / n.

ratio: Recall@10 of `text-encoder` (frozen) on items unseen in training over that of popularity, on the worst data set.
Gate: on the items that ids know, the fused model loses at most 2 % of Recall@10 to ids alone (upper end of the 95 %
interval over users, on every data set); inconclusive where the interval holds both more and less than that.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.harness import LONG, ROOT, Result, bench_data
from benchmarks.peers import run_timed
from leanrec.data.catalog import load_public
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.paired import compare
from leanrec.models import MODELS
from leanrec.runtime.recommender import Recommender

DATA = ("online-retail", "ml-latest-small", "ml-100k")
K, FEW, HELD_OUT, LOSS = 10, 5, 0.1, 0.02
SECONDS = float(os.environ.get("Q4_SECONDS", "120"))
LEARNING = ("texts, LoRA", "texts, whole")
LEARNING_SECONDS = 2 * SECONDS
"""Of a language model that learns."""
TUNING: dict[str, Any] = {"batch_tokens": 1024, "negatives": 64, "head_steps": 750}
MODELS_OF: dict[str, tuple[str, dict[str, Any]]] = {
    "popular": ("popular", {}),
    "ids": ("esasrec", {}),
    "ids + texts": ("esasrec", {"text": "gate"}),
    "texts, frozen": ("text-encoder", {}),
    "texts, mean": ("text-encoder", {"head": "mean"}),
    "texts, LoRA": ("text-encoder", {"finetune": "lora", **TUNING}),
    "texts, whole": ("text-encoder", {"finetune": "full", **TUNING}),
}
TUNED_ON = DATA if LONG else ("ml-100k",)
"""Where the language model learns too: it costs a hundred times the rest."""


@dataclass(frozen=True, slots=True)
class Found:
    """Values of the users of each part (users without such targets are left out), and what training took."""

    values: Mapping[str, npt.NDArray[np.float64]]
    chance: float
    seconds: float
    peak_mib: int
    said: str


def run() -> Result:
    """Every model on every data set, each in a process of its own; what was done before is read from .cache/q4."""
    rows: list[tuple[str, ...]] = []
    ratios: list[tuple[float, tuple[float, float], str]] = []
    gates: list[str] = []
    notes: list[str] = []
    for name in DATA:
        found = {model: _fitted(name, model) for model in MODELS_OF if _wanted(name, model)}
        rows += [_row(name, model, one) for model, one in found.items()]
        ratio, interval = _over_chance(found["texts, frozen"])
        ratios.append((ratio, interval, name))
        verdict, said = _gate(found["ids"], found["ids + texts"])
        gates.append(verdict)
        notes += [f"{name}: {said}", *_pairs(name, found)]
    ratio, interval, worst = min(ratios)
    gate = next((kind for kind in ("failed", "inconclusive") if kind in gates), "ok")
    return Result(
        id="Q4", ratio=ratio, interval=interval, gate=gate,
        headers=("data, model", "all", f"under {FEW}", "unseen", "among unseen", "CPU s", "MiB", "weights that learn"),
        rows=rows, notes=notes,
        figures=f"text over popularity on unseen items: {', '.join(f'{n} {r:.2f}' for r, _, n in ratios)}; "
        f"worst {worst}; {'trained to the end' if LONG else f'{SECONDS:.0f} CPU s a model'}",
    )  # fmt: skip


def _wanted(name: str, model: str) -> bool:
    return name in TUNED_ON or model not in LEARNING


def _limit(model: str) -> float:
    """Seconds of processor time that a model may train."""
    return math.inf if LONG else LEARNING_SECONDS if model in LEARNING else SECONDS


def _fitted(name: str, model: str) -> Found:
    """From the cache, or from a child; a cache made with other limits or settings is another file."""
    key = f"{name}-{model}-{'long' if LONG else f'{_limit(model):.0f}cpu'}".replace(" ", "").replace(",", "-")
    file = ROOT / ".cache" / "q4" / f"{key}.npz"
    if not file.exists():
        print(f"{name}: {model} ...", file=sys.stderr, flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        run_timed([sys.executable, "-m", "benchmarks.q4", name, model, str(file)])
    with np.load(file) as kept:
        facts = json.loads(str(kept["facts"]))
        values = {part: kept[part] for part in ("all", "known", "few", "unseen", "among")}
    return Found(values, **facts)


def held_out(name: str) -> Dataset:
    """The data with one item in ten taken out of what is trained on."""
    if name == "ml-100k":
        events, items = load_public(name)
        log = events.collect()
    else:
        folder = bench_data(name)
        log, items = (pl.read_parquet(folder / f"{part}.parquet") for part in ("interactions", "items"))
    ids = np.sort(log["item_id"].unique().to_numpy())
    gone = np.random.default_rng(4).choice(ids, round(HELD_OUT * len(ids)), replace=False)
    order = pl.int_range(pl.len()).over("user_id") / pl.len().over("user_id")
    part = pl.when(order < 0.8).then(pl.lit("train")).when(order < 0.9).then(pl.lit("valid")).otherwise(pl.lit("test"))
    log = log.sort("timestamp", maintain_order=True).with_columns(part.alias("split"))
    log = log.filter((pl.col("split") == "test") | ~pl.col("item_id").is_in(gone.tolist()))
    return prepare(log, items=items, split="column:split", name=name)


def _recalls(model: Any, data: Dataset) -> dict[str, npt.NDArray[np.float64]]:
    """Recall@10 of every user on each part of their targets, from the whole catalogue; `among`: from unseen items."""
    counts_N = np.bincount(data.train().values, minlength=len(data.items))
    parts = {"all": counts_N >= 0, "known": counts_N > 0, "few": counts_N < FEW, "unseen": counts_N == 0}
    cases = data.cases("test")
    asked = {"whole": None, "known": counts_N > 0, "unseen": counts_N == 0}
    lists = {name: model.rank(cases.histories, K, allowed_N=mask)[0].items_BK for name, mask in asked.items()}
    result: dict[str, npt.NDArray[np.float64]] = {}
    for part, mask_N in {**parts, "among": counts_N == 0}.items():
        items_BK = lists["unseen" if part == "among" else "known" if part == "known" else "whole"]
        wanted = [targets[mask_N[targets]] for targets in cases.targets]
        hits = [np.isin(answers, some).sum() / len(some) if len(some) else np.nan
                for answers, some in zip(items_BK, wanted, strict=True)]  # fmt: skip
        result[part] = np.asarray(hits)
    return result


def _over_chance(text: Found) -> tuple[float, tuple[float, float]]:
    values_B = text.values["among"][~np.isnan(text.values["among"])]
    chance_B = np.full(len(values_B), text.chance)
    against = compare(chance_B, values_B)
    low, high = against.interval
    ratio = float(values_B.mean()) / text.chance
    return ratio, (1 + low / text.chance, 1 + high / text.chance)


def _gate(ids: Found, both: Found) -> tuple[str, str]:
    """The loss of the fused model on the items that ids know, and whether its upper end is within what is allowed."""
    kept_B = ~np.isnan(ids.values["known"])
    pair = compare(ids.values["known"][kept_B], both.values["known"][kept_B], baseline="ids", model="ids + texts")
    if pair.relative_interval is None:
        return "inconclusive", f"on known items {pair}"
    most, least = -pair.relative_interval[0], -pair.relative_interval[1]
    verdict = "ok" if most <= LOSS else "failed" if least > LOSS else "inconclusive"
    said = f"on known items {pair}: gate {verdict}"
    if verdict == "inconclusive" and pair.relative is not None:
        times = ((most - least) / 2 / (LOSS + pair.relative)) ** 2
        said += f", about {times * pair.users:,.0f} users would decide it"
    return verdict, said


def _pairs(name: str, found: Mapping[str, Found]) -> list[str]:
    """Paired comparisons behind the table."""
    asked = [("ids", "ids + texts", part) for part in ("all", "few", "unseen")]
    asked += [("ids", "texts, frozen", part) for part in ("all", "few", "unseen")]
    asked += [("texts, frozen", tuned, "all") for tuned in ("texts, mean", "texts, LoRA", "texts, whole")]
    lines = []
    for baseline, model, part in asked:
        if model in found:
            one, other = found[baseline].values[part], found[model].values[part]
            kept_B = ~np.isnan(one)
            said = compare(one[kept_B], other[kept_B], metric=f"recall@10, {part}", baseline=baseline, model=model)
            lines.append(f"{name}: {said}")
    return lines


def _row(name: str, model: str, found: Found) -> tuple[str, ...]:
    means = {part: float(np.nanmean(values)) for part, values in found.values.items()}
    among = found.chance if model == "popular" else means["among"]
    return (
        f"{name}, {model}", *(f"{means[part]:.4f}" for part in ("all", "few", "unseen")), f"{among:.4f}",
        f"{found.seconds:.0f}", f"{found.peak_mib:,}", found.said,
    )  # fmt: skip


def _here(name: str, model: str, out: str) -> None:
    """In a process of its own: train, answer, keep every user's recall."""
    import contextlib
    import io
    import re
    import resource

    import torch

    from benchmarks.harness import THREADS
    from leanrec.features.texts import item_texts
    from leanrec.nn.text import TextOptions
    from leanrec.nn.text.fixed import text_vectors

    torch.set_num_threads(THREADS)
    data, (kind, settings) = held_out(name), MODELS_OF[model]
    if kind == "text-encoder" or "text" in settings:  # encoding is L1's matter, and no part of a time limit
        assert data.attributes is not None
        text_vectors(item_texts(data.attributes), TextOptions())
    started, said = time.process_time(), io.StringIO()
    with contextlib.redirect_stderr(_Both(said)):
        fit = _fit_learning if model in LEARNING else _fit
        fitted = fit(MODELS[kind](**settings), data, _limit(model))
    share = re.search(r"weights learn \((.+?)\)", said.getvalue())
    facts = {
        "chance": min(1.0, K / int((np.bincount(data.train().values, minlength=len(data.items)) == 0).sum())),
        "seconds": time.process_time() - started,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "said": f"{share[1]} of the encoder" if share else "",
    }
    half = Path(out).with_suffix(".half.npz")
    np.savez(half, facts=json.dumps(facts), **_recalls(fitted, data))
    half.rename(out)


class _EnoughError(Exception):
    """The processor time of a model is spent."""


def _fit(model: Any, data: Dataset, seconds: float) -> Any:
    """Trained for so much processor time: the best epoch of those that ended within it, or else the first one."""
    until = time.process_time() + seconds
    epochs = 0

    def watch(epoch: int, score: float) -> None:
        nonlocal epochs
        epochs += 1
        if epochs > 1 and time.process_time() > until:
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder:
        try:
            return model.fit(data, seed=1, run=Path(folder), on_score=watch, track=())
        except _EnoughError:
            return Recommender.load(Path(folder) / "bundle")


def _fit_learning(model: Any, data: Dataset, seconds: float) -> Any:
    """Some ten epochs of the head alone, then of both. An epoch under way when the time is up counts: it is as long."""
    return model.fit(data, seed=1, time_limit=None if math.isinf(seconds) else seconds, track=())


class _Both:
    """Writes to a text and to the real standard error."""

    def __init__(self, text: Any) -> None:
        self._text, self._real = text, sys.stderr

    def write(self, text: str) -> int:
        self._text.write(text)
        return self._real.write(text)

    def flush(self) -> None:
        self._real.flush()

    def isatty(self) -> bool:
        return False


if __name__ == "__main__":
    _here(*sys.argv[1:])
