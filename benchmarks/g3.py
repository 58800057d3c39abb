"""G3: a query against the size of the catalogue, ten thousand items to ten million: the best 10, one query at a time.

Rows are those of a trained million (`trained("1m-64")`), fewer of them, or each ten times with 5 % noise. Every index
of `leanrec.index` is there: exact ones over the table, `coded` over int8 rows and `coded-pruned` over product codes of
8 bytes, whose vectors are what they keep, and approximate ones at the cheapest setting with a recall of .99, or with
what they reach at all, which their row says.

The gate: at every size each exact index has the scores of a float64 oracle over its vectors, ties within 1e-6 excused,
and `ivf-int4` the recall. G3_ITEMS picks sizes, G3_INDEXES indexes (the gate is then inconclusive). A size whose tables
would not fit into memory, or that would begin after G3_SECONDS (600), is left out and named, and so are graphs of more
than 100,000 rows that are neither in the cache nor asked for by LONG=1.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.graphs import graph_file, is_built
from benchmarks.harness import LONG, THREADS, Result, paired_ratio
from benchmarks.retrieval import F32, Table, read_seconds, seconds, synthetic
from leanrec.core.machine import free_memory
from leanrec.index import INDEXES, Index
from leanrec.index.ivf import IvfConfig, IvfIndex
from leanrec.index.vectors import VECTORS
from leanrec.index.vectors.product import ProductConfig

SIZES = tuple(int(size) for size in os.environ.get("G3_ITEMS", "10000,100000,1000000,10000000").split(","))
EXACT = ("exact", "certified-int8", "certified-int4")
WANTED = tuple(os.environ.get("G3_INDEXES", ",".join(INDEXES)).split(","))
K, QUERIES, ASKED, ROUNDS = 10, 256, 32, 5
"""Answers are judged for QUERIES, and timed for the first ASKED of them."""
RECALL, SPARE = 0.99, 0.002
PROBES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
DEPTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
REFINE = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
HNSW = ("faiss HNSW", 16, 64)
"""Edges and the window of building, one for all sizes: those of I3 (32, 200) would take hours for ten million."""
SMALL = 100_000
SECONDS = float(os.environ.get("G3_SECONDS", "600"))
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Way:
    """An index with its settings by rising cost, of which an approximate one takes the first with the recall."""

    name: str
    build: float
    """Seconds."""
    settings: Iterator[tuple[str, Index]]


@dataclass(frozen=True, slots=True)
class Found:
    """What is reported of one index at one size."""

    name: str
    said: str
    times: Sequence[float]
    recall: float
    sound: bool
    build: float
    scanned: int

    @property
    def ms(self) -> float:
        return 1e3 * float(np.median(self.times))


def run() -> Result:
    """The ratio is the plain scan over the best exact index at the largest size."""
    begun = time.perf_counter()
    trained = synthetic("1m-64", QUERIES)
    absent = [f"without {name}" for name in INDEXES if name not in WANTED]
    growth: dict[str, list[str]] = {name: [] for name in WANTED}
    rows: list[tuple[str, ...]] = []
    sound, ratio, interval = True, 1.0, (1.0, 1.0)
    for size in SIZES:
        room = 4 * size * 4 * trained.items_ND.shape[1]  # the rows, a copy in faiss, codes, and blocks while being made
        if time.perf_counter() - begun > SECONDS or room > free_memory():
            absent.append(f"{size:,} items left out: no time or memory")
            continue
        table = _table(trained, size)
        found = {}
        for one in _measured(table, absent):
            found[one.name] = one
            sound &= one.sound
            growth[one.name].append(f"{one.ms:.3g}" + f" (recall {one.recall:.3f})" * (one.recall < RECALL))
            rows.append(
                (
                    f"{size:,}", one.name, one.said, f"{one.ms:.3f}", f"{1e3 * read_seconds(one.scanned):.3f}",
                    f"{one.scanned:,}", f"{one.recall:.3f}", f"{one.build:.1f}",
                )
            )  # fmt: skip
            print(" | ".join(rows[-1]), flush=True)
        exact = [found[name] for name in EXACT if name in found]
        if "exact" in found:
            ratio, interval = paired_ratio(min(exact, key=lambda one: one.ms).times, found["exact"].times)
    figures = "; ".join(f"{name} {', '.join(said)}" for name, said in growth.items() if said)
    return Result(
        id="G3", ratio=ratio, interval=interval, gate="failed" if not sound else "inconclusive" if absent else "ok",
        headers=(
            "items", "index", "setting", "ms a query", "ms of a plain read", "bytes scanned", "recall@10", "build s",
        ),
        rows=rows,
        figures=f"ms a query at {', '.join(f'{size:,}' for size in SIZES)}: {figures}",
        notes=(
            f"{ROUNDS} rounds of {ASKED} queries, top {K}; recall of {QUERIES}",
            "ratio: exact over the best exact index, largest size",
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


def _timed(make: Callable[[], Index]) -> tuple[Index, float]:
    start = time.perf_counter()
    return make(), time.perf_counter() - start


def _alone(table: Table, absent: list[str]) -> Iterator[Way]:
    """Those that are built, asked and let go one after the other: memory holds one of them."""
    items_ND = table.items_ND
    if "coded" in WANTED:
        int8 = VECTORS["int8"]
        index, spent = _timed(lambda: INDEXES["coded"].over(int8.encode(items_ND, int8.Options())))
        yield Way("coded", spent, iter([("int8", index)]))
        del index
    if "coded-pruned" in WANTED:
        codes = ProductConfig(code_bytes=8)
        index, spent = _timed(lambda: INDEXES["coded-pruned"].over(VECTORS["product"].encode(items_ND, codes)))
        yield Way("coded-pruned", spent, iter([("product, 8 bytes", index)]))
        del index
    if "ivf-int4" in WANTED:
        yield _probing("ivf-int4", items_ND)
    if "faiss-ivf" in WANTED:
        yield _probing("faiss-ivf", items_ND)
    if "faiss-pq" in WANTED:
        from leanrec.index.faiss_pq import FaissPqIndex

        start = time.perf_counter()
        codes_of_4_bits = FaissPqIndex.build(items_ND)
        spent = time.perf_counter() - start
        yield Way("faiss-pq", spent, ((f"{x:.0f} scored for 1", codes_of_4_bits.refining(x)) for x in REFINE))
        del codes_of_4_bits
    if "faiss-hnsw" in WANTED:
        if len(items_ND) <= SMALL or LONG or is_built(HNSW[0], items_ND, *HNSW[1:]):
            yield _graph(items_ND)
        else:
            absent.append(f"faiss-hnsw of {len(items_ND):,} left out: not built, LONG=1 builds it")


def _probing(name: str, items_ND: F32) -> Way:
    from leanrec.index.faiss_ivf import FaissIvfConfig, FaissIvfIndex

    start = time.perf_counter()
    index: IvfIndex | FaissIvfIndex
    if name == "ivf-int4":
        index = IvfIndex.build(items_ND, IvfConfig(iterations=4))
    else:
        index = FaissIvfIndex.build(items_ND, FaissIvfConfig(iterations=4))
    spent = time.perf_counter() - start
    return Way(name, spent, ((f"{probes} lists", index.probing(probes)) for probes in PROBES))


def _graph(items_ND: F32) -> Way:
    import faiss

    from leanrec.index.faiss_hnsw import FaissHnswIndex

    place, spent = graph_file(HNSW[0], items_ND, *HNSW[1:])
    faiss.omp_set_num_threads(THREADS)
    index = FaissHnswIndex(items_ND, faiss.read_index(str(place)))
    return Way("faiss-hnsw", spent, ((f"depth {depth}", index.looking(depth)) for depth in DEPTHS))


def _measured(table: Table, absent: list[str]) -> Iterator[Found]:
    """The exact ones over the table take turns; the others are asked alone."""
    truth_QK = _truth(table, table.items_ND)
    built = {name: _timed(lambda name=name: INDEXES[name].build(table.items_ND)) for name in EXACT if name in WANTED}  # type: ignore[misc]
    for index, _ in built.values():
        _asked(index, table)  # what compiles at the first query of its kind
    times: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(ROUNDS):
        for name, (index, _) in built.items():
            times[name].append(_asked(index, table))
    for name, (index, spent) in built.items():
        sound = bool(_agrees(index, table, table.items_ND, truth_QK).all())
        yield Found(name, "", times[name], 1.0 if sound else 0.0, sound, spent, index.bytes_scanned)
    built.clear()
    for way in _alone(table, absent):
        said, index, recall = _cheapest(way, table, truth_QK)
        sound = recall >= RECALL or way.name.startswith("faiss")
        if index.exact:
            kept_ND = index.vectors.table()
            sound = bool(_agrees(index, table, kept_ND, _truth(table, kept_ND)).all())
            del kept_ND
        _asked(index, table)  # what compiles at the first query of its kind
        times[way.name] = [_asked(index, table) for _ in range(ROUNDS)]
        yield Found(way.name, said, times[way.name], recall, sound, way.build, index.bytes_scanned)
        del index, way


def _cheapest(way: Way, table: Table, truth_QK: F64) -> tuple[str, Index, float]:
    """The first setting with the recall; else, of those within .002 of what is reached at all, the first."""
    found = []
    for said, index in way.settings:
        found.append((said, index, _recall(index, table, truth_QK)))
        if found[-1][2] >= RECALL:
            return found[-1]
    most = max(recall for _, _, recall in found)
    return next(one for one in found if one[2] >= most - SPARE)


def _asked(index: Index, table: Table) -> float:
    return seconds(lambda queries_BD, k: index.search(queries_BD, k).items_BK, table.queries_QD[:ASKED], 1, K)


def _truth(table: Table, items_ND: F32) -> F64:
    """(Q, k) the best scores in float64, a block of rows at a time."""
    wide_DQ = table.queries_QD.astype(np.float64).T
    best_QK = np.full((len(table.queries_QD), K), -np.inf)
    for low in range(0, len(items_ND), 1 << 16):
        scores_Qn = (items_ND[low : low + (1 << 16)].astype(np.float64) @ wide_DQ).T
        both = np.concatenate([best_QK, scores_Qn], axis=1)
        best_QK = np.partition(both, both.shape[1] - K, axis=1)[:, -K:]
    return -np.sort(-best_QK, axis=1)


def _scores(rows_QK: npt.NDArray[np.int32], table: Table, items_ND: F32) -> F64:
    wide_QD = table.queries_QD.astype(np.float64)
    scores_QK: F64 = np.einsum("qkd,qd->qk", items_ND[rows_QK].astype(np.float64), wide_QD)
    return scores_QK


def _agrees(index: Index, table: Table, items_ND: F32, truth_QK: F64) -> npt.NDArray[np.bool_]:
    """(Q, k) whether each answer scores what the oracle's does at its place; repeated rows do not count."""
    rows_QK = index.search(table.queries_QD, K).items_BK
    near = np.abs(_scores(rows_QK, table, items_ND) - truth_QK) <= 1e-6 * np.abs(truth_QK).max(axis=1, keepdims=True)
    distinct = np.array([len(np.unique(rows_K)) == K for rows_K in rows_QK])
    found: npt.NDArray[np.bool_] = near & distinct[:, None] & (rows_QK >= 0)
    return found


def _recall(index: Index, table: Table, truth_QK: F64) -> float:
    """Share of answers that score no less than the true last of the best."""
    rows_QK = index.search(table.queries_QD, K).items_BK
    least_Q1 = truth_QK[:, -1:] - 1e-6 * np.abs(truth_QK).max(axis=1, keepdims=True)
    return float(((_scores(rows_QK, table, table.items_ND) >= least_Q1) & (rows_QK >= 0)).mean())
