"""G3: a query against the size of the catalogue, ten thousand items to ten million: the best 10, one query at a time.

Rows are those of a trained million (`trained("1m-64")`), fewer of them, or each ten times with 5 % noise. The lists of
`ivf-int4` are made for up to a million rows and scan what a recall of .99 takes. The gate: at every size each exact
index has the scores of a float64 oracle, ties within 1e-6 excused, and what is approximate has a recall of .99, which
its row says. G3_ITEMS picks sizes; one whose tables would not fit into memory, or that would begin after G3_SECONDS
(600), is left out and named, and the gate is then inconclusive.
"""

from __future__ import annotations

import os
import time

import numpy as np
import numpy.typing as npt

from benchmarks.harness import Result, paired_ratio
from benchmarks.retrieval import F32, Table, read_seconds, seconds, synthetic
from leanrec.core.machine import free_memory
from leanrec.index import INDEXES, Index
from leanrec.index.ivf import IvfConfig, IvfIndex

SIZES = tuple(int(size) for size in os.environ.get("G3_ITEMS", "10000,100000,1000000,10000000").split(","))
EXACT = ("exact", "certified-int8", "certified-int4")
K, QUERIES, ROUNDS, MILLION = 10, 20, 5, 1_000_000
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RECALL = 0.99
SECONDS = float(os.environ.get("G3_SECONDS", "600"))


def run() -> Result:
    """The ratio is the plain scan over the best exact index at the largest size."""
    begun = time.perf_counter()
    trained = synthetic("1m-64", QUERIES)
    rows: list[tuple[str, ...]] = []
    figures, absent, sound = [], [], True
    ratio, interval = 1.0, (1.0, 1.0)
    for size in SIZES:
        room = 4 * size * 4 * trained.items_ND.shape[1]  # the rows, their codes, and blocks while they are made
        if time.perf_counter() - begun > SECONDS or room > free_memory():
            absent.append(f"{size:,} items left out: no time or memory")
            continue
        found, best, good, ratio, interval = _one(_table(trained, size))
        rows += found
        sound &= good
        figures.append(f"{size:,}: {best}")
        print(figures[-1], flush=True)
    return Result(
        id="G3", ratio=ratio, interval=interval, gate="failed" if not sound else "inconclusive" if absent else "ok",
        headers=("items", "index", "ms a query", "ms of a plain read", "bytes scanned", "recall@10", "build s"),
        rows=rows,
        figures=f"ms a query, best exact; {'; '.join(figures)}",
        notes=(
            f"{ROUNDS} rounds of {QUERIES} queries, top {K}; ratio: exact over the best exact index, largest size",
            *absent,
        ),
    )  # fmt: skip


def _table(trained: Table, size: int) -> Table:
    """So many rows: some of the trained ones at random, or each several times with noise of 5 % of their spread."""
    rng = np.random.default_rng(0)
    rows_ND = trained.items_ND
    if size <= len(rows_ND):
        some_ND: F32 = rows_ND[np.sort(rng.permutation(len(rows_ND))[:size])]
        return Table("", some_ND, trained.queries_QD)
    made_ND = np.empty((size, rows_ND.shape[1]), np.float32)
    spread = np.float32(0.05 * rows_ND.std())
    for low in range(0, size, len(rows_ND)):
        part_nD = made_ND[low : low + len(rows_ND)]
        rng.standard_normal(out=part_nD, dtype=np.float32)
        part_nD *= spread
        part_nD += rows_ND[: len(part_nD)]
    return Table("", made_ND, trained.queries_QD)


def _truth(table: Table) -> npt.NDArray[np.float64]:
    """(Q, k) the best scores in float64, a block of rows at a time."""
    wide_DQ = table.queries_QD.astype(np.float64).T
    best_QK = np.full((len(table.queries_QD), K), -np.inf)
    for low in range(0, len(table.items_ND), 1 << 16):
        scores_Qn = (table.items_ND[low : low + (1 << 16)].astype(np.float64) @ wide_DQ).T
        both = np.concatenate([best_QK, scores_Qn], axis=1)
        best_QK = np.partition(both, both.shape[1] - K, axis=1)[:, -K:]
    return -np.sort(-best_QK, axis=1)


def _found(index: Index, table: Table, truth_QK: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """(Q, k) whether each answer scores what the oracle's does at its place; repeated rows do not count."""
    rows_QK = index.search(table.queries_QD, K).items_BK
    wide_QD = table.queries_QD.astype(np.float64)
    scores_QK = np.einsum("qkd,qd->qk", table.items_ND[rows_QK].astype(np.float64), wide_QD)
    near = np.abs(scores_QK - truth_QK) <= 1e-6 * np.abs(truth_QK).max(axis=1, keepdims=True)
    distinct = np.array([len(np.unique(rows_K)) == K for rows_K in rows_QK])
    found: npt.NDArray[np.bool_] = near & distinct[:, None] & (rows_QK >= 0)
    return found


def _recall(index: Index, table: Table, truth_QK: npt.NDArray[np.float64]) -> float:
    """Share of answers that score no less than the true last of the best."""
    rows_QK = index.search(table.queries_QD, K).items_BK
    scores_QK = np.einsum("qkd,qd->qk", table.items_ND[rows_QK].astype(np.float64), table.queries_QD.astype(np.float64))
    return float(
        ((scores_QK >= truth_QK[:, -1:] - 1e-6 * np.abs(truth_QK).max(axis=1, keepdims=True)) & (rows_QK >= 0)).mean()
    )


def _one(table: Table) -> tuple[list[tuple[str, ...]], str, bool, float, tuple[float, float]]:
    size = len(table.items_ND)
    truth_QK = _truth(table)
    indexes: dict[str, tuple[Index, float]] = {}
    sound = True
    for name in EXACT:
        start = time.perf_counter()
        indexes[name] = (INDEXES[name].build(table.items_ND), time.perf_counter() - start)
        sound &= bool(_found(indexes[name][0], table, truth_QK).all())
    recalls = dict.fromkeys(EXACT, 1.0)
    if size <= MILLION:
        start = time.perf_counter()
        ivf = IvfIndex.build(table.items_ND, IvfConfig(iterations=4))
        spent = time.perf_counter() - start
        for probes in PROBES:
            found = _recall(ivf.probing(probes), table, truth_QK)
            indexes["ivf-int4"], recalls["ivf-int4"] = (ivf.probing(probes), spent), found
            if found >= RECALL:
                break
        sound &= recalls["ivf-int4"] >= RECALL
    times: dict[str, list[float]] = {name: [] for name in indexes}
    for _ in range(ROUNDS):
        for name, (index, _) in indexes.items():
            search = lambda queries_BD, k, index=index: index.search(queries_BD, k).items_BK  # noqa: E731
            times[name].append(seconds(search, table.queries_QD, 1, K))
    best = min(EXACT, key=lambda name: float(np.median(times[name])))
    rows = [
        (
            f"{size:,}", name, f"{1e3 * np.median(times[name]):.3f}", f"{1e3 * read_seconds(index.bytes_scanned):.3f}",
            f"{index.bytes_scanned:,}", f"{recalls[name]:.3f}", f"{spent:.1f}",
        )
        for name, (index, spent) in indexes.items()
    ]  # fmt: skip
    approximate = f", ivf-int4 {1e3 * np.median(times['ivf-int4']):.3g}" if "ivf-int4" in times else ""
    said = f"{1e3 * np.median(times[best]):.3g}{approximate}"
    return rows, said, sound, *paired_ratio(times[best], times["exact"])
