"""I1: the exact top 100 of a million items, one query at a time, against the best of NumPy, torch, faiss and usearch.

Tables of 64 and 128 dimensions, Gaussian and trained. Every round asks 20 queries of each program in turn; the ratio is
the smallest over tables. The gate wants the rows of a float64 oracle and recomputes every proof. The floor is a plain
read of the bytes that the scan reads, in the same run. Trained tables that are not made yet are named, and the gate is
inconclusive then. I1_ITEMS sets the size of the Gaussian tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.harness import Result, paired_ratio
from benchmarks.retrieval import (
    Table,
    agrees,
    certified,
    gaussian,
    oracle,
    peers,
    read_seconds,
    seconds,
    synthetic,
)
from benchmarks.trained import made
from leanrec.index import INDEXES
from leanrec.index.bounded import BoundedIndex

ITEMS = int(os.environ.get("I1_ITEMS", 1_000_000))
K, ROUNDS, PROVED = 100, 5, 4
OURS = ("certified-int4", "certified-int8", "exact")
TRAINED = ("1m-64", "1m-als-128")


def tables(queries: int) -> tuple[list[Callable[[], Table]], list[str]]:
    """Makers, so that one table at a time is in memory; and which trained ones are left out, not being made yet."""
    makers = [lambda: gaussian(ITEMS, 64, queries), lambda: gaussian(ITEMS, 128, queries)]
    absent = [name for name in TRAINED if ITEMS >= 1_000_000 and not made(name)]
    if ITEMS >= 1_000_000:
        makers += [partial(synthetic, name, queries) for name in TRAINED if name not in absent]
    return makers, [f"not trained yet: {name}" for name in absent]


def run() -> Result:
    """One query at a time."""
    return compare("I1", batch=1, queries=20)


def compare(name: str, *, batch: int, queries: int) -> Result:
    """The table of a benchmark for one size of batch."""
    rows: list[tuple[str, ...]] = []
    ratios, sound = [], True
    makers, absent = tables(queries)
    for make in makers:
        table = make()
        found, good, ratio = _one(table, batch)
        rows += found
        sound &= good
        ratios.append((table.name, ratio))
    ratio, interval = min(ratio for _, ratio in ratios)
    return Result(
        id=name, ratio=ratio, interval=interval, gate="failed" if not sound else "inconclusive" if absent else "ok",
        headers=("table", "program", "ms a query", "ratio", "rows read again", "rows rescored", "ms of a plain read"),
        rows=rows,
        figures="; ".join(f"{table}: {ratio:.1f}x" for table, (ratio, _) in ratios),
        notes=(f"{ROUNDS} rounds of {queries} queries, top {K}, batches of {batch}", *absent),
    )  # fmt: skip


def _one(table: Table, batch: int) -> tuple[list[tuple[str, ...]], bool, tuple[float, tuple[float, float]]]:
    indexes = {name: INDEXES[name].build(table.items_ND) for name in OURS}
    programs = {name: (lambda queries_BD, k, index=index: index.search(queries_BD, k).items_BK)
                for name, index in indexes.items()}  # fmt: skip
    programs.update(peers(table))
    best_QK, scores_QN = oracle(table, K)
    sound, facts = True, {}
    for name, index in indexes.items():
        assert isinstance(index, BoundedIndex)
        hits, proof = index.search_with_proof(table.queries_QD, K)
        sound &= agrees(hits.items_BK, best_QK, scores_QN)
        some = index.search_with_proof(table.queries_QD[:PROVED], K)
        sound &= certified(index, table.queries_QD[:PROVED], some[0].items_BK, some[1])
        floor = f"{1e3 * read_seconds(index.bytes_scanned):.2f}"
        facts[name] = (f"{proof.refined_B.mean():,.0f}", f"{proof.rescored_B.mean():,.0f}", floor)
    for name in set(programs) - set(indexes):
        assert agrees(programs[name](table.queries_QD, K), best_QK, scores_QN), name
    del scores_QN
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, search in programs.items():
            times[name].append(seconds(search, table.queries_QD, batch, K))
    ours = min(OURS, key=lambda name: np.median(times[name]))
    rival = min(set(programs) - set(indexes), key=lambda name: float(np.median(times[name])))
    ratio = paired_ratio(times[ours], times[rival])
    rows = [
        (
            table.name, name, f"{1e3 * np.median(times[name]):.2f}",
            f"{paired_ratio(times[name], times[rival])[0]:.2f}", *facts.get(name, ("", "", "")),
        )
        for name in programs
    ]  # fmt: skip
    return rows, sound, ratio
