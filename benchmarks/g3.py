"""G3: a query against the size of the catalogue, ten thousand items to ten million: the best 10, one query at a time.

Rows are those of a trained million (`trained("1m-64")`), fewer of them, or each ten times with 5 % noise. The lists of
`ivf-int4` are made for up to a million rows and scan what a recall of .99 takes. G3_ITEMS picks sizes.
"""

from __future__ import annotations

import os
import time

import numpy as np

from benchmarks.harness import Result, paired_ratio
from benchmarks.retrieval import F32, Table, read_seconds, seconds, synthetic
from leanrec.index import INDEXES, Index
from leanrec.index.choose import recall_of
from leanrec.index.ivf import IvfConfig, IvfIndex

SIZES = tuple(int(size) for size in os.environ.get("G3_ITEMS", "10000,100000,1000000,10000000").split(","))
EXACT = ("exact", "certified-int8", "certified-int4")
K, QUERIES, ROUNDS, MILLION = 10, 20, 5, 1_000_000
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def run() -> Result:
    """The ratio is the plain scan over the best exact index at the largest size."""
    trained = synthetic("1m-64", QUERIES)
    rows: list[tuple[str, ...]] = []
    figures = []
    for size in SIZES:
        found, best, ratio, interval = _one(_table(trained, size))
        rows += found
        figures.append(f"{size:,}: {best}")
    return Result(
        id="G3", ratio=ratio, interval=interval, gate="ok",
        headers=("items", "index", "ms a query", "ms of a plain read", "bytes scanned", "recall@10", "build s"),
        rows=rows,
        figures=f"ms a query, best exact; {'; '.join(figures)}",
        notes=(f"{ROUNDS} rounds of {QUERIES} queries, top {K}; ratio: exact over the best exact index, largest size",),
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


def _one(table: Table) -> tuple[list[tuple[str, ...]], str, float, tuple[float, float]]:
    size = len(table.items_ND)
    indexes: dict[str, tuple[Index, float]] = {}
    for name in EXACT:
        start = time.perf_counter()
        indexes[name] = (INDEXES[name].build(table.items_ND), time.perf_counter() - start)
    truth_QK = indexes["exact"][0].search(table.queries_QD, K).items_BK
    for name in EXACT[1:]:
        assert (indexes[name][0].search(table.queries_QD, K).items_BK == truth_QK).all(), name
    recalls = dict.fromkeys(EXACT, 1.0)
    if size <= MILLION:
        start = time.perf_counter()
        ivf = IvfIndex.build(table.items_ND, IvfConfig(iterations=4))
        spent = time.perf_counter() - start
        for probes in PROBES:
            found = recall_of(ivf.probing(probes), table.queries_QD, truth_QK)
            indexes["ivf-int4"], recalls["ivf-int4"] = (ivf.probing(probes), spent), found
            if found >= 0.99:
                break
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
    return rows, f"{1e3 * np.median(times[best]):.3g}{approximate}", *paired_ratio(times[best], times["exact"])
