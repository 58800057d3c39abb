"""H2: a hybrid of a sequence model, item neighbours, popularity and a ranker against each of its parts.

`online-retail`, split at two points in time, repeats allowed: a third of what is bought was bought before. The parts
are trained with default settings, refitted on train + validation; merges and the ranker are fitted to validation events
of users that tune. Every row answers the same test users, the whole catalogue ranked. Below stand the other merges over
the same parts, and re-rankers over the learned merge: what diversity costs. The sequence model trains H2_EPOCHS (14),
LONG=1 as many as it wants. H2_FOLDER keeps the fitted parts there, so that a run that was stopped goes on.

ratio: NDCG@10 of the hybrid over that of its best part, with the paired interval. Gate: ok where the hybrid is told
apart from every part, one way or the other.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness import LONG, Result, bench_data
from leanrec.core.jagged import Jagged
from leanrec.data.dataset import Dataset
from leanrec.data.prepare import prepare
from leanrec.evaluation.evaluate import evaluate
from leanrec.evaluation.results import Results
from leanrec.models.hybrid import Hybrid, parse_reranker
from leanrec.models.parts import Spec
from leanrec.rerank import Catalogue
from leanrec.rerank.alike import unit_vectors
from leanrec.runtime.base import Source
from leanrec.runtime.recommender import Recommender
from leanrec.runtime.sources.hybrid import HybridSource

SOURCES = ["esasrec", "item-knn", "popular", "popular-recent"]
METRICS = ("recall@10", "ndcg@10", "coverage@10")
SPECS: list[Spec] = [
    SOURCES[0] if LONG else {"model": SOURCES[0], "epochs": int(os.environ.get("H2_EPOCHS", "14"))},
    *SOURCES[1:],
]
MERGES: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "merge=rrf": {"merge": "rrf"},
    "merge=weighted": {"merge": "weighted"},
}
RERANKERS: dict[str, dict[str, Any]] = {
    f"rerank={kind} {diversity}": {"kind": kind, "diversity": diversity, "by": "users"}
    for kind, diversity in (("mmr", 0.1), ("mmr", 0.3), ("dpp", 0.1), ("dpp", 0.2))
}


def run() -> Result:
    """Fit the parts once, then every variant over them."""
    data = prepare(
        bench_data("online-retail") / "interactions.parquet", split="time:0.8,0.1,0.1", repeats=True,
        name="online-retail",
    )  # fmt: skip
    kept = os.environ.get("H2_FOLDER")
    with tempfile.TemporaryDirectory() as scratch:
        models, seconds = _fit(data, Path(kept or scratch))
    found = evaluate(models, data, on="test", k=(10,))
    return _result(data, models, found, seconds)


def _fit(data: Dataset, folder: Path) -> tuple[dict[str, Recommender], dict[str, float]]:
    """The parts, the merges and the re-rankers by name, and the seconds that each merge took."""
    fitted, seconds = {}, {}
    for name, settings in MERGES.items():
        start = time.perf_counter()
        model = Hybrid(sources=SPECS, **settings)
        # Resuming takes the parts that are there: all merges have the same.
        fitted[name] = model.fit(data, refit=True, run=folder, resume=True, track=())
        seconds[name] = time.perf_counter() - start
    learned, fallback = fitted["hybrid"].source, fitted["hybrid"].fallback
    assert isinstance(learned, HybridSource)
    sources: dict[str, Source] = {source.name: source for source in learned.sources}
    catalogue = Catalogue(items=data.items, events=data.train(refit=True), times=data.train_times(refit=True))
    for name, options in RERANKERS.items():
        kind, settings = parse_reranker(options)
        sources[name] = HybridSource(
            name, learned.sources, learned.merge, depth=learned.depth, repeats=learned.repeats,
            rerankers=[kind.fit(settings, catalogue)],
        )  # fmt: skip
    made = {name: Recommender(one, data.items, repeats=True, fallback=fallback) for name, one in sources.items()}
    return {**{name: made[name] for name in SOURCES}, **fitted, **{name: made[name] for name in RERANKERS}}, seconds


def _result(data: Dataset, models: dict[str, Recommender], found: Results, seconds: dict[str, float]) -> Result:
    alike_ND = unit_vectors("users", Catalogue(items=data.items, events=data.train()), "h2")
    rows = [
        (
            name,
            *(f"{found[name].metrics[metric]:.4f}" for metric in METRICS),
            "{:.4f} to {:.4f}".format(*found.interval(name, "ndcg@10")),
            f"{_diversity(models[name], data, alike_ND):.3f}",
            f"{seconds[name]:.0f}" if name in seconds else "",
        )
        for name in models
    ]
    pairs = [found_pair for found_pair in found.paired("hybrid", ["ndcg@10"]) if found_pair.model in SOURCES]
    best = max(SOURCES, key=lambda name: found[name].metrics["ndcg@10"])
    (against,) = [pair for pair in found.paired(best, ["ndcg@10"]) if pair.model == "hybrid"]
    ends = against.relative_interval or (float("nan"), float("nan"))
    notes = [str(pair) for pair in found.paired("hybrid", ["ndcg@10"])]
    notes.append("tried on held-out judges: " + _tried(models["hybrid"]))
    return Result(
        id="H2", ratio=1 + (against.relative or 0.0), interval=(1 + ends[0], 1 + ends[1]),
        gate="inconclusive" if any(pair.verdict == "undecided" for pair in pairs) else "ok",
        headers=("model", "Recall@10", "NDCG@10", "Coverage@10", "95 % interval", "diversity", "s"), rows=rows,
        figures=", ".join(f"{name} {found[name].metrics['ndcg@10']:.4f}" for name in ("hybrid", *SOURCES)),
        notes=notes,
    )  # fmt: skip


def _tried(hybrid: Recommender) -> str:
    return ", ".join(f"{name} {score:.4f}" for name, score in hybrid.card["config"]["tried"].items())


def _diversity(model: Recommender, data: Dataset, alike_ND: npt.NDArray[np.float16]) -> float:
    """Mean over users of 1 - the mean cosine of two items of their list, as sets of users."""
    cases = data.cases("test")
    hits, _ = model.rank(cases.histories, 10)
    lists = Jagged.from_rows([row[row >= 0] for row in hits.items_BK])
    kept = [alike_ND[row].astype(np.float64) for row in lists if len(row) > 1]
    cosines = [(float((one.sum(axis=0) ** 2).sum()) - len(one)) / (len(one) * (len(one) - 1)) for one in kept]
    return 1 - float(np.mean(cosines))
